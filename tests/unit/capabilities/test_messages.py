"""Messages about containers that are kept, and made again when there is something else to say."""

from __future__ import annotations

from attrs import evolve

from ross.capabilities import containers
from ross.capabilities.containers import Messages
from ross.model.containers import ContainerInfo, ContainerSpec, ContainerState
from ross.oci.digest import Digest
from ross.wire.convert import from_wire

SOME = Digest.of(b"some")
INFO = ContainerInfo(
    id="a" * 64, name="box", image="busybox", image_id=SOME, manifest=SOME, spec=ContainerSpec(labels={"a": "b"}),
    command=("true",), state=ContainerState.CREATED, pid=0, created_at=1, started_at=0, outcome=None, error="",
    log_path="", rootfs_path="",
)  # fmt: skip


def test_a_message_says_what_is_so_now() -> None:
    messages = Messages()
    first = messages.of(INFO)
    assert from_wire(ContainerInfo, first) == INFO
    assert messages.of(evolve(INFO)) is first
    running = evolve(INFO, state=ContainerState.RUNNING, pid=7)
    assert from_wire(ContainerInfo, messages.of(running)) == running
    other = evolve(running, id="b" * 64)
    assert from_wire(ContainerInfo, messages.of(other)) == other
    assert from_wire(ContainerInfo, messages.of(INFO)) == INFO


def test_no_more_are_kept_than_need_be() -> None:
    messages = Messages()
    for number in range(containers._MOST_MESSAGES + 10):
        made = evolve(INFO, id=f"{number:064}")
        assert messages.of(made).id == made.id
    assert len(messages._said) == 10
