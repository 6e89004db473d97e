"""Names of images on disk: one small record for each name, written in one step."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from attrs import frozen

from ross.errors import InvalidArgument, RossError
from ross.linux.files import is_unfinished, make_directory, remove_or_leave, sync_directory, write_atomic
from ross.oci.codec import read_record, write_record
from ross.oci.digest import Digest
from ross.oci.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from ross.layout import StateLayout
    from ross.services.pending import Pending

logger = logging.getLogger(__name__)

_KEEPING: Final = ("localhost", "untagged")


@frozen(kw_only=True)
class TagRecord:
    """What a name denotes."""

    target: Digest
    """The index or manifest that the registry has under the name."""
    manifest: Digest
    """The manifest that was chosen of it for a platform; the same where there is no index."""
    others: tuple[Digest, ...] = ()
    """Further manifests of the index that are here too, for other platforms."""

    @property
    def manifests(self) -> tuple[Digest, ...]:
        """All that are here; first the one that the name denotes."""
        return (self.manifest, *self.others)

    def without(self, manifest: Digest) -> TagRecord | None:
        """The same with one manifest less; None if none is left."""
        left = [one for one in self.manifests if one != manifest]
        return TagRecord(target=self.target, manifest=left[0], others=tuple(left[1:])) if left else None


class Tags:
    """The names, in memory and on disk. All methods are brief and block."""

    def __init__(self, layout: StateLayout) -> None:
        self._root = layout.tags
        self._known: dict[Reference, TagRecord] = {}
        self._pending: dict[Reference, Pending] = {}

    def recover(self) -> None:
        """Read what is there; what is no name, or no record, is removed."""
        for path, reference in _names(self._root):
            record = _read(path) if reference is not None else None
            if reference is None or record is None:
                level = logging.INFO if is_unfinished(path) else logging.WARNING
                logger.log(level, "removing %s, which names no image", path)
                remove_or_leave(path)
            else:
                self._known[reference] = record

    def records(self) -> tuple[tuple[Reference, TagRecord], ...]:
        return tuple(self._known.items())

    def files(self) -> tuple[Path, ...]:
        """Where the names are, or will be, on the disk."""
        return tuple(self._path(reference) for reference in self._known)

    def find(self, reference: Reference) -> TagRecord | None:
        """What a name denotes."""
        return self._known.get(canonical(reference))

    def of(self, manifest: Digest) -> tuple[Reference, ...]:
        """The names of an image, sorted; also those that denote it for another platform than the first. Without keepers."""
        found = (ref for ref, record in self._known.items() if manifest in record.manifests and not is_keeper(ref))
        return tuple(sorted(found, key=str))

    def reach(self, manifest: Digest) -> bool:
        """Some name leads to this manifest, or a keeper does."""
        return any(manifest in record.manifests for record in self._known.values())

    def let_go(self, manifests: Iterable[Digest]) -> None:
        """These have names again: they need no keepers any more."""
        keepers = [(reference, record) for reference, record in self._known.items() if is_keeper(reference)]
        for reference, record in keepers:
            left: TagRecord | None = record
            for manifest in manifests:
                left = left.without(manifest) if left is not None else None
            self.change(reference, left)

    def denote(self, manifest: Digest) -> bool:
        """Some name denotes this very manifest, if no platform is asked for."""
        return any(record.manifest == manifest for record in self._known.values())

    def manifests_of(self, target: Digest) -> tuple[Digest, ...]:
        """The manifests of an index that are here, under whichever name."""
        found = (record.manifests for record in self._known.values() if record.target == target)
        return tuple(dict.fromkeys(manifest for manifests in found for manifest in manifests))

    def announce(self, reference: Reference, record: TagRecord, pending: Pending) -> None:
        """Let a name denote what is not on the disk for certain: ``pending`` keeps it until :meth:`settle` is called.

        Raises:
            OSError: it could not be written; the name denotes what it did.
        """
        reference = canonical(reference)
        pending.set_name(str(reference), record)
        if self._pending.get(reference) is not pending:
            self._overtake(reference)
        self._pending[reference] = pending
        self._known[reference] = record

    def kept_by(self, manifest: Digest) -> Pending | None:
        """What keeps a name of this manifest until the disk has it."""
        keepers = (pending for ref, pending in self._pending.items() if manifest in self._known[ref].manifests)
        return next(keepers, None)

    def settle(self, pending: Pending) -> None:
        """What was announced is on the disk: write the names to their places."""
        for reference in [one for one, kept_by in self._pending.items() if kept_by is pending]:
            self.set(reference, self._known[reference])

    def _overtake(self, reference: Reference) -> None:
        pending = self._pending.get(reference)
        if pending is not None:
            pending.set_name(str(reference), None)
            del self._pending[reference]

    def set(self, reference: Reference, record: TagRecord) -> None:
        """Let a name denote something, durably.

        Raises:
            OSError: it could not be written; the name denotes what it did.
        """
        reference = canonical(reference)
        path = self._path(reference)
        make_directory(path.parent)
        write_atomic(path, write_record(record))
        self._known[reference] = record
        self._overtake(reference)

    def remove(self, reference: Reference) -> None:
        """Take a name away, durably; missing is fine.

        Raises:
            OSError: it could not be taken away; the name denotes what it did.
        """
        reference = canonical(reference)
        if reference not in self._known:
            return
        path = self._path(reference)
        if path.exists():
            path.unlink()
            sync_directory(path.parent)
        self._overtake(reference)
        del self._known[reference]
        for parent in path.parents:
            if parent == self._root:
                return
            try:
                parent.rmdir()
            except OSError:  # other names live there
                return

    def change(self, reference: Reference, record: TagRecord | None) -> None:
        """Let a name denote something else, or nothing any more."""
        if record is None:
            self.remove(reference)
        elif record != self.find(reference):
            self.set(reference, record)

    def without(self, manifest: Digest) -> dict[Reference, TagRecord | None]:
        """What the names of a manifest denote without it: another platform, or nothing any more. Changes nothing."""
        return {ref: record.without(manifest) for ref, record in self._known.items() if manifest in record.manifests}

    def nameless_after(self, changes: Mapping[Reference, TagRecord | None]) -> tuple[Digest, ...]:
        """The manifests that no name would lead to any more after these changes."""
        after = {reference: changes.get(reference, record) for reference, record in self._known.items()}
        left = {manifest for record in after.values() if record is not None for manifest in record.manifests}
        before = [record for reference, record in self._known.items() if reference in changes]
        return tuple(dict.fromkeys(one for record in before for one in record.manifests if one not in left))

    def _path(self, reference: Reference) -> Path:
        last = f"@{reference.digest}" if reference.digest else f":{reference.tag}"
        return self._root / reference.host / reference.path / last


def keeper(target: Digest) -> Reference:
    """Under what an image without a name is kept. Nobody is told of it as of a name, but whoever types it finds the image."""
    return Reference(*_KEEPING, None, target)


def is_keeper(reference: Reference) -> bool:
    """Whether it keeps an image without a name."""
    return (reference.host, reference.path) == _KEEPING and reference.digest is not None


def nameable(name: str) -> Reference:
    """A name that can be given: with a tag."""
    reference = Reference.parse(name).with_default_tag()
    if reference.digest is not None:
        raise InvalidArgument(
            f"{name!r} has a digest in it, which is not for us to give", hint="write name[:tag] or host/name[:tag]"
        )
    return reference


def canonical(reference: Reference) -> Reference:
    """A digest says more than a tag beside it: the name is by digest then."""
    reference = reference.with_default_tag()
    return Reference(reference.host, reference.path, None, reference.digest) if reference.digest else reference


def _names(root: Path) -> Iterator[tuple[Path, Reference | None]]:
    for path in sorted(root.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        yield path, _reference(path.relative_to(root))


def _reference(relative: Path) -> Reference | None:
    host, *parts, last = relative.parts if len(relative.parts) >= 3 else ("", "", "")
    try:
        if last.startswith(":"):
            return Reference(host, "/".join(parts), last[1:])
        if last.startswith("@"):
            return Reference(host, "/".join(parts), None, Digest.parse(last[1:]))
    except RossError:
        return None
    return None


def _read(path: Path) -> TagRecord | None:
    try:
        return read_record(path.read_bytes(), TagRecord, what="tag record")
    except (OSError, RossError):
        return None
