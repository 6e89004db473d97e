"""Errors as they cross the wire: one line of text, ``code: message``, and behind a tab a JSON object with the hint and the facts.

Cap'n Proto gives an exception a kind and a text, and pycapnp keeps neither attributes nor classes. So the text is the whole error:

    notFound: no image is called 'alpine'\\t{"hint":"ross pull alpine","facts":{"kind":"image"}}

It never has a traceback. What a method raises that is not a :class:`~ross.errors.RossError` is a fault of ours: it is logged with
an id, and the caller is told the id.
"""

from __future__ import annotations

import errno
import json
import logging
import re
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import capnp

from ross.errors import BY_CODE, ErrorCode, Fact, Internal, Reason, ResourceExhausted, RossError, Unavailable
from ross.wire.loop import EndingError
from ross.wire.owner import TooManyCallsError

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

MAX_TEXT: Final = 8192
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_LINE: Final = re.compile(r"(?:^|[\s:])(?P<code>" + "|".join(code.value for code in ErrorCode) + r"): (?P<rest>[^\n]*)")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class _WireError(Exception):
    """Has exactly the line as its text. pycapnp sends ``ClassName: text``, so each code is a class of its own."""


_CLASSES: Final = {code: type(code.value, (_WireError,), {"__module__": "builtins"}) for code in ErrorCode}


def to_exception(error: BaseException) -> Exception:
    """The exception that pycapnp turns into exactly our line of text."""
    known = _known(error)
    details: dict[str, object] = {}
    if known.hint:
        details["hint"] = known.hint
    if known.facts:
        details["facts"] = known.facts
    text = _CONTROL.sub(" ", known.message)[:MAX_TEXT]
    if details:
        encoded = json.dumps(details, separators=(",", ":"), sort_keys=True)
        if len(encoded) <= MAX_TEXT:
            text += "\t" + encoded
    made: Exception = _CLASSES[known.code](text)
    return made


def _known(error: BaseException) -> RossError:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, RossError):
        return error
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        where = f": {error.filename}" if error.filename else ""
        return ResourceExhausted(
            f"the daemon's disk is full{where}", hint="free some space: ross system prune, ross rm, ross rmi"
        )
    if isinstance(error, TooManyCallsError):
        return ResourceExhausted(str(error), hint="wait for some of them to end")
    if isinstance(error, EndingError):
        return Unavailable("the daemon is shutting down", hint="try again when it is back", reason=Reason.DISCONNECTED)
    if isinstance(error, capnp.KjException):
        return from_exception(error)
    identity = secrets.token_hex(4)
    logger.error("internal error %s", identity, exc_info=error)
    return Internal(f"internal error {identity}", hint=f"the daemon's log says more about {identity}", id=identity)


def from_exception(error: BaseException) -> RossError:
    """The error that a peer meant, from what pycapnp raised. Never fails: what cannot be read becomes :class:`Internal`."""
    if isinstance(error, RossError):
        return error
    text = str(getattr(error, "description", None) or error)
    found = _LINE.search(text)
    if found is not None:
        message, _tab, encoded = found["rest"].partition("\t")
        hint, facts = _details(encoded)
        return BY_CODE[ErrorCode(found["code"])](_CONTROL.sub(" ", message).rstrip(), hint=hint, **facts)
    if getattr(error, "type", None) == "DISCONNECTED":
        return Unavailable(
            "the connection to the daemon was lost", hint="is it running? try: ross health", reason=Reason.DISCONNECTED
        )
    if getattr(error, "type", None) == "UNIMPLEMENTED":
        return Unavailable("the daemon does not know this call", hint="it is older than this client: update it")
    return Internal(f"the daemon answered with an unknown error: {_CONTROL.sub(' ', text)[:300]}")


def _details(encoded: str) -> tuple[str | None, dict[str, Fact]]:
    try:
        document: Any = json.loads(encoded) if encoded else {}
    except (ValueError, RecursionError):
        return None, {}
    if not isinstance(document, dict):
        return None, {}
    hint, facts = document.get("hint"), document.get("facts")
    clean = {
        key: value
        for key, value in (facts if isinstance(facts, dict) else {}).items()
        if isinstance(value, str | int | bool) and key.isidentifier() and key not in {"hint", "message", "self"}
    }
    return (hint if isinstance(hint, str) else None), clean


@contextmanager
def translated() -> Iterator[None]:
    """Raise what a call across the wire raised as the :class:`~ross.errors.RossError` that the peer meant."""
    try:
        yield
    except capnp.KjException as error:
        raise from_exception(error) from None
