"""The socket: who connects, and with what that peer begins."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import trio

from ross.capabilities.engine import EngineServer, GateServer
from ross.capabilities.session import Session
from ross.errors import FailedPrecondition
from ross.linux.unix_socket import group_id, listening_socket
from ross.wire.errors import to_exception
from ross.wire.loop import open_kj_loop

if TYPE_CHECKING:
    from ross.services.engine import Engine
    from ross.settings import Settings
    from ross.wire.credentials import Credentials
    from ross.wire.listener import Connection

SOCKET_MODE: Final = 0o660


async def run_listener(
    settings: Settings, engine: Engine, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve the engine on its socket, until cancelled.

    Raises:
        FailedPrecondition: the socket cannot be made.
    """
    group = group_id(settings.group)

    def bootstrap(connection: Connection) -> Any:
        if not may_have_engine(connection.peer, group):
            return GateServer()
        session = Session(connection.peer, claim_fd=connection.claim_fd, send_fds=connection.send_fds)
        connection.nursery.start_soon(session.run, name="session")
        return EngineServer(engine, session)

    async with open_kj_loop(translate=to_exception) as loop:
        try:
            socket = listening_socket(settings.socket, mode=SOCKET_MODE, gid=group)
            listener = socket.__enter__()
        except OSError as error:
            raise FailedPrecondition(
                f"the socket {settings.socket} cannot be made: {error.strerror}", hint="choose another with --socket"
            ) from None
        try:
            await loop.serve(listener, bootstrap, task_status=task_status)
        finally:
            socket.__exit__(None, None, None)


def may_have_engine(peer: Credentials, group: int | None) -> bool:
    """Whether a peer holds the whole engine: root, our own user, and members of the socket's group."""
    return peer.uid in {0, os.geteuid()} or peer.has_group(group)
