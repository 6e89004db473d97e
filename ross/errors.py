"""Every error that Ross raises on purpose: one base, one class a code, a few reasons.

A :class:`RossError` carries a code (what kind of failure), a message (what happened, with the name of the thing, lower case,
no full stop), an optional hint (what to do) and facts (JSON scalars a program may branch on). The same object is raised in a
service, crosses the wire as one line of text, and is raised again in the client. Imports nothing of Ross.

    RossError
    ├── InvalidArgument      the request itself is wrong; the same request will fail again
    ├── NotFound             the named thing does not exist
    ├── AlreadyExists        the name or key is taken
    ├── FailedPrecondition   the request is fine, the state of the thing is not
    ├── Unauthenticated      a registry or peer wants credentials
    ├── Denied               credentials or authority do not suffice
    ├── Unavailable          a registry, the daemon or a program did not answer; trying later may help
    ├── ResourceExhausted    disk, memory, a bound on calls or sizes
    ├── Cancelled            the caller, or a shutdown, ended the operation
    ├── Corrupt              bytes are not what their digest, size or format promises
    └── Internal             a fault of Ross
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Final

Fact = str | int | bool
"""A value a program may branch on. Kept to JSON scalars so that it crosses the wire unchanged."""


class ErrorCode(StrEnum):
    """The kinds of failure. The value is what stands on the wire and in ``--format json``."""

    INVALID_ARGUMENT = "invalidArgument"
    NOT_FOUND = "notFound"
    ALREADY_EXISTS = "alreadyExists"
    FAILED_PRECONDITION = "failedPrecondition"
    UNAUTHENTICATED = "unauthenticated"
    DENIED = "denied"
    UNAVAILABLE = "unavailable"
    RESOURCE_EXHAUSTED = "resourceExhausted"
    CANCELLED = "cancelled"
    CORRUPT = "corrupt"
    INTERNAL = "internal"


class Reason:
    """Values of the fact ``reason``, for the failures on which a caller branches."""

    COMMAND_NOT_FOUND: Final = "commandNotFound"
    """The program of a container does not exist in its root filesystem (shell convention: exit code 127)."""
    COMMAND_NOT_EXECUTABLE: Final = "commandNotExecutable"
    """The program exists and cannot be executed (shell convention: exit code 126)."""
    FILE_NOT_FOUND: Final = "fileNotFound"
    """There is no such file in a container; the container is there."""
    DAEMON_UNREACHABLE: Final = "daemonUnreachable"
    """No daemon answers on the socket."""
    DISCONNECTED: Final = "disconnected"
    """The connection to the daemon was lost. What was called may have been done; containers go on. Connect again."""


class RossError(Exception):
    """Base of all errors that Ross raises on purpose."""

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL

    def __init__(self, message: str, *, hint: str | None = None, **facts: Fact) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.facts: dict[str, Fact] = facts

    @property
    def reason(self) -> str | None:
        """The fact ``reason``, one of :class:`Reason`'s values, where the failure has one."""
        value = self.facts.get("reason")
        return value if isinstance(value, str) else None

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.code}: {self.message}>"


class InvalidArgument(RossError):
    """The request itself is wrong; the same request will fail again."""

    code = ErrorCode.INVALID_ARGUMENT


class NotFound(RossError):
    """The named thing does not exist."""

    code = ErrorCode.NOT_FOUND


class AlreadyExists(RossError):
    """The name or key is taken."""

    code = ErrorCode.ALREADY_EXISTS


class FailedPrecondition(RossError):
    """The request is fine; the state of the thing is not."""

    code = ErrorCode.FAILED_PRECONDITION


class Unauthenticated(RossError):
    """A registry or peer wants credentials."""

    code = ErrorCode.UNAUTHENTICATED


class Denied(RossError):
    """Credentials or authority do not suffice."""

    code = ErrorCode.DENIED


class Unavailable(RossError):
    """A registry, the daemon or a program did not answer; trying later may help."""

    code = ErrorCode.UNAVAILABLE


class ResourceExhausted(RossError):
    """A bound was reached: disk space, memory, calls in flight, sizes."""

    code = ErrorCode.RESOURCE_EXHAUSTED


class Cancelled(RossError):
    """The caller, or a shutdown, ended the operation."""

    code = ErrorCode.CANCELLED


class Corrupt(RossError):
    """Bytes are not what their digest, size or format promises."""

    code = ErrorCode.CORRUPT


class Internal(RossError):
    """A fault of Ross itself; the daemon's log has the details."""

    code = ErrorCode.INTERNAL


BY_CODE: Final[dict[ErrorCode, type[RossError]]] = {
    leaf.code: leaf
    for leaf in (
        InvalidArgument,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        Unauthenticated,
        Denied,
        Unavailable,
        ResourceExhausted,
        Cancelled,
        Corrupt,
        Internal,
    )
}
"""The class that carries each code; what the wire raises again in the client."""
