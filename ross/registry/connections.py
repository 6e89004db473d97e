"""The connections to registries: one pool for each way of connecting, kept for the next request, renewed when its certificates change."""

from __future__ import annotations

import os
import ssl
from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING, Final

import httpx
import trio
from attrs import define

from ross.errors import FailedPrecondition
from ross.registry.endpoint import DIRECT, Transport
from ross.registry.http import new_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ross.registry.hosts import Origin

_MAX_IDLE: Final = 8
_CLOSE_SECONDS: Final = 5.0

_Key = tuple[Transport, bool, tuple[tuple[int, int, int], ...]]
"""How to connect, whether to this machine, and the state of the files."""


@define
class _Pool:
    client: httpx.AsyncClient
    users: int = 0


class Connections:
    """HTTP clients by the way they connect; whoever made it closes it."""

    def __init__(self, *, user_agent: str, connect_seconds: float, silence_seconds: float) -> None:
        self._user_agent = user_agent
        self._connect_seconds = connect_seconds
        self._silence_seconds = silence_seconds
        # What nearly everything goes through, made at once: an environment that cannot be used shows itself here.
        context = _system(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
        self._direct = {local: self._new(DIRECT, context, local=local) for local in (False, True)}
        self._pools: dict[_Key, _Pool] = {}

    @asynccontextmanager
    async def client(self, transport: Transport, origin: Origin) -> AsyncIterator[httpx.AsyncClient]:
        """A client that connects to ``origin`` in this way, for the length of a block.

        Raises:
            FailedPrecondition: a certificate or key cannot be used.
        """
        if transport == DIRECT:
            yield self._direct[origin.loopback]
            return
        key = (transport, origin.loopback, tuple(_state(path) for path in transport.files))
        if key not in self._pools:
            context = await trio.to_thread.run_sync(_tls, transport)
            if key not in self._pools:  # nobody was faster
                self._pools[key] = _Pool(self._new(transport, context, local=origin.loopback))
        pool = self._pools[key] = self._pools.pop(key)  # the latest stands last
        pool.users += 1
        try:
            yield pool.client
        finally:
            pool.users -= 1
            await self._shrink()

    async def close(self) -> None:
        """Close all connections."""
        clients = [*self._direct.values(), *(pool.client for pool in self._pools.values())]
        self._pools.clear()
        for client in clients:
            await _close(client)

    async def _shrink(self) -> None:
        while len(self._pools) > _MAX_IDLE:
            idle = next((key for key, pool in self._pools.items() if not pool.users), None)
            if idle is None:
                return
            await _close(self._pools.pop(idle).client)

    def _new(self, transport: Transport, context: ssl.SSLContext, *, local: bool) -> httpx.AsyncClient:
        return new_client(
            user_agent=self._user_agent,
            connect_seconds=transport.dial_seconds or self._connect_seconds,
            silence_seconds=self._silence_seconds,
            context=context,
            proxy=transport.proxy,
            use_environment=not local,  # its proxy is for other machines
        )


async def _close(client: httpx.AsyncClient) -> None:
    with trio.move_on_after(_CLOSE_SECONDS, shield=True):
        await client.aclose()


def _state(path: Path) -> tuple[int, int, int]:
    """What changes when a file is replaced or written to."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)  # reading it will tell
    return (found.st_ino, found.st_mtime_ns, found.st_size)


@cache
def _system(_file: str | None, _directory: str | None) -> ssl.SSLContext:
    """What the system trusts, or those two variables say: some hundred certificates, which take tens of milliseconds to read."""
    return ssl.create_default_context()


def _tls(transport: Transport) -> ssl.SSLContext:
    # The system's certificates, or those of SSL_CERT_FILE and SSL_CERT_DIR; the files of the host come on top.
    context = ssl.create_default_context()
    if transport.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for path in transport.ca:
        try:
            context.load_verify_locations(path)
        except ssl.SSLError:
            raise FailedPrecondition(f"{path} holds no certificate (PEM is wanted)") from None
        except OSError as error:
            raise FailedPrecondition(f"the certificate {path} cannot be read: {error.strerror}") from None
    if transport.client is not None:
        certificate, key = transport.client
        try:
            # An empty password: a key that wants one is refused, instead of asking whoever started the daemon.
            context.load_cert_chain(certificate, key, password="")
        except ssl.SSLError:
            raise FailedPrecondition(
                f"{certificate} and {key} are not a certificate and its key",
                hint="PEM is wanted, a key without a password, and the one that belongs to the certificate",
            ) from None
        except OSError as error:
            raise FailedPrecondition(
                f"the client certificate {certificate} or its key {key} cannot be read: {error.strerror}"
            ) from None
    return context
