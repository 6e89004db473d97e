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
    """Of one entry, or of all global ones."""
    global_records: int = 1000
    """Records of global headers: each costs something at every entry."""
    xattr_bytes: int = 64 << 10
    """One attribute's value; the kernel's own limit (XATTR_SIZE_MAX)."""
    noted_bytes: int = 256 << 20
    """What is kept in memory of directories until the end: several hundred thousand of them."""
    unsettled_bytes: int = 32 << 20
    """What is left to settle: names of implied directories, of whiteouts, and of links to what is below."""
