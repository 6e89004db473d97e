"""A filesystem of its own for a test: a fresh ext4 with a journal, in a file, by loop mount.

A machine's root filesystem may be anything: one without a journal that slows down after deletions, one on which overlay cannot write.
"""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def fresh_ext4(directory: Path, *, size: str = "4G") -> Iterator[Path]:
    """Yield the root of the filesystem; it is unmounted and deleted with the block, whatever is still mounted inside."""
    image, target = directory / "ext4.img", directory / "ext4"
    target.mkdir(parents=True)
    subprocess.run(["truncate", "-s", size, image], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, target], check=True)
    try:
        yield target
    finally:
        for mounted in reversed(_mounted_inside(target)):
            subprocess.run(["umount", "--lazy", mounted], check=False)
        subprocess.run(["umount", target], check=True)
        image.unlink()


@contextmanager
def ext4_in_memory(*, size: str = "2G") -> Iterator[Path]:
    """The same with its file in memory, for tests that commit much and look at little: a sync costs nothing."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory, fresh_ext4(Path(directory), size=size) as path:
        yield path


def _mounted_inside(target: Path) -> list[str]:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if point.startswith(f"{target}/")]
