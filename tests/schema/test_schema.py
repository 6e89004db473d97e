"""The schema and the records say the same, field by field; and every record survives the way there and back."""

from __future__ import annotations

import enum
import types
import typing
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ross.model import (
    archives,
    checkpoints,
    containers,
    content,
    engine,
    events,
    execs,
    health,
    images,
    limits,
    logs,
    mounts,
    namespaces,
    registries,
    security,
    snapshots,
    stats,
    storage,
)
from ross.oci.digest import Digest
from ross.wire.convert import _decoders, camel_case, from_wire, to_wire
from ross.wire.loop import open_kj_loop
from ross.wire.schema import schema

MODULES = (
    archives,
    checkpoints,
    containers,
    content,
    engine,
    events,
    execs,
    health,
    images,
    limits,
    logs,
    mounts,
    namespaces,
    registries,
    security,
    snapshots,
    stats,
    storage,
)
RECORDS = [
    value
    for module in MODULES
    for value in vars(module).values()
    if isinstance(value, type) and attrs.has(value) and value.__module__ == module.__name__
]
ENUMS = {
    containers.ContainerState: schema.ContainerState,
    images.PullPhase: schema.PullPhase,
    containers.NetworkMode: schema.NetworkMode,
    containers.RestartMode: schema.RestartMode,
    containers.WaitCondition: schema.WaitCondition,
    containers.Pace: schema.Pace,
    execs.GonePolicy: schema.GonePolicy,
    limits.ThrottleKind: schema.ThrottleKind,
    mounts.MountKind: schema.MountKind,
    mounts.Recursion: schema.Recursion,
    namespaces.NamespaceMode: schema.NamespaceMode,
    archives.ArchiveFormat: schema.ArchiveFormat,
    engine.Role: schema.VersionInfo.Role,
    storage.Severity: schema.Finding.Severity,
    storage.CheckStage: schema.CheckStage,
    logs.LogDriver: schema.LogDriver,
    health.HealthState: schema.HealthState,
    health.HealthAction: schema.HealthAction,
    snapshots.SnapshotKind: schema.SnapshotKind,
    snapshots.SnapshotOwner: schema.SnapshotOwner,
    snapshots.ChangeKind: schema.ChangeKind,
    snapshots.FileKind: schema.FileKind,
}
SIGNED_64 = st.integers(0, (1 << 63) - 1)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_record_has_the_fields_of_its_struct(record: type) -> None:
    struct = getattr(schema, record.__name__)
    ours = {camel_case(field.name) for field in attrs.fields(record)}
    assert ours == set(struct.schema.fieldnames)


@pytest.mark.parametrize(("ours", "theirs"), ENUMS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_enumeration_has_the_enumerants_of_the_schema(ours: type[enum.Enum], theirs: Any) -> None:
    assert {member.value for member in ours} == set(theirs.schema.enumerants)
    assert ours.UNKNOWN.value == "unknown"  # type: ignore[attr-defined]


def values(hint: Any) -> st.SearchStrategy[Any]:
    """What a field of this type may hold, within what the schema can carry."""
    if isinstance(hint, types.UnionType):
        inner = next(part for part in typing.get_args(hint) if part is not type(None))
        return st.none() | values(inner)
    if typing.get_origin(hint) is tuple:
        return st.lists(values(typing.get_args(hint)[0]), max_size=3).map(tuple)
    if typing.get_origin(hint) is dict:
        return st.dictionaries(text(), text(), max_size=3)
    if hint is Digest:
        return st.binary(min_size=32, max_size=32).map(lambda data: Digest("sha256", data.hex()))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return st.sampled_from(list(hint))
    if attrs.has(hint):
        return records(hint)
    return {str: text(), bool: st.booleans(), bytes: st.binary(max_size=50), int: st.integers(0, 127)}[hint]


def text() -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def records(record: type) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(record)
    return st.builds(record, **{field.name: values(hints[field.name]) for field in attrs.fields(record)})


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_record_survives_the_wire(record: type) -> None:
    @given(records(record))
    @settings(deadline=None)
    def check(value: Any) -> None:
        struct = getattr(schema, record.__name__)
        message = struct.new_message(**to_wire(value))
        with struct.from_bytes(message.to_bytes()) as reader:
            assert from_wire(record, reader) == value

    check()


def test_enumerant_of_a_later_version_becomes_unknown() -> None:
    class Later:
        """What pycapnp gives for a struct of a newer peer, as far as this field is concerned."""

        state = "hibernating"

    decode = dict(_decoders(containers.ContainerInfo))["state"]
    assert decode(Later()) is containers.ContainerState.UNKNOWN


async def test_schema_loads_inside_a_loop_and_its_interfaces_are_there() -> None:
    async with open_kj_loop():
        for name in (
            "Gate",
            "Engine",
            "Images",
            "Image",
            "Loading",
            "Containers",
            "Container",
            "Process",
            "Exec",
            "ByteStream",
            "Progress",
            "EventReader",
            "Snapshots",
            "ChangeSink",
            "LogSink",
        ):
            assert hasattr(getattr(schema, name), "Server")
