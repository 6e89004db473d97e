"""A process that unpacks ends with its socket, however that ends."""

from __future__ import annotations

import gzip
import json
import os
import select
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from attrs import asdict

from ross.linux.archive.limits import ArchiveLimits
from ross.linux.archive.workers import _PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def ours() -> Iterator[socket.socket]:
    """Our end of the socket of a worker."""
    ours, theirs = socket.socketpair()
    argv = [sys.executable, "-I", "-B", "-c", _PROGRAM, str(theirs.fileno()), json.dumps(sys.path)]
    with theirs:
        process = subprocess.Popen(argv, pass_fds=(theirs.fileno(),), stderr=subprocess.PIPE)
    with ours:
        yield ours
        _output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")


def begin(ours: socket.socket, directory: Path) -> None:
    """Have it unpack what comes in only as far as the first report."""
    blob = directory / "blob"
    blob.write_bytes(gzip.compress(os.urandom(3 << 20)))
    root = directory / "root"
    root.mkdir()
    request = {"algorithm": "sha256", "size_bytes": 4 << 20, "limits": asdict(ArchiveLimits())}
    lines = "".join(json.dumps(one) + "\n" for one in (request, {"available": 2 << 20})).encode()
    blob_fd, root_fd = os.open(blob, os.O_RDONLY), os.open(root, os.O_RDONLY)
    socket.send_fds(ours, [lines], [blob_fd, root_fd])
    for fd in (blob_fd, root_fd):
        os.close(fd)
    assert ours.recv(1 << 16, socket.MSG_PEEK), "it reports how much it has read, and waits for more"


@pytest.mark.parametrize("unread", [True, False], ids=["reset", "closed"])
def test_it_ends_with_whoever_started_it(ours: socket.socket, tmp_path: Path, *, unread: bool) -> None:
    """What dies without having read the reports leaves a socket that is reset, not closed."""
    begin(ours, tmp_path)
    if not unread:
        ours.recv(1 << 16)
    ours.close()


def test_it_ends_without_a_word_when_nobody_takes_its_answer(ours: socket.socket, tmp_path: Path) -> None:
    """Which it may find out before it is told of the end: here it never is."""
    begin(ours, tmp_path)
    ours.shutdown(socket.SHUT_RD)
    ours.send(json.dumps({"available": 4 << 20}).encode() + b"\n")
    ended = select.poll()
    ended.register(ours, 0)
    assert ended.poll(60_000), "before its socket is closed"
