"""Listening sockets, connections that wait, and notifications to a service manager."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from ross.linux.notify import notify
from ross.linux.unix_socket import is_accepted, listening_socket

if TYPE_CHECKING:
    from pathlib import Path


def test_socket_has_its_mode_and_replaces_a_stale_one(tmp_path: Path) -> None:
    path = tmp_path / "ross.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    with listening_socket(path, mode=0o660, gid=os.getgid()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    assert not path.exists()


@pytest.mark.parametrize("waiting", [0, 5])
def test_socket_that_another_one_listens_at_is_left_alone(tmp_path: Path, waiting: int) -> None:
    path = tmp_path / "ross.sock"
    with ExitStack() as stack:
        stack.enter_context(listening_socket(path, mode=0o600, gid=None, backlog=1))
        for _ in range(waiting):
            client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
            client.connect_ex(str(path))
        before = path.stat().st_ino
        with pytest.raises(OSError, match="another process listens there"):
            stack.enter_context(listening_socket(path, mode=0o600, gid=None))
        assert path.stat().st_ino == before


def test_socket_of_a_successor_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ross.sock"
    with listening_socket(path, mode=0o600, gid=None):
        path.unlink()
        path.write_text("the successor's")
    assert path.read_text() == "the successor's"


def test_too_long_path_says_so(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="longer than 103 bytes"),
        listening_socket(tmp_path / ("x" * 120), mode=0o600, gid=None),
    ):
        raise AssertionError("bound")


def test_connection_is_accepted_when_whoever_listens_has_taken_it(tmp_path: Path) -> None:
    path = tmp_path / "attach"
    with ExitStack() as stack:
        listener, *clients = (
            stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) for _ in range(3)
        )
        listener.bind(str(path))
        listener.listen()
        for client in clients:
            client.connect(str(path))
        assert [is_accepted(client) for client in clients] == [False, False]
        stack.enter_context(listener.accept()[0])
        assert [is_accepted(client) for client in clients] == [True, False]
        stack.enter_context(listener.accept()[0])
        assert [is_accepted(client) for client in clients] == [True, True]


def test_notify_reaches_the_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        assert notify("READY=1", "STATUS=serving")
        assert manager.recv(100) == b"READY=1\nSTATUS=serving"
    monkeypatch.delenv("NOTIFY_SOCKET")
    assert not notify("READY=1")
