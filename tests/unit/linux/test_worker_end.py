"""A process that unpacks ends with its socket, however that ends."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from attrs import asdict

from ross.linux.archive.limits import ArchiveLimits
from ross.linux.archive.workers import _PROGRAM

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("unread", [True, False], ids=["reset", "closed"])
def test_it_ends_with_whoever_started_it(tmp_path: Path, *, unread: bool) -> None:
    """What dies without having read the reports leaves a socket that is reset, not closed."""
    ours, theirs = socket.socketpair()
    with theirs:
        argv = [sys.executable, "-I", "-B", "-c", _PROGRAM, str(theirs.fileno()), json.dumps(sys.path)]
        process = subprocess.Popen(argv, pass_fds=(theirs.fileno(),))
    blob = tmp_path / "blob"
    blob.write_bytes(gzip.compress(os.urandom(3 << 20)))
    root = tmp_path / "root"
    root.mkdir()
    request = {"algorithm": "sha256", "size_bytes": 4 << 20, "limits": asdict(ArchiveLimits())}
    lines = "".join(json.dumps(one) + "\n" for one in (request, {"available": 2 << 20})).encode()
    blob_fd, root_fd = os.open(blob, os.O_RDONLY), os.open(root, os.O_RDONLY)
    with ours:
        socket.send_fds(ours, [lines], [blob_fd, root_fd])
        assert ours.recv(1 << 16, socket.MSG_PEEK), "it reports how much it has read, and waits for more"
        if not unread:
            time.sleep(0.2)  # the second report, so that nothing is unread; one that comes later makes this a reset too
            ours.recv(1 << 16)
    for fd in (blob_fd, root_fd):
        os.close(fd)
    assert process.wait(20) == 0
