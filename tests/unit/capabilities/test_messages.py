"""Messages about containers that are kept, and made again when there is something else to say."""

from __future__ import annotations

from attrs import evolve

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
    assert from_wire(ContainerInfo, first.message) == INFO
    assert messages.of(evolve(INFO)) is first
    running = evolve(INFO, state=ContainerState.RUNNING, pid=7)
    assert from_wire(ContainerInfo, messages.of(running).message) == running
    other = evolve(running, id="b" * 64)
    assert from_wire(ContainerInfo, messages.of(other).message) == other
    assert from_wire(ContainerInfo, messages.of(INFO).message) == INFO


def test_those_of_containers_that_are_gone_are_let_go_of() -> None:
    messages = Messages()
    everything = [evolve(INFO, id=f"{number:064}") for number in range(1000)]
    first = [messages.of(info) for info in everything]
    messages.forget_all_but([info.id for info in everything])
    assert [messages.of(info) for info in everything] == first
    messages.forget_all_but([info.id for info in everything[:400]])
    assert len(messages._said) == 400
    assert [messages.of(info) for info in everything[:400]] == first[:400]
    assert from_wire(ContainerInfo, messages.of(everything[900]).message) == everything[900]
    messages.forget_all_but([])
    assert not messages._said
    messages.of(INFO)
    messages.forget_all_but([])
    assert len(messages._said) == 1, "a few do no harm"


def test_a_message_is_read_as_often_as_it_is_asked_for() -> None:
    """Readers count what is read, and by default refuse to go on after 64 MiB."""
    messages = Messages()
    long = evolve(INFO, spec=ContainerSpec(labels={"a": "b" * 60_000}))
    for _ in range(2_000):
        assert len(messages.of(long).message.spec.labels[0].value) == 60_000
