"""``Shared``: which of our containers the references are that a client hands over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ross.capabilities.processes import given
from ross.errors import InvalidArgument
from ross.services.sharing import NOTHING, Shared
from ross.wire.errors import translated

if TYPE_CHECKING:
    from ross.capabilities.session import Session
    from ross.services.container import Container


async def read_shared(params: Any, session: Session) -> Shared:
    """What ``shared`` of the parameters denotes.

    Raises:
        InvalidArgument: one of the references is no container of this engine.
    """
    if not given(params, "shared"):
        return NOTHING
    found = params.shared
    return Shared(
        pid=await denoted(found.pid, session) if given(found, "pid") else None,
        ipc=await denoted(found.ipc, session) if given(found, "ipc") else None,
        mounts=[(await denoted(one.container, session), str(one.mode)) for one in found.mounts],
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
