"""KJ's loop, of which a thread has one at a time, for all connections that a program makes in that thread.

Who comes first has it started, who leaves last has it ended, in whatever tasks they are. On Trio it lives in a system task, so that it
belongs to none of them. Imports nothing of Ross.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.lowlevel
import capnp
import sniffio
import trio

from ross.wire.loop import KjLoop, Translate, open_kj_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class _OnTrio:
    """A loop in a system task."""

    def __init__(self, translate: Translate) -> None:
        self.loop: KjLoop | None = None
        self._translate = translate
        self._problem: RuntimeError | None = None
        self._began = trio.Event()
        self._wanted_no_more = trio.Event()
        self._ended = trio.Event()

    async def open(self) -> None:
        trio.lowlevel.spawn_system_task(self._run, name="wire loop")
        await self._began.wait()
        if self._problem is not None:
            raise self._problem

    async def close(self) -> None:
        self._wanted_no_more.set()
        await self._ended.wait()

    async def _run(self) -> None:
        try:
            async with open_kj_loop(translate=self._translate) as self.loop:
                self._began.set()
                await self._wanted_no_more.wait()
        except RuntimeError as error:
            if self._began.is_set():
                raise
            self._problem = error
        finally:
            self._began.set()
            self._ended.set()


class _OnAsyncio:
    """pycapnp's own, on the loop that runs."""

    loop: KjLoop | None = None

    def __init__(self, _translate: Translate) -> None:
        self._context: Any = capnp.kj_loop()

    async def open(self) -> None:
        await self._context.__aenter__()

    async def close(self) -> None:
        await self._context.__aexit__(None, None, None)


class _Common:
    """A loop, and how many use it. ``changing`` is held while it begins or ends."""

    def __init__(self) -> None:
        self.changing = anyio.Lock()
        self.users = 0
        self.host: _OnTrio | _OnAsyncio | None = None


_common: Final = anyio.lowlevel.RunVar[_Common]("KJ's loop")


@asynccontextmanager
async def common_kj_loop(translate: Translate) -> AsyncIterator[KjLoop | None]:
    """The loop for the length of a block: on Trio a :class:`~ross.wire.loop.KjLoop`, on asyncio nothing to hold.

    Raises:
        RuntimeError: another loop of KJ runs in this thread, or asyncio does below Trio.
    """
    common = _common.get(None) or _Common()
    _common.set(common)
    async with common.changing:
        if common.host is None:
            host = _OnTrio(translate) if sniffio.current_async_library() == "trio" else _OnAsyncio(translate)
            with anyio.CancelScope(shield=True):
                await host.open()
            common.host = host
        common.users += 1
    try:
        yield common.host.loop
    finally:
        common.users -= 1
        with anyio.CancelScope(shield=True):
            async with common.changing:
                if not common.users and common.host is not None:
                    ending, common.host = common.host, None
                    await ending.close()
