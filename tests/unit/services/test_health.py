"""Health checks: when they are made, and what they make of the state; against Docker's documented behaviour, on a clock of our own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import trio

from ross.errors import InvalidArgument
from ross.model.health import HealthAction, HealthCheck, HealthResult, HealthState
from ross.oci.image import Execution, ImageHealthcheck
from ross.services.health import Checking
from ross.shim.health import Check, check_health, effective_check

if TYPE_CHECKING:
    from trio.testing import MockClock

STARTING, HEALTHY, UNHEALTHY = HealthState.STARTING, HealthState.HEALTHY, HealthState.UNHEALTHY
SECOND = 10**9


class Patient:
    """Something whose checks come to what a function of the time says."""

    def __init__(self, is_well: Callable[[float], bool], *, takes: float = 0.0) -> None:
        self.began = trio.current_time()
        self.checked: list[float] = []
        """When."""
        self.changes: list[tuple[float, HealthState]] = []
        self.failures: list[float] = []
        self.runs = True
        self._is_well = is_well
        self._takes = takes

    @property
    def now(self) -> float:
        return round(trio.current_time() - self.began, 3)

    def is_running(self) -> bool:
        return self.runs

    async def probe(self) -> HealthResult:
        self.checked.append(self.now)
        well = self._is_well(self.now)
        await trio.sleep(self._takes)
        return HealthResult(started_at=0, finished_at=0, exit_code=0 if well else 1, output=str(self.now))

    def changed(self, state: HealthState) -> None:
        self.changes.append((self.now, state))

    def fail(self) -> None:
        self.failures.append(self.now)


def check(**options: float) -> Check:
    return Check(args=("x",), **{"interval": 10.0, **options})  # type: ignore[arg-type]


async def watch(
    patient: Patient, what: Check, *, seconds: float, state: HealthState = STARTING, age: float = 0.0
) -> Checking:
    """Check for so many seconds."""
    checking = Checking(what, patient, state=state, age=age)
    with trio.move_on_after(seconds):
        await checking.run()
    return checking


async def test_first_check_comes_after_an_interval_and_the_next_so_long_after_its_end(
    autojump_clock: MockClock,
) -> None:
    patient = Patient(lambda _now: True, takes=3)
    checking = await watch(patient, check(), seconds=40)
    assert patient.checked == [10, 23, 36]
    assert patient.changes == [(13, HEALTHY)]
    assert checking.failing_streak == 0


async def test_failures_in_a_row_make_it_unhealthy_and_one_success_healthy(autojump_clock: MockClock) -> None:
    patient = Patient(lambda now: now <= 10 or 30 < now < 50 or now > 80)
    checking = await watch(patient, check(retries=3), seconds=95)
    assert patient.changes == [(10, HEALTHY), (70, UNHEALTHY), (90, HEALTHY)], "two failures are not enough"
    assert patient.failures == [70, 80]
    assert checking.failing_streak == 0
    assert [result.output for result in checking.results] == ["50.0", "60.0", "70.0", "80.0", "90.0"], "the last five"


async def test_one_that_never_is_well_becomes_unhealthy_from_starting(autojump_clock: MockClock) -> None:
    patient = Patient(lambda _now: False)
    checking = await watch(patient, check(retries=2), seconds=45)
    assert patient.changes == [(20, UNHEALTHY)]
    assert patient.failures == [20, 30, 40]
    assert checking.failing_streak == 4


async def test_failures_of_the_start_period_do_not_count(autojump_clock: MockClock) -> None:
    patient = Patient(lambda _now: False)
    await watch(patient, check(retries=1, start_period=25, start_interval=5), seconds=60)
    assert patient.checked == [5, 10, 15, 20, 25, 35, 45, 55], (
        "as often as the start interval, until the period is over"
    )
    assert patient.changes == [(25, UNHEALTHY)]


async def test_check_at_the_end_of_the_start_period_is_not_put_off(autojump_clock: MockClock) -> None:
    """As Docker does: however long the intervals are."""
    patient = Patient(lambda now: now > 10)
    await watch(patient, check(interval=60, start_period=12, start_interval=30), seconds=20)
    assert patient.checked == [12]
    assert patient.changes == [(12, HEALTHY)]


async def test_success_ends_the_start_period(autojump_clock: MockClock) -> None:
    patient = Patient(lambda now: now <= 5)
    await watch(patient, check(retries=2, start_period=100, start_interval=5), seconds=40)
    assert patient.checked == [5, 15, 25, 35]
    assert patient.changes == [(5, HEALTHY), (25, UNHEALTHY)]


async def test_check_that_is_begun_in_the_start_period_belongs_to_it(autojump_clock: MockClock) -> None:
    patient = Patient(lambda _now: False, takes=4)
    await watch(patient, check(retries=1, start_period=6, start_interval=5), seconds=12)
    assert patient.checked == [5]
    assert patient.changes == []


async def test_one_that_does_not_run_is_not_checked(autojump_clock: MockClock) -> None:
    patient = Patient(lambda _now: False, takes=1)
    async with trio.open_nursery() as nursery:

        async def pause() -> None:
            await trio.sleep(5)
            patient.runs = False
            await trio.sleep(20)
            patient.runs = True
            await trio.sleep(5.5)  # in the middle of a check
            patient.runs = False

        nursery.start_soon(pause)
        checking = await watch(patient, check(retries=1), seconds=60)
    assert patient.checked == [30]
    assert patient.changes == [], "what came of a check does not count, if it was paused meanwhile"
    assert not checking.results


async def test_one_that_was_taken_over_goes_on_where_it_was(autojump_clock: MockClock) -> None:
    patient = Patient(lambda _now: False)
    await watch(patient, check(retries=2, start_period=30), seconds=30, state=HEALTHY, age=1000)
    assert patient.changes == [(20, UNHEALTHY)]
    patient = Patient(lambda _now: False)
    await watch(patient, check(retries=1, start_period=30), seconds=30, state=STARTING, age=25)
    assert patient.checked == [5, 15, 25], "its age counts"


# -- what is asked for ------------------------------------------------------------------------------------------------


def image(**options: object) -> Execution:
    return Execution(healthcheck=ImageHealthcheck(**options))  # type: ignore[arg-type]


def test_spec_and_image_are_merged_as_docker_does() -> None:
    ours = image(test=("CMD", "probe", "-x"), interval=7 * SECOND, retries=9, start_period=SECOND)
    assert effective_check(HealthCheck(), Execution()) is None
    assert effective_check(HealthCheck(), ours) == Check(
        args=("probe", "-x"), interval=7, timeout=30, start_period=1, start_interval=5, retries=9
    )
    found = effective_check(HealthCheck(interval_ns=SECOND, retries=1), ours)
    assert found == Check(args=("probe", "-x"), interval=1, start_period=1, retries=1)
    found = effective_check(HealthCheck(test=("CMD-SHELL", "exit 1"), on_failure=HealthAction.KILL), ours)
    assert found is not None
    assert (found.args, found.interval, found.on_failure) == (("/bin/sh", "-c", "exit 1"), 7, HealthAction.KILL)
    assert effective_check(HealthCheck(test=("NONE",)), ours) is None
    assert effective_check(HealthCheck(interval_ns=SECOND), Execution()) is None


def test_images_shell_is_used() -> None:
    execution = Execution(
        healthcheck=ImageHealthcheck(test=("CMD-SHELL", "a b")), shell=("/bin/bash", "-o", "pipefail", "-c")
    )
    found = effective_check(HealthCheck(), execution)
    assert found is not None
    assert found.args == ("/bin/bash", "-o", "pipefail", "-c", "a b")


@pytest.mark.parametrize(
    "test", [(), ("NONE",), ("CMD",), ("CMD-SHELL",), ("CMD", ""), ("DANCE", "x"), ("",), None], ids=str
)
def test_image_without_a_sensible_test_has_no_check(test: tuple[str, ...] | None) -> None:
    assert effective_check(HealthCheck(), image(test=test)) is None


def test_times_of_an_image_that_make_no_sense_are_the_defaults() -> None:
    found = effective_check(
        HealthCheck(), image(test=("CMD", "x"), interval=-5, timeout=3, start_interval=1, retries=-1)
    )
    assert found == Check(args=("x",))


@pytest.mark.parametrize(
    "wrong",
    [
        HealthCheck(test=("DANCE", "x")),
        HealthCheck(test=("CMD",)),
        HealthCheck(test=("CMD-SHELL", "")),
        HealthCheck(test=("CMD", "a\0b")),
        HealthCheck(interval_ns=999_999),
        HealthCheck(timeout_ns=-1),
        HealthCheck(start_period_ns=1),
        HealthCheck(start_interval_ns=1),
        HealthCheck(retries=-1),
        HealthCheck(on_failure=HealthAction.UNKNOWN),
    ],
)
def test_what_cannot_be_is_refused(wrong: HealthCheck) -> None:
    with pytest.raises(InvalidArgument):
        check_health(wrong)


def test_any_number_that_an_image_says_is_a_time() -> None:
    found = effective_check(HealthCheck(), image(test=("CMD", "x"), interval=10**400, retries=10**400))
    assert found is not None
    assert found.interval > 10**9
