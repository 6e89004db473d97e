"""Health checks of real containers: what they find, what is done about it, and that they hold nothing up."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from ross.client import connect
from ross.errors import FailedPrecondition, InvalidArgument, NotFound
from ross.model.containers import ContainerState, WaitCondition
from ross.model.events import EventFilter
from ross.model.health import HealthState
from tests.support.images import ImageBuilder, Layer, busybox_image, push

if TYPE_CHECKING:
    from collections.abc import Callable

    from ross.client import Container, Engine, Image
    from ross.model.containers import ContainerInfo
    from ross.model.health import HealthInfo
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

STARTING, HEALTHY, UNHEALTHY = HealthState.STARTING, HealthState.HEALTHY, HealthState.UNHEALTHY
SLEEP = ["sleep", "100000"]
QUICK: dict[str, Any] = {"health_cmd": "echo looked; test ! -e /sick", "health_interval": 0.1, "health_retries": 2}
SICK = {**QUICK, "health_cmd": "false"}


async def health_of(container: Container) -> HealthInfo:
    found = (await container.info()).health
    assert found is not None
    return found


async def until(container: Container, condition: Callable[[ContainerInfo], object]) -> ContainerInfo:
    with trio.fail_after(60):
        while not condition(info := await container.info()):  # noqa: ASYNC110 -- what changes is in another process
            await trio.sleep(0.02)
    return info


def sleeping(word: str) -> int:
    """How many processes sleep for so long."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            found += words[0] == b"sleep" and word.encode() in words
    return found


async def asleep(word: str, count: int) -> None:
    """Wait until so many processes sleep for so long."""
    with trio.fail_after(60):
        while sleeping(word) != count:  # noqa: ASYNC110 -- as above
            await trio.sleep(0.02)


def is_in(state: HealthState) -> Callable[[ContainerInfo], bool]:
    return lambda info: info.health is not None and info.health.state is state


async def test_from_starting_to_healthy_to_unhealthy_and_back(engine: Engine, plain: Image, shared: Daemon) -> None:
    container = await plain.create(SLEEP, name="changing", **QUICK)
    assert (await container.info()).health is None, "nothing is known before the first start"

    def filtered(*states: str) -> bool:
        flags = [word for state in states for word in ("-f", f"health={state}")]
        return "changing" in shared.ross("ps", "-a", *flags, "--format", "{{.Names}}").stdout.split()

    assert filtered("none")
    async with engine.events(wanted=EventFilter(actions=("health_status",))) as events:
        await container.start()
        await container.wait(WaitCondition.HEALTHY)
        assert "(healthy)" in shared.ross("ps").stdout
        assert filtered("healthy")
        assert not filtered("none", "starting", "unhealthy")
        await container.exec(["touch", "/sick"])
        info = await until(container, is_in(UNHEALTHY))
        assert info.health is not None
        assert info.health.failing_streak >= 2
        assert "(unhealthy)" in shared.ross("ps").stdout
        assert filtered("unhealthy")
        await container.exec(["rm", "/sick"])
        await container.wait(WaitCondition.HEALTHY)
        seen = [getattr(await anext(events), "action", None) for _number in range(3)]
    assert seen == ["health_status: healthy", "health_status: unhealthy", "health_status: healthy"]
    await until(container, lambda info: info.health is not None and len(info.health.results) == 5)
    last = (await health_of(container)).results[-1]
    assert (last.exit_code, last.output) == (0, "looked\n")
    assert 0 < last.started_at < last.finished_at
    assert [info.args for info, _exec in await container.execs()] == [("touch", "/sick"), ("rm", "/sick")], (
        "no check is listed"
    )
    await container.stop(timeout=0)
    assert (await health_of(container)).state is UNHEALTHY, "as Docker has it"
    await container.remove()


async def test_failures_do_not_count_in_the_start_period(plain: Image, shared: Daemon) -> None:
    options = {**QUICK, "health_start_period": 1000, "health_start_interval": 0.1, "health_interval": 1000}
    container = await plain.create(SLEEP, **{**options, "health_cmd": "test -e /well"})
    await container.start()
    info = await until(container, lambda info: info.health is not None and len(info.health.results) >= 4)
    assert info.health is not None
    assert (info.health.state, info.health.failing_streak) == (STARTING, 0)
    assert "(health: starting)" in shared.ross("ps").stdout
    await container.exec(["touch", "/well"])
    await container.wait(WaitCondition.HEALTHY)
    await container.remove(force=True)


async def test_what_is_done_about_an_unhealthy_one(plain: Image) -> None:
    script = ["sh", "-c", "trap 'exit 3' TERM; touch /well; while :; do sleep 0.05; done"]
    sick = {**QUICK, "health_cmd": "test ! -e /well"}  # not before its trap is set
    killed, stopped = [await plain.create(script, health_on_failure=action, **sick) for action in ("kill", "stop")]
    again = await plain.create(script, health_on_failure="kill", restart="always", **sick)
    restarted = await plain.create(script, health_on_failure="restart", **sick)
    for container in (killed, stopped, again, restarted):
        await container.start()
    assert (await killed.wait()).signal == 9
    assert (await stopped.wait()).exit_code == 3
    info = await until(again, lambda info: info.restart_count >= 2)
    assert info.outcome is None or info.outcome.signal == 9
    began = (await restarted.info()).started_at
    await until(restarted, lambda info: info.started_at > began and info.state is ContainerState.RUNNING)
    for container in (killed, stopped, again, restarted):
        await container.remove(force=True)


async def test_check_that_hangs_is_killed_with_its_group_and_holds_nothing_up(plain: Image) -> None:
    hangs: dict[str, Any] = {"health_cmd": "echo begun; sleep 100001 & sleep 100001", "health_interval": 0.1}
    container = await plain.create(SLEEP, health_timeout=2, health_retries=2, **hangs)
    await container.start()
    info = await until(container, is_in(UNHEALTHY))
    assert info.health is not None
    first = info.health.results[0]
    assert (first.exit_code, first.output) == (-1, "the check took longer than 2 s: begun\n")
    assert sleeping("100001") <= 2, "only what the check after them has begun"
    await container.remove(force=True)
    assert sleeping("100001") == 0
    container = await plain.create(SLEEP, health_timeout=1000, **hangs)
    await container.start()
    await asleep("100001", 2)
    with trio.fail_after(60):
        assert (await container.exec(["echo", "x"])).stdout == b"x\n"
        await container.pause()
        await container.resume()
        await container.stop(timeout=0)
        await container.remove()


async def test_what_was_begun_by_a_check_and_left_is_no_check(plain: Image) -> None:
    """What stays in the background does not make a check last longer."""
    options: dict[str, Any] = {"health_cmd": "sleep 100001 & echo x", "health_interval": 0.1, "health_timeout": 1000}
    container = await plain.create(SLEEP, **options)
    await container.start()
    with trio.fail_after(60):
        await container.wait(WaitCondition.HEALTHY)
    await container.remove(force=True)


async def test_forms_of_checks(engine: Engine, plain: Image, registry: str, shared: Daemon) -> None:
    config = {"Healthcheck": {"Test": ["CMD-SHELL", "echo $((6 * 7))"], "Interval": 10**8}, "Cmd": ["sleep", "100000"]}
    shell = push(registry, "test/health-shell:1", busybox_image(**config))
    program = shutil.which("busybox")
    assert program is not None
    lonely = ImageBuilder(
        config={"Cmd": ["/bin/sleep", "100000"], "Healthcheck": {"Test": ["CMD", "sleep", "0"], "Interval": 10**8}}
    ).layer(Layer().directory("bin").add("bin/sleep", await trio.Path(program).read_bytes(), mode=0o755))
    without = push(registry, "test/health-lonely:1", lonely.build())
    found = []
    cases: tuple[tuple[str, dict[str, Any]], ...] = (
        (shell, {}),
        (without, {}),
        (without, {"health_cmd": "true"}),
        (without, {"health_cmd": ["sleep", "x"]}),
        (shell, {"health_cmd": ["cat", "/nowhere"]}),
        (shell, {"health_cmd": "yes | head -c 5000; exit 7"}),
        (shell, {"no_healthcheck": True}),
    )
    for reference, options in cases:
        image = await engine.images.pull(reference)
        container = await image.create(**options)
        await container.start()
        found.append(container)
    results = []
    for container in found[:-1]:
        info = await until(container, lambda info: info.health is not None and info.health.results)
        assert info.health is not None
        results.append(info.health.results[0])
    assert [result.exit_code for result in results] == [0, 0, -1, 1, 1, 7]
    assert results[0].output == "42\n"
    assert "/bin/sh" in results[2].output
    assert "invalid number 'x'" in results[3].output
    assert "can't open '/nowhere'" in results[4].output
    assert results[5].output == "y\n" * 2048 + "..."
    assert (await found[-1].info()).health is None
    for container in found:
        await container.remove(force=True)


async def test_paused_container_is_not_checked(plain: Image) -> None:
    container = await plain.create(SLEEP, **QUICK)
    await container.start()
    await container.wait(WaitCondition.HEALTHY)
    await container.pause()
    before = await health_of(container)
    await trio.sleep(0.5)
    after = await health_of(container)
    assert after == before
    await container.resume()
    await until(container, lambda info: info.health is not None and info.health.results[-1] != before.results[-1])
    assert all(result.exit_code == 0 for result in (await health_of(container)).results)
    await container.remove(force=True)


async def test_waiting_for_health_ends_with_a_clear_error(plain: Image) -> None:
    container = await plain.create(["true"])
    with pytest.raises(FailedPrecondition, match="has no health check"):
        await container.wait(WaitCondition.HEALTHY)
    await container.remove()
    container = await plain.create(["sh", "-c", "sleep 0.3; exit 4"], **SICK)
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(FailedPrecondition, match="has ended with exit code 4, and is not healthy"):
                await container.wait(WaitCondition.HEALTHY)

        nursery.start_soon(wait)
        await container.start()
    await container.remove()
    container = await plain.create(["true"], **QUICK)
    async with trio.open_nursery() as nursery:

        async def wait_again() -> None:
            with pytest.raises(NotFound, match="was removed before it was healthy"):
                await container.wait(WaitCondition.HEALTHY)

        nursery.start_soon(wait_again)
        await container.info()
        await container.remove()
    with pytest.raises(InvalidArgument, match="is 1 ns"):
        await plain.create(["true"], health_cmd="true", health_interval=1e-9)


def test_flags(shared: Daemon, busybox: str) -> None:
    flags = (
        "--health-cmd", "test -e /well", "--health-interval", "100ms", "--health-retries", "4", "--health-timeout", "1m1s",
        "--health-start-period", "1h", "--health-start-interval", "0.1s", "--health-on-failure", "restart",
    )  # fmt: skip
    shared.ok("run", "-d", "--name", "flags", *flags, busybox, "sh", "-c", "touch /well; sleep 100000")
    done = shared.ross("wait", "--condition", "healthy", "flags")
    assert (done.returncode, done.stdout) == (0, "-1\n")
    assert "(healthy)" in shared.ross("ps").stdout
    (info,) = json.loads(shared.ross("inspect", "flags").stdout)
    assert info["State"]["Health"]["Status"] == "healthy"
    assert info["State"]["Health"]["FailingStreak"] == 0
    assert info["State"]["Health"]["Log"][-1].keys() == {"Start", "End", "ExitCode", "Output"}
    assert info["Config"]["Healthcheck"] == {
        "Test": ["CMD-SHELL", "test -e /well"], "Interval": 10**8, "Timeout": 61 * 10**9, "StartPeriod": 3600 * 10**9,
        "StartInterval": 10**8, "Retries": 4,
    }  # fmt: skip
    assert info["Config"]["HealthcheckOnFailureAction"] == "restart"
    status = shared.ross("inspect", "-f", "{{if .State.Health}}{{.State.Health.Status}}{{end}}", "flags").stdout
    assert status == "healthy\n"
    shared.ross("rm", "-f", "flags")
    for wrong, message in (
        (("--no-healthcheck", "--health-cmd", "x"), "--no-healthcheck is given together with other flags"),
        (("--health-interval", "10"), "'10' is not a length of time"),
        (("--health-cmd", "[]"), "is not a list of words"),
        (("--health-retries", "-1"), "are a number from 1 on"),
    ):
        done = shared.ross("create", *wrong, busybox, "true")
        assert done.returncode == 125
        assert message in done.stderr
    done = shared.ross("wait", "--condition", "healthy", "nobody")
    assert done.returncode == 1


async def test_health_outlives_the_daemon(daemon: Daemon, box: str, tmp_path: Path) -> None:
    well = tmp_path / "well"
    well.touch()
    words = ("--name", "box", "-v", f"{tmp_path}:/told:ro", "--health-cmd", "test -e /told/well || sleep 31415")
    daemon.ok("run", "-d", *words, "--health-interval", "100ms", box, "sleep", "100000")
    daemon.ok("wait", "--condition", "healthy", "box")
    daemon.kill()
    daemon.start()
    async with connect(daemon.socket) as engine:
        container = await engine.containers.get("box")
        assert (await health_of(container)).state is HEALTHY
        await until(container, lambda info: info.health is not None and info.health.results)
        well.unlink()
        await asleep("31415", 1)
    daemon.kill()
    well.touch()
    daemon.start()
    await asleep("31415", 0)
    async with connect(daemon.socket) as engine:
        container = await engine.containers.get("box")
        await until(container, lambda info: info.health is not None and info.health.results)
        assert [result.exit_code for result in (await health_of(container)).results][:1] == [0]
        await container.remove(force=True)
