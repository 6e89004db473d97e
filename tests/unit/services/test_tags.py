"""Names that are not on the disk for certain: what a daemon that is killed leaves of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ross.layout import StateLayout
from ross.oci.digest import Digest
from ross.oci.reference import Reference
from ross.services.pending import Pending, Pendings
from ross.services.tags import TagRecord, Tags

if TYPE_CHECKING:
    from pathlib import Path

NAME = Reference.parse("registry.example/app:1")


def denoting(text: bytes) -> TagRecord:
    return TagRecord(target=Digest.of(text), manifest=Digest.of(text))


async def test_name_that_is_given_again_before_it_is_on_the_disk_is_kept(tmp_path: Path) -> None:
    layout = StateLayout(root=tmp_path)
    tags, pendings = Tags(layout), Pendings(layout)
    first, second = pendings.begin(), pendings.begin()
    for pending in (first, second):
        await pending.announce(blobs=[Digest.of(b"layer")], snapshots=[])

    tags.announce(NAME, denoting(b"one"), first)
    tags.announce(NAME, denoting(b"two"), first)
    assert [pending.record.names for pending in left(layout)] == [{str(NAME): denoting(b"two")}]

    tags.announce(NAME, denoting(b"three"), second)
    assert [pending.record.names for pending in left(layout)] == [{str(NAME): denoting(b"three")}]


def left(layout: StateLayout) -> list[Pending]:
    """What the next daemon finds that has names in it."""
    fresh, _doubtful = Pendings(layout).recover()
    return [pending for pending in fresh if pending.record.names]
