"""Root filesystems of tests that run as anybody."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ross.shim.rootfs import open_rootfs

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ross.shim.rootfs import Rootfs


def open_as_ours(path: Path) -> AbstractContextManager[Rootfs]:
    """A directory as a root filesystem whose root is whoever runs the tests."""
    return open_rootfs(path, root=(os.geteuid(), os.getegid()))
