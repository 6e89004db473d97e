"""``Shared``: which of our containers the references are that a client hands over."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from ross.capabilities.processes import claimed, given
from ross.errors import InvalidArgument
from ross.services.sharing import NOTHING, Shared
from ross.wire.errors import translated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ross.capabilities.session import Session
    from ross.services.container import Container


@asynccontextmanager
async def shared_by(params: Any, session: Session) -> AsyncIterator[Shared]:
    """What ``shared`` of the parameters denotes, for the length of a block.

    Raises:
        InvalidArgument: one of the references is no container of this engine, or a descriptor has not come with the call.
    """
    if not given(params, "shared"):
        yield NOTHING
        return
    found = params.shared
    pid, ipc = (getattr(found, kind) if given(found, kind) else None for kind in ("pid", "ipc"))
    mounts = [(one.container, str(one.mode)) for one in found.mounts]
    handed = {str(one.target): int(one.fd) for one in found.handed}
    with claimed(session, fds=handed.values()) as own:  # from here on the parameters may be gone
        yield Shared(
            pid=await denoted(pid, session) if pid is not None else None,
            ipc=await denoted(ipc, session) if ipc is not None else None,
            mounts=[(await denoted(owner, session), mode) for owner, mode in mounts],
            handed=dict(zip(handed, own.fds, strict=True)),
        )


async def denoted(reference: Any, session: Session) -> Container:
    """The container that a reference denotes. Only our own objects can answer: whoever sends one back has it called in place.

    Raises:
        InvalidArgument: it is no container of this engine.
    """
    with session.identifying() as (nonce, answers):
        with translated():
            await reference.identify(nonce)
        if not answers:
            raise InvalidArgument("what is to be shared is no container of this engine")
        return answers[0]
