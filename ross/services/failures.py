"""Several things that failed side by side, and the one to tell of."""

from __future__ import annotations

from ross.errors import RossError


def first_error(group: ExceptionGroup[Exception]) -> Exception:
    """The error to tell of: one that nobody expected, if there is any, since it must not hide behind the others."""
    errors: list[Exception] = []
    pending: list[Exception] = [group]
    while pending:
        error = pending.pop(0)
        if isinstance(error, ExceptionGroup):
            pending[:0] = error.exceptions
        else:
            errors.append(error)
    return next((error for error in errors if not isinstance(error, RossError)), errors[0])
