"""What a restart policy wants, and what it leaves alone."""

from __future__ import annotations

import pytest
from attrs import evolve

from ross.model.containers import ContainerSpec, Outcome, RestartMode, RestartPolicy
from ross.oci.digest import Digest
from ross.services.records import ContainerRecord
from ross.services.restarts import Restarts, wanted_at_begin

DIGEST = Digest("sha256", "0" * 64)
KILLED = Outcome(exit_code=137, signal=9, finished_at=1)


def record(mode: RestartMode) -> ContainerRecord:
    return ContainerRecord(
        id="0" * 64,
        name="one",
        image="image",
        image_id=DIGEST,
        target=DIGEST,
        manifest=DIGEST,
        chain_id=None,
        spec=ContainerSpec(restart=RestartPolicy(mode=mode)),
        command=("true",),
        created_at=0,
        outcome=KILLED,
    )


@pytest.mark.parametrize("mode", [RestartMode.ALWAYS, RestartMode.UNLESS_STOPPED, RestartMode.ON_FAILURE])
def test_what_a_checkpoint_has_ended_is_not_started_again(mode: RestartMode) -> None:
    """Neither at once, nor when a daemon begins: it would begin at the beginning."""
    ended = record(mode)
    assert Restarts().wanted(ended, KILLED)
    assert not Restarts().wanted(ended, evolve(KILLED, checkpointed=True))
    assert not wanted_at_begin(evolve(ended, outcome=evolve(KILLED, checkpointed=True)))
    assert wanted_at_begin(ended) is (mode is not RestartMode.ON_FAILURE)


def test_pauses_grow_while_starts_fail_behind_a_run_that_lasted() -> None:
    """However long that was: nothing has run since."""
    restarts = Restarts()
    ended = evolve(record(RestartMode.ALWAYS), started_at=1, outcome=evolve(KILLED, finished_at=10**15))
    first = restarts.pause(ended, now=0)
    pauses = [restarts.pause(ended, now=0, start_failed=True) for _ in range(20)]
    assert first < pauses[0] < pauses[1] < pauses[-1]
    assert restarts.pause(ended, now=0) == first
