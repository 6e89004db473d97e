"""The number of the format goes up with the records: an older version must not find one that it cannot read."""

from __future__ import annotations

import enum
import hashlib
import typing
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from ross.errors import FailedPrecondition
from ross.layout import StateLayout
from ross.model.snapshots import SnapshotInfo
from ross.services.checkpoint_files import CheckpointRecord
from ross.services.epochs import EpochRecord
from ross.services.ingest import IngestRecord
from ross.services.init_layer import InitLayerRecord
from ross.services.labels import LabelRecord
from ross.services.pending import PendingRecord
from ross.services.records import ContainerRecord
from ross.services.root_format import FORMAT, see_format
from ross.services.tags import TagRecord

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_RECORDS = (
    CheckpointRecord,
    ContainerRecord,
    EpochRecord,
    IngestRecord,
    InitLayerRecord,
    LabelRecord,
    PendingRecord,
    SnapshotInfo,
    TagRecord,
)
_RECORDS_OF_FORMAT = {1: "c92e09d616c10c72"}


def _described(kind: Any) -> Iterator[str]:
    """Every field of a record, and of what is in it; of a choice every value."""
    if attrs.has(kind):
        hints = typing.get_type_hints(kind)
        for one in attrs.fields(kind):
            yield f"{kind.__name__}.{one.name}: {hints[one.name]}"
            yield from _described(hints[one.name])
    elif isinstance(kind, type) and issubclass(kind, enum.Enum):
        yield from (f"{kind.__name__} {value.value}" for value in kind)
    else:
        for part in typing.get_args(kind):
            yield from _described(part)


def test_records_are_those_of_the_format() -> None:
    """If this fails, a record has changed: add one to FORMAT, give what is new a default, and put the new digest here."""
    lines = sorted({line for kind in _RECORDS for line in _described(kind)})
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    assert _RECORDS_OF_FORMAT[FORMAT] == digest, "\n".join(lines)


def test_number_is_noted_and_a_later_one_refused(tmp_path: Path) -> None:
    layout = StateLayout(root=tmp_path)
    see_format(layout)
    see_format(layout)
    assert layout.format.read_text() == f"{FORMAT}\n"
    layout.format.write_text(f"{FORMAT + 1}\n")
    with pytest.raises(FailedPrecondition, match="by a later version of Ross"):
        see_format(layout)
    assert layout.format.read_text() == f"{FORMAT + 1}\n"


def test_number_of_an_earlier_version_is_raised(tmp_path: Path) -> None:
    layout = StateLayout(root=tmp_path)
    layout.format.write_text("0\n")
    see_format(layout)
    assert layout.format.read_text() == f"{FORMAT}\n"


def test_number_that_cannot_be_read_is_written_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    layout = StateLayout(root=tmp_path)
    layout.format.write_text("one\n")
    see_format(layout)
    assert layout.format.read_text() == f"{FORMAT}\n"
    assert "is written again" in caplog.text
