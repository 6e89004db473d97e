"""Labels on content: small, kept beside it, and gone with it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from ross.errors import InvalidArgument, RossError
from ross.linux.files import make_directory, remove_or_leave, write_atomic
from ross.oci.codec import read_record, write_record
from ross.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ross.layout import StateLayout

logger = logging.getLogger(__name__)

MAX_LABELS: Final = 64
MAX_BYTES: Final = 4096
"""Of a key and its value together."""


@frozen(kw_only=True)
class LabelRecord:
    """What is known of a piece of content besides itself."""

    digest: Digest
    updated_at: int
    labels: dict[str, str] = field(factory=dict)


class ContentLabels:
    """The labels, in memory and on disk. All methods are brief and block."""

    def __init__(self, layout: StateLayout) -> None:
        self._directory = layout.labels
        self._known: dict[Digest, LabelRecord] = {}

    def recover(self, is_there: Callable[[Digest], bool]) -> None:
        """Read what is there; labels of what is not are removed."""
        make_directory(self._directory)
        for path in self._directory.iterdir():
            record = _read(path)
            if record is None or path != self._path(record.digest) or not is_there(record.digest):
                logger.info("removing %s, which labels nothing that is there", path)
                remove_or_leave(path)
            else:
                self._known[record.digest] = record

    def find(self, digest: Digest) -> LabelRecord | None:
        """The labels of a piece of content, if it has any."""
        return self._known.get(digest)

    def all(self) -> tuple[LabelRecord, ...]:
        return tuple(self._known.values())

    def set(self, record: LabelRecord) -> None:
        """Note labels, durably.

        Raises:
            InvalidArgument: there are too many, or one is not allowed.
            OSError: they could not be written; the old ones hold.
        """
        check_labels(record.labels)
        make_directory(self._directory)
        write_atomic(self._path(record.digest), write_record(record))
        self._known[record.digest] = record

    def forget(self, digest: Digest) -> None:
        """Take all labels away; none is fine."""
        if self._known.pop(digest, None) is not None:
            self._path(digest).unlink(missing_ok=True)

    def path(self, digest: Digest) -> Path:
        """Where the labels of a piece of content are kept."""
        return self._path(digest)

    def _path(self, digest: Digest) -> Path:
        return self._directory / f"{digest.algorithm}-{digest.encoded}.json"


def check_labels(labels: Mapping[str, str]) -> None:
    """See that labels are few and small.

    Raises:
        InvalidArgument: they are not.
    """
    if len(labels) > MAX_LABELS:
        raise InvalidArgument(f"content has at most {MAX_LABELS} labels, not {len(labels)}")
    for key, value in labels.items():
        if not key or not key.isprintable() or "=" in key:
            raise InvalidArgument(f"{key[:100]!r} is not a key of a label")
        if len(key.encode()) + len(value.encode()) > MAX_BYTES:
            raise InvalidArgument(f"the label {key[:100]!r} is larger than {MAX_BYTES} bytes")


def _read(path: Path) -> LabelRecord | None:
    try:
        return read_record(path.read_bytes(), LabelRecord, what="label record")
    except (OSError, RossError):
        return None
