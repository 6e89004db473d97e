"""Containers that are made by several clients at once: under one name, by one key, and where it fails."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from ross.errors import NotFound, RossError
from ross.model.containers import ContainerState
from tests.integration.test_obstacles import immovable

if TYPE_CHECKING:
    from ross.client import Container, Image
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("key", ["", "deploy 7"])
async def test_replacing_at_once(shared: Daemon, plain: Image, key: str) -> None:
    """Each takes the place of the one before it; with a key all have the same one."""
    await (await plain.create(["sleep", "1000"], name="web")).start()
    made: list[Container] = []

    async def create() -> None:
        made.append(await plain.create(["true"], name="web", replace=True, key=key))

    async with trio.open_nursery() as nursery:
        for _create in range(3):
            nursery.start_soon(create)
    states = [(await one.info()).state for one in made]
    if key:
        assert states == [ContainerState.CREATED] * 3
        assert len({(await one.info()).id for one in made}) == 1
    else:
        assert sorted(state.value for state in states) == ["created", "removed", "removed"]
    assert shared.ok("ps", "-a", "--format", "{{.Names}}") == "web\n"
    shared.ok("rm", "web")


async def test_who_was_given_what_could_not_be_made(shared: Daemon, plain: Image) -> None:
    """By the same key, while it was being made: it is not there, and cannot be started either."""
    shared.expect_log("internal error")
    given: list[Container] = []
    failures: list[RossError] = []

    async def create() -> None:
        try:
            given.append(await plain.create(["sleep", "1000"], key="job 1"))
        except RossError as error:
            failures.append(error)

    with immovable(shared.root / "snapshots"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(create)
            nursery.start_soon(create)
    assert failures
    for container in given:
        for call in (container.start, partial(container.update, pids_limit=7), container.remove):
            with pytest.raises(NotFound, match="has been removed"):
                await call()
    assert shared.ok("ps", "-aq") == ""
