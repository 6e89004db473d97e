"""A real daemon process, with a root and a run directory of its own; and the command line against it."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_START_SECONDS = 120
_STOP_SECONDS = 60
_COMPLAINT = re.compile(r"^\S+ (?:warning|error|critical) .*|^Traceback .*", re.MULTILINE)

_TRANSIENT_SECONDS = 5
_CHECKOUT = Path(__file__).parents[2]


class Daemon:
    """One root, and the daemon on it: may be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        self.run = directory / "run"
        self.socket = self.run / "ross.sock"
        self._log = directory / "daemon.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._expected: list[str] = []
        self._cgroups_before = set(_cgroups())

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything that the daemons of this root have logged."""
        return self._log.read_text()

    def expect_log(self, pattern: str) -> None:
        """Let a warning or error be logged that matches."""
        self._expected.append(pattern)

    def complaints(self) -> list[str]:
        """Warnings, errors and tracebacks in the log that nobody expected."""
        return [
            line for line in _COMPLAINT.findall(self.log) if not any(re.search(one, line) for one in self._expected)
        ]

    def start(self, *, under: Sequence[str] = (), settings: Mapping[str, str] | None = None) -> None:
        """Start, and wait until it answers.

        Args:
            under: A program, with its arguments, that runs it: one that executes it in its own place.
            settings: Variables of its environment.
        """
        # Isolated, as a unit would start it, and yet the very checkout that these tests belong to.
        program = f"import sys; sys.path.insert(0, {str(_CHECKOUT)!r}); from ross.__main__ import main; main()"
        argv = [sys.executable, "-I", "-B", "-c", program, "daemon", "--root", str(self.root), "--run", str(self.run)]
        env = {**os.environ, **(settings or {})}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*under, *argv], env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + _START_SECONDS
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the daemon did not start: {self.log}")
            time.sleep(0.02)

    def _listens(self) -> bool:
        """Its socket is bound when it can answer, not earlier; what an earlier one has left refuses."""
        with socket.socket(socket.AF_UNIX) as ours:
            return ours.connect_ex(str(self.socket)) == 0

    def kill(self) -> None:
        """End it with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self) -> int:
        """Ask it to end; returns its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(_STOP_SECONDS)

    def wait_ended(self) -> int:
        """Wait until it has ended by itself; returns its exit code."""
        assert self._process is not None
        return self._process.wait(_STOP_SECONDS)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ross(self, *words: str, input: str | None = None, timeout: float = 60) -> subprocess.CompletedProcess[str]:  # noqa: A002
        """Run the command line against it."""
        return subprocess.run(
            command(*words),
            env=self.environment(),
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def ok(self, *words: str) -> str:
        """Run the command line against it, which succeeds; returns what it prints."""
        done = self.ross(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def popen(self, *words: str) -> subprocess.Popen[bytes]:
        """Start the command line against it, with pipes."""
        pipe = subprocess.PIPE
        return subprocess.Popen(command(*words), env=self.environment(), stdin=pipe, stdout=pipe, stderr=pipe)

    def environment(self) -> dict[str, str]:
        return {**os.environ, "ROSS_SOCKET": str(self.socket)}

    def open_fds(self) -> int:
        """How many descriptors it has, but for connections to registries, some of which are kept for the next pull."""
        tcp = {line.split()[9] for line in _lines(f"/proc/{self.pid}/net/tcp")[1:]}
        found = 0
        for path in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                target = str(path.readlink())
            except FileNotFoundError:  # closed meanwhile
                continue
            found += target.removeprefix("socket:[").removesuffix("]") not in tcp
        return found

    def connections(self) -> int:
        """How many clients' connections it holds, and has not accepted yet."""
        held = [line.split()[-1] for line in _lines(f"/proc/{self.pid}/net/unix")]
        return sum(name.startswith(str(self.socket)) for name in held) - 1  # that which listens

    def monitors(self) -> set[int]:
        """The processes of all monitors: of containers, and of what is executed."""
        return {int(path.read_text()) for path in self.run.rglob("monitor.pid")}

    def rss_bytes(self) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no VmRSS")

    def clean_up(self) -> None:
        """Remove every container, so that nothing outlives the test."""
        if not self.running:
            self.start()
        if not any((self.root / "containers").iterdir()):
            return
        identities = self.ross("ps", "-aq").stdout.split()
        if identities:
            self.ross("rm", "-f", *identities)

    def lasting_leaks(self, *, seconds: float = 30) -> list[str]:
        """What is left for longer than it takes a daemon to tidy up behind a client that has broken something off just now."""
        deadline = time.monotonic() + seconds
        while (found := self.leaks()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def leaks(self) -> list[str]:
        """What is left on the host and in the directories although there is no container any more."""
        top = str(self.root.parent)
        found = [
            f"mount {line.split()[4]}"
            for line in _lines("/proc/self/mountinfo")
            if line.split()[4].startswith(f"{top}/")
        ]
        found += [f"process {pid}: {argv[:200]}" for pid, argv in _processes() if top in argv and pid != self.pid]
        found += [f"process {pid} of an earlier daemon" for pid in _writers_below(top) if pid != self.pid]
        found += [f"cgroup {path}" for path in self._forsaken_cgroups()]
        for directory in (self.root / "ingest", self.root / "containers", self.root / "trash", *self.run.iterdir()):
            if directory.is_dir():
                found += [str(path) for path in directory.iterdir()]
        snapshots = self.root / "snapshots"
        found += [
            str(path) for path in snapshots.iterdir() if not path.name.startswith("sha256-") and path.name != "empty"
        ]
        return found

    def _forsaken_cgroups(self) -> list[Path]:
        """Empty ones that stay: one of another daemon on this host, which is just being made or removed, is no leak."""
        found = _forsaken(set(_cgroups()) - self._cgroups_before)
        deadline = time.monotonic() + _TRANSIENT_SECONDS
        while found and time.monotonic() < deadline:
            time.sleep(0.05)
            found = _forsaken({path for path in found if path.exists()})
        return found


def _writers_below(directory: str) -> Iterator[int]:
    """Orphans that have a log in this directory as their standard error: nobody but a daemon's own processes has."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if (process / "fd/2").readlink().is_relative_to(directory) and parent == 1:
                yield int(process.name)
        except OSError:  # it has ended
            continue


def command(*words: str) -> list[str]:
    """The command line, run by this interpreter."""
    return [sys.executable, "-m", "ross", *words]


@contextmanager
def running_daemon(directory: Path, *, settings: Mapping[str, str] | None = None) -> Iterator[Daemon]:
    """A daemon with its state in ``directory``, ended with the block, which fails if it leaks or complains."""
    daemon = Daemon(directory)
    daemon.start(settings=settings)
    failed = True
    try:
        yield daemon
        failed = False
    finally:
        daemon.clean_up()
        leaks = daemon.lasting_leaks()
        code = daemon.terminate()
        if not failed:
            assert not leaks, leaks
            assert code == 0, daemon.log
            assert not daemon.complaints(), daemon.complaints()


def let_others_pass(directory: Path) -> None:
    """Let everybody get to a directory, as on a host to /run: containers with users of their own must."""
    for path in directory.parents:
        mode = path.stat().st_mode
        if not mode & stat.S_IXOTH:
            path.chmod(mode | stat.S_IXOTH)


def _cgroups() -> list[Path]:
    top = Path("/sys/fs/cgroup")
    return [path for name in ("ross", "ross.slice") for kind in ("", "*/") for path in top.glob(f"{kind}{name}/*/")]


def _forsaken(groups: set[Path]) -> list[Path]:
    """Those in which nothing lives and that nobody removes: other daemons of this host make and remove some meanwhile."""
    if groups:
        time.sleep(1)
    return [path for path in groups if path.exists() and not (path / "cgroup.procs").read_text()]


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _processes() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                argv = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            except OSError:
                continue
            if int(entry.name) != os.getpid():
                yield int(entry.name), argv
