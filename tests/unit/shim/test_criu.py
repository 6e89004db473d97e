"""What CRIU says, in words for people; and that it is ended where it works, and nowhere else."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from ross.errors import FailedPrecondition, RossError
from ross.model.checkpoints import CheckpointOptions, RestoreOptions
from ross.shim.criu import criu_error, end_criu, flags_of, has_ended_it, said_in

NO_KERNEL = """Error (criu/vdso.c:381): vdso: Unexpected rt vDSO area bounds
Error (criu/vdso.c:613): vdso: Failed to fill self vdso symtable
Error (criu/kerndat.c:1615): kerndat_vdso_fill_symtable failed when initializing kerndat.
Error (criu/crtools.c:260): Could not initialize kernel features detection.
"""
CONNECTED = """(00.087103) 305 fdinfo 3: pos:                0 flags:             4002/0
(00.087561) Error (criu/sk-inet.c:191): inet: Connected TCP socket, consider using --tcp-established option.
(00.088127) ----------------------------------------
(00.089112) Error (criu/cr-dump.c:1780): Dumping FAILED.
"""
LOCKED = "(00.1) Error (criu/file-lock.c:110): Some file locks are hold by dumping tasks! You can try --file-locks to dump them.\n"
RESTORED = (
    "(00.031120)      1: Error (criu/files-reg.c:1831): Can't open file tmp/x on restore: No such file or directory\n"
)


def plain() -> RossError:
    return FailedPrecondition("the runtime could not checkpoint the container: criu failed: type NOTIFY errno 0")


def test_errors_are_told_without_where_they_are_in_the_source() -> None:
    assert said_in(NO_KERNEL).startswith("vdso: Unexpected rt vDSO area bounds; vdso: Failed to fill")
    assert said_in(CONNECTED) == "inet: Connected TCP socket, consider using --tcp-established option."
    assert said_in(RESTORED) == "Can't open file tmp/x on restore: No such file or directory"
    assert said_in("(00.1) Warn  (criu/x.c:1): nothing\n(00.2) Error message of a file\n") == ""


def test_names_of_files_cannot_steer_a_terminal_nor_fill_it() -> None:
    said = said_in(
        "".join(f"(00.1) Error (criu/files.c:1): {number} \x1b[31m{'x' * 10_000}\n" for number in range(100))
    )
    assert said.isprintable()
    assert len(said) < 1000


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (CONNECTED, "--tcp-established"),
        (LOCKED, "--file-locks"),
        (
            "(00.1) Error (criu/mount.c:1088): mnt: 145:./v/sub doesn't have a proper root mount\n",
            "mounts inside of mounts",
        ),
    ],
)
def test_what_to_do_about_it(tmp_path: Path, text: str, hint: str) -> None:
    log = tmp_path / "dump.log"
    log.write_text(text)
    error = criu_error(plain(), log)
    assert isinstance(error, FailedPrecondition)
    assert hint in (error.hint or "")
    assert said_in(text) in error.message


def test_without_a_log_the_runtime_has_the_word(tmp_path: Path) -> None:
    error = plain()
    assert criu_error(error, tmp_path / "dump.log") is error


@pytest.mark.parametrize(
    ("text", "ended"),
    [
        ("(00.94) \tUnseizing 305 into 2\n", True),
        ("(00.95) Dumping finished successfully\n", True),
        ("(00.94) \tUnseizing 305 into 1\n(00.94) Error (criu/cr-dump.c:1780): Dumping FAILED.\n", False),
        ("(00.01) ========================================\n(00.01) Dumping processes (pid: 305)\n", False),
        ("", False),
    ],
)
def test_whether_it_has_ended_the_processes(tmp_path: Path, text: str, ended: bool) -> None:
    log = tmp_path / "dump.log"
    log.write_text(text)
    assert has_ended_it(log) is ended
    assert not has_ended_it(tmp_path / "other")


def test_flags() -> None:
    assert flags_of(CheckpointOptions(keep=True)) == []
    assert flags_of(CheckpointOptions(leave_running=True, file_locks=True)) == ["--leave-running", "--file-locks"]
    assert flags_of(RestoreOptions(tcp_established=True)) == ["--tcp-established"]


def test_that_which_works_on_a_directory_is_ended(tmp_path: Path) -> None:
    """Also one that ignores the wish to end, and whose command line is another by now; and none that works elsewhere, or is none."""
    ours, other = tmp_path / "ours", tmp_path / "other"
    started = [begun(ours, "criu"), begun(other, "criu"), begun(ours, "runc")]
    try:
        assert end_criu(ours)
        assert [one.poll() for one in started] == [-9, None, None]
        assert end_criu(ours)
    finally:
        for one in started:
            one.kill()
            one.wait()


def begun(directory: Path, name: str) -> subprocess.Popen[bytes]:
    """A program of some name, at work in a directory."""
    directory.mkdir(exist_ok=True)
    (directory / name).symlink_to(Path(sys.executable).resolve())
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); open('up', 'w'); time.sleep(600)"
    process = subprocess.Popen([directory / name, "-I", "-S", "-c", script], cwd=directory)
    deadline = time.monotonic() + 30
    while not (directory / "up").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (directory / "up").unlink()
    return process
