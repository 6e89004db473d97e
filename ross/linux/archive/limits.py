"""Bounds on what an archive may make us do."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class ArchiveLimits:
    """Of one archive. Sizes are bytes."""

    unpacked_bytes: int = 64 << 30
    ratio: int = 500
    """Unpacked to packed; counted once ``ratio_from_bytes`` are unpacked. Deflate alone reaches 1032, for zeros."""
    ratio_from_bytes: int = 1 << 30
    entries: int = 4_000_000
    path_bytes: int = 4095
    """PATH_MAX without its terminating zero."""
    extended_header_bytes: int = 1 << 20
    xattr_bytes: int = 64 << 10
    """One attribute's value; the kernel's own limit (XATTR_SIZE_MAX)."""
