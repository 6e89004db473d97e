"""The members of an archive, in a spool: found by the names that the archive gives them, kept under names of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import define, field

from ross.errors import Corrupt
from ross.linux.archive.limits import ArchiveLimits
from ross.linux.archive.stream import NextChunk, speaking_of_archives, uncompressed
from ross.linux.archive.tar import Entry, EntryType, TarReader
from ross.oci.archive import algorithm_of, blob_name, link_target, member_name
from ross.services.spool import Spooled

if TYPE_CHECKING:
    from collections.abc import Callable

    from ross.oci.digest import Digest
    from ross.services.spool import Spool

LIMITS: Final = ArchiveLimits(
    unpacked_bytes=1 << 40, entries=1 << 14, path_bytes=512, extended_header_bytes=64 << 10, xattr_bytes=4096
)
"""Of the archive itself; each layer in it has its own. So many names of such a length are what is held in memory."""
_MAX_LINKS: Final = 8


@define
class Members:
    """What an archive has in it."""

    files: dict[str, Spooled] = field(factory=dict)
    links: dict[str, str] = field(factory=dict)

    def find(self, name: str) -> Spooled | None:
        """The file of this name, or that a link of this name leads to.

        Raises:
            Corrupt: links lead in a circle.
        """
        for _step in range(_MAX_LINKS):
            if name in self.files:
                return self.files[name]
            if name not in self.links:
                return None
            name = self.links[name]
        raise Corrupt(f"the archive's member {name[:100]!r} is a link to a link to a link, and so on")

    def get(self, path: str, *, what: str) -> Spooled:
        """The file that a document of the archive names.

        Raises:
            Corrupt: it leads out of the archive, or is not there.
        """
        found = self.find(member_name(path.encode()))
        if found is None:
            raise Corrupt(f"the archive lacks {what}, {path[:200]!r}")
        return found

    def blob(self, digest: Digest) -> Spooled | None:
        """A blob of an OCI layout.

        Raises:
            Corrupt: what has its name is not what the name promises.
        """
        found = self.find(blob_name(digest))
        if found is not None and found.digest != digest:
            raise Corrupt(f"the archive's blob {digest} is not what its name promises: it hashes to {found.digest}")
        return found


def read_members(next_chunk: NextChunk, spool: Spool, *, checkpoint: Callable[[], None]) -> Members:
    """Read a whole archive, compressed or not. Blocking.

    Args:
        next_chunk: Its bytes; the empty chunk at the end.
        spool: Where its files go.
        checkpoint: Called for each member; may raise.

    Raises:
        InvalidArgument: it is in a form that is not read.
        Corrupt: it is damaged, or has a member that no archive of images has.
        ResourceExhausted: a limit was reached, or the disk is full.
    """
    members = Members()
    with speaking_of_archives():
        reader = TarReader(uncompressed(next_chunk, limits=LIMITS), limits=LIMITS)
        for entry in reader:
            checkpoint()
            _take(members, entry, reader, spool)
    return members


def _take(members: Members, entry: Entry, reader: TarReader, spool: Spool) -> None:
    name = member_name(entry.name)
    if entry.type is EntryType.DIRECTORY:
        return
    if not name:
        raise Corrupt("the archive has a member without a name")
    if entry.type is EntryType.FILE:
        _take_file(members, name, spool.add(reader.content(), algorithm=algorithm_of(name), expected_bytes=entry.size))
    elif entry.type in {EntryType.SYMLINK, EntryType.HARD_LINK}:
        soft = entry.type is EntryType.SYMLINK
        target = link_target(name, entry.link) if soft else member_name(entry.link)
        if name in members.files or members.links.get(name, target) != target:
            raise _twice(name)
        members.links[name] = target
    else:
        raise Corrupt(f"the archive has the member {name!r}, a {entry.type.value}, which no archive of images has")


def _take_file(members: Members, name: str, spooled: Spooled) -> None:
    known = members.files.setdefault(name, spooled)
    # Two readers that keep different twins see two archives in the same bytes.
    if name in members.links or known.digest != spooled.digest:
        raise _twice(name)
    if known is not spooled:
        spooled.path.unlink()


def _twice(name: str) -> Corrupt:
    return Corrupt(f"the archive has the member {name[:200]!r} twice, with different content")
