"""Methods that outlast their calls: KJ has freed what belongs to a call by then, and nothing of it is touched."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

import trio
from trio.testing import wait_all_tasks_blocked

import ross
from ross.wire.schema import schema
from ross.wire.serving import CallContext, CallGoneError, Served

if TYPE_CHECKING:
    from tests.unit.wire.conftest import Pair


class Outlasting(Served, schema.Containers.Server):  # type: ignore[misc]
    """Goes on when its caller has gone, and then answers."""

    def __init__(self) -> None:
        self.go = trio.Event()
        self.contexts: list[CallContext] = []
        self.refused = 0

    async def get_context(self, context: Any) -> None:
        self.contexts.append(context)
        with trio.CancelScope(shield=True):
            await self.go.wait()
        context.results.container = None
        context.results.container = Nobody()
        try:
            _name = context.params.name
        except CallGoneError:
            self.refused += 1
            raise

    async def list_context(self, context: Any) -> None:
        context.results.containers = []


class Nobody(Served, schema.Container.Server):  # type: ignore[misc]
    """A container that does nothing."""


async def _get(client: Any) -> None:
    await client.get("x")


async def test_what_is_answered_too_late_goes_nowhere(pair: Pair) -> None:
    server = Outlasting()
    async with pair(server) as connection:
        client = connection.bootstrap().cast_as(schema.Containers)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(_get, client)
            await wait_all_tasks_blocked()
            assert len(server.contexts) == 5
            nursery.cancel_scope.cancel()
        await wait_all_tasks_blocked()
        server.go.set()
        await wait_all_tasks_blocked()
        assert server.refused == 5
        assert list((await client.list()).containers) == []
    assert all(type(context.results).__name__ == "_Nowhere" for context in server.contexts)


def test_every_implementation_is_served_so() -> None:
    for module in pkgutil.walk_packages(ross.__path__, "ross."):
        if module.name.startswith(("ross.capabilities", "ross.client", "ross.wire")):
            importlib.import_module(module.name)
    base = schema.Container.Server.__mro__[1]
    found = {
        one for one in _below(base) if one.__module__.startswith(("ross.capabilities", "ross.client", "ross.wire"))
    }
    found = {one for one in found if not one.__name__.endswith(".Server")}  # pycapnp's own, of each interface
    assert len(found) > 20
    assert {one.__name__ for one in found if not issubclass(one, Served)} == set()


def _below(cls: type) -> set[type]:
    direct: list[type] = cls.__subclasses__()
    return {*direct, *(deeper for one in direct for deeper in _below(one))}
