"""What processes have in memory."""

from __future__ import annotations

from pathlib import Path


def proportional_bytes(pid: int) -> int:
    """The proportional set size of a process; 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
