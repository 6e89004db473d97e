"""Content digests (image-spec, descriptor.md, "Digests") and the identities built from them (config.md, "Layer ChainID")."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from ross.errors import Corrupt, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterable
    from hashlib import _Hash

ENCODED_LENGTH: Final = {"sha256": 64, "sha512": 128}
"""The algorithms that Ross accepts, with the number of hexadecimal characters of each."""

_HEX: Final = re.compile(r"[0-9a-f]+\Z")


@frozen(order=True, repr=False)
class Digest:
    """An algorithm and a hash, checked when made: safe in a path, a URL and a log line."""

    algorithm: str = field()
    encoded: str = field()

    def __attrs_post_init__(self) -> None:
        length = ENCODED_LENGTH.get(self.algorithm)
        if length is None:
            known = ", ".join(ENCODED_LENGTH)
            raise InvalidArgument(f"digest algorithm {self.algorithm[:32]!r} is not one of {known}")
        if len(self.encoded) != length or not _HEX.match(self.encoded):
            raise InvalidArgument(
                f"{self.algorithm} digest {self.encoded[:140]!r} is not {length} lower-case hexadecimal characters"
            )

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read ``algorithm:hex``.

        Raises:
            InvalidArgument: it is not of that form, or the algorithm is not one that Ross accepts.
        """
        algorithm, colon, encoded = text.partition(":")
        if not colon:
            raise InvalidArgument(f"digest {text[:140]!r} is not of the form algorithm:hex")
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: bytes, *, algorithm: str = "sha256") -> Digest:
        """The digest of some bytes."""
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    @property
    def short(self) -> str:
        """The first 12 characters of the hash, as lists show it."""
        return self.encoded[:12]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.encoded}"

    def __repr__(self) -> str:
        return f"<Digest {self}>"


class Verifier:
    """Takes bytes as they stream by and says at the end whether they are what was promised."""

    def __init__(self, digest: Digest, *, size_bytes: int | None = None) -> None:
        self.digest = digest
        self.size_bytes = size_bytes
        self.seen_bytes = 0
        self._hash: _Hash = hashlib.new(digest.algorithm)

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes.

        Raises:
            Corrupt: there are more of them than the descriptor promised.
        """
        self.seen_bytes += len(data)
        if self.size_bytes is not None and self.seen_bytes > self.size_bytes:
            raise Corrupt(f"{self.digest} has more than the {self.size_bytes} bytes its descriptor promises")
        self._hash.update(data)

    def verify(self) -> None:
        """Check what was taken.

        Raises:
            Corrupt: too few bytes, or other bytes.
        """
        if self.size_bytes is not None and self.seen_bytes != self.size_bytes:
            raise Corrupt(
                f"{self.digest} ended after {self.seen_bytes} of the {self.size_bytes} bytes its descriptor promises"
            )
        actual = self._hash.hexdigest()
        if actual != self.digest.encoded:
            raise Corrupt(f"content is not {self.digest}: it hashes to {self.digest.algorithm}:{actual}")


def chain_ids(diff_ids: Iterable[Digest]) -> tuple[Digest, ...]:
    """The identity of each stack of layers, bottom first: ``sha256(parent + " " + diff_id)``, the first its diff ID."""
    chain: list[Digest] = []
    for diff_id in diff_ids:
        chain.append(Digest.of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return tuple(chain)
