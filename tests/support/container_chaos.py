"""Daemon, client, monitor, runtime or container killed at random moments of random operations on twenty containers.

python -m tests.support.container_chaos [--rounds N] [--seed N] [--containers N]          (as root)

After each round, as soon as all has settled, every container must have its one record, and what runs its one monitor; nothing may be
mounted, running, or kept below the run directory that belongs to no container; every outcome must be right, and every line there.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

import ross
from ross.errors import ErrorCode, RossError
from ross.linux.processes import pids_of_cgroup
from ross.model.containers import ContainerState
from ross.model.mounts import Mount, MountKind
from tests.support.daemon import Daemon, let_others_pass
from tests.support.ext4 import fresh_ext4
from tests.support.images import busybox_image, push
from tests.support.registry import running_registry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ross.client import Container, Engine
    from ross.model.containers import ContainerInfo

    Action = Callable[[Engine], Awaitable[None]]

LONGEST_SECONDS: Final = 0.5
SETTLED_SECONDS: Final = 60.0
CLIENT_SECONDS: Final = 60.0
AT_ONCE: Final = 3
PROGRAM: Final = """
trap 'exit 7' TERM
n=0; echo begin
while :; do for i in 1 2 3 4 5 6 7 8 9 10; do n=$((n + 1)); echo line $n; done; sleep 0.2; done
"""
ALIVE: Final = {ContainerState.RUNNING, ContainerState.PAUSED}
RESTING: Final = {ContainerState.CREATED, ContainerState.STOPPED}
VICTIMS: Final = ("daemon", "daemon", "client", "monitor", "runtime", "container", "nobody")
OPERATIONS: Final = (
    "start", "start", "start", "stop", "kill", "pause", "resume", "restart", "exec", "update", "logs", "replace",
)  # fmt: skip
_LINE: Final = re.compile(rb"line (\d+)\n")


class Chaos:
    """The containers of one daemon, and what was done to them."""

    def __init__(self, daemon: Daemon, reference: str, rng: random.Random, *, containers: int) -> None:
        self.daemon = daemon
        self.reference = reference
        self.rng = rng
        self.names = [f"c{number}" for number in range(containers)]
        self.unwatched: set[str] = set()
        """Ids of those whose monitor was killed: how they ended cannot be known, and their output has an end there."""

    def begin(self) -> None:
        for name in self.names:
            assert self._child("replace", name).wait() == 0

    def one_round(self) -> list[str]:
        """Returns what is wrong after it."""
        names = self.rng.sample(self.names, AT_ONCE)
        doing = [(self.rng.choice(OPERATIONS), name) for name in names]
        victim = self.rng.choice(VICTIMS)
        clients = [self._child(*one) for one in doing]
        time.sleep(self.rng.uniform(0, LONGEST_SECONDS))
        self._kill(victim, clients)
        wrong = [
            f"{' '.join(one)}: {text}" for one, client in zip(doing, clients, strict=True) if (text := client.end())
        ]
        if not self.daemon.running:
            self.daemon.start()
        wrong += self._settled()
        story = f"{', '.join(' '.join(one) for one in doing)}; killed: {victim}"
        return [f"{story}: {one}" for one in wrong]

    # -- doing --------------------------------------------------------------------------------------------------------

    def _child(self, operation: str, name: str) -> Client:
        return Client(lambda engine: _do(engine, operation, name, self.reference), str(self.daemon.socket))

    def _kill(self, victim: str, clients: list[Client]) -> None:
        if victim == "daemon":
            self.daemon.kill()
        elif victim == "client":
            self.rng.choice(clients).kill()
        elif victim == "runtime":
            deadline = time.monotonic() + LONGEST_SECONDS
            while time.monotonic() < deadline:
                for pid, _argv in self._programs("runc"):
                    _end(pid)
                    return
        elif victim == "monitor":
            monitors = self._monitors()
            if monitors:
                identity = self.rng.choice(sorted(monitors))
                self.unwatched.add(identity)
                _end(monitors[identity][0])
        elif victim == "container":
            pids = [
                pid for path in self.daemon.root.glob("containers/*") for pid in pids_of_cgroup(f"/ross/{path.name}")
            ]
            if pids:
                _end(self.rng.choice(pids))

    def _programs(self, name: str) -> list[tuple[int, list[str]]]:
        """Processes of this program that belong to this daemon."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    argv = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                    if argv[0].endswith(name) and any(str(self.daemon.run) in word for word in argv):
                        found.append((int(entry.name), argv))
        return found

    def _monitors(self) -> dict[str, list[int]]:
        """The monitors of containers, by id; not those of execs."""
        found: dict[str, list[int]] = {}
        for pid, argv in self._programs("conmon"):
            if "--exec" not in argv:
                found.setdefault(argv[argv.index("--cid") + 1], []).append(pid)
        return found

    # -- looking ------------------------------------------------------------------------------------------------------

    def _settled(self) -> list[str]:
        """What is wrong, and stays so."""
        deadline = time.monotonic() + SETTLED_SECONDS
        while wrong := self._look():
            if time.monotonic() > deadline:
                return wrong
            time.sleep(0.1)
        return []

    def _look(self) -> list[str]:
        try:
            infos, logs = trio.run(_observe, str(self.daemon.socket))
        except RossError as error:
            return [f"it cannot be looked at: {error}"]
        alive = {info.id for info in infos if info.state in ALIVE}
        wrong = [one for info in infos for one in self._wrong_with(info, logs[info.id])]
        wrong += [
            f"{name} is missing" for name in set(self.names) - {info.name for info in infos} if not self._unmade(name)
        ]
        ids = {info.id for info in infos}
        root, run = self.daemon.root, self.daemon.run
        wrong += [f"a record of no container: {one}" for one in _names(root / "containers") ^ ids]
        snapshots = {one for one in _names(root / "snapshots") if not one.startswith("sha256-") and one != "empty"}
        wrong += [f"a snapshot of no container: {one}" for one in snapshots ^ ids]
        for directory in ("monitors", "runtime", "exits", "roots"):
            wrong += [f"{directory} of none that runs: {one}" for one in _names(run / directory) - alive]
        wrong += [f"an exec is left: {one}" for one in _names(run / "execs")]
        wrong += [f"in the trash: {one}" for one in _names(root / "trash")]
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        wrong += [
            f"mounted: {path}"
            for path in mounts
            if (path.startswith(f"{root}/") and not any(one in path for one in alive)) or path.startswith(f"{run}/")
        ]
        monitors = self._monitors()
        wrong += [f"a monitor of none that runs: {one}" for one in set(monitors) - alive]
        wrong += [f"{len(pids)} monitors of {one}" for one, pids in monitors.items() if len(pids) != 1]
        wrong += [f"no monitor of {one}" for one in alive - set(monitors) - self.unwatched]
        wrong += [f"the runtime goes on: {argv}" for _pid, argv in self._programs("runc")]
        return wrong

    def _unmade(self, name: str) -> bool:
        """A replacement that was broken off has left none of this name: make it again."""
        return self._child("replace", name).wait() == 0

    def _wrong_with(self, info: ContainerInfo, log: bytes) -> list[str]:
        wrong = []
        pids = pids_of_cgroup(f"/ross/{info.id}")
        if info.state in ALIVE:
            if info.pid not in pids:
                wrong.append(f"process {info.pid} is not among {pids}")
        elif info.state not in RESTING:
            wrong.append(f"it stays {info.state.value}")
        elif pids:
            wrong.append(f"{info.state.value}, with processes {pids}")
        elif _cgroups(info.id):
            wrong.append(f"{info.state.value}, with control groups")
        outcome = info.outcome
        if info.state is ContainerState.STOPPED:
            known = outcome is not None and outcome.exit_code in {7, 137} and not outcome.error
            if not known and info.id not in self.unwatched:
                wrong.append(f"it ended with {outcome}")
        expected = 0
        for line in log.splitlines(keepends=True):
            match = _LINE.fullmatch(line)
            if line == b"begin\n":
                expected = 1
            elif match and int(match[1]) == expected:
                expected += 1
            elif info.id not in self.unwatched:
                wrong.append(f"the log has {line!r} where line {expected} should be")
                break
        return [f"{info.name} ({info.id[:12]}): {one}" for one in wrong]


class Client:
    """A process that connects and does something: forked, so that it costs no start."""

    def __init__(self, action: Action, socket: str) -> None:
        self._read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.close(self._read)
                text = trio.run(_act, action, socket)
                os.write(write, text.encode())
                code = 0 if not text else 1
            finally:
                os._exit(code)
        os.close(write)
        self._pidfd = os.pidfd_open(self.pid)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def end(self) -> str:
        """Wait until it has ended; returns what went wrong that must not."""
        deadline = time.monotonic() + CLIENT_SECONDS
        while os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() > deadline:
                self.kill()
                self.wait()
                return "it hangs"
            time.sleep(0.01)
        text = os.read(self._read, 1 << 16).decode()
        self.wait()
        return text

    def wait(self) -> int:
        _pid, status = os.waitpid(self.pid, 0)
        os.close(self._pidfd)
        os.close(self._read)
        return os.waitstatus_to_exitcode(status)


async def _act(action: Action, socket: str) -> str:
    try:
        async with ross.connect(socket) as engine:
            await action(engine)
    except RossError as error:
        return f"{error.code}: {error}" if error.code is ErrorCode.INTERNAL else ""
    return ""


async def _do(engine: Engine, operation: str, name: str, reference: str) -> None:
    if operation == "replace":
        with suppress(RossError):
            await (await engine.containers.get(name)).remove(force=True)
        number = int(name.removeprefix("c"))
        users = "auto" if number % 3 == 0 else "host"
        image = await engine.images.get(reference)
        mounts = []
        if number % 2:
            subpath = "bin" if number % 4 == 1 else ""
            mounts.append(Mount(kind=MountKind.IMAGE, source=reference, target="/image", subpath=subpath))
        if number % 5 < 2:  # one inside of the other
            mounts.append(Mount(source="/usr", target="/host", read_only=True))
            mounts.append(Mount(kind=MountKind.TMPFS, target="/host/bin"))
        await image.create(["sh", "-c", PROGRAM], name=name, network="none", userns=users, mounts=mounts)
        return
    container: Container = await engine.containers.get(name)
    if operation == "exec":
        await container.exec(["sh", "-c", "sleep 0.1; exit 3"])
    elif operation == "update":
        await container.update(pids_limit=random.randrange(50, 100))
    elif operation == "logs":
        async with container.logs() as entries:
            async for _entry in entries:
                pass
    elif operation in {"stop", "restart"}:
        await getattr(container, operation)(timeout=2)
    else:
        await getattr(container, operation)()


async def _observe(socket: str) -> tuple[tuple[ContainerInfo, ...], dict[str, bytes]]:
    logs: dict[str, bytes] = {}
    async with ross.connect(socket) as engine:
        infos = await engine.containers.list(all=True)
        for info in infos:
            data = bytearray()
            async with (await engine.containers.get(info.id)).logs(stderr=False) as entries:
                async for entry in entries:
                    data += entry.data
            logs[info.id] = bytes(data)
    return infos, logs


def _names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} if directory.exists() else set()


def _cgroups(identity: str) -> list[Path]:
    return [*Path("/sys/fs/cgroup").glob(f"ross/{identity}"), *Path("/sys/fs/cgroup").glob(f"*/ross/{identity}")]


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def run(
    directory: Path, registry: str, *, rounds: int, seed: int, containers: int = 20, tell: bool = False
) -> list[str]:
    """Returns what was wrong in all rounds."""
    reference = push(registry, "test/chaos:1", busybox_image())
    let_others_pass(directory)
    daemon = Daemon(directory)
    daemon.start()
    wrong: list[str] = []
    try:
        daemon.ok("pull", "-q", reference)
        chaos = Chaos(daemon, reference, random.Random(seed), containers=containers)
        chaos.begin()
        for number in range(rounds):
            found = chaos.one_round()
            wrong += [f"round {number}: {one}" for one in found]
            if tell and found:
                sys.stdout.write("".join(f"round {number}: {one}\n" for one in found))
                sys.stdout.flush()
    finally:
        daemon.clean_up()
        wrong += [f"at the end: {one}" for one in daemon.lasting_leaks()]
        daemon.terminate()
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--containers", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, fresh_ext4(Path(temporary) / "disk") as disk:
        with running_registry(Path(temporary) / "registry") as registry:
            wrong = run(
                disk, registry, rounds=options.rounds, seed=options.seed, containers=options.containers, tell=True
            )
    sys.stdout.write(f"seed {options.seed}: {options.rounds} rounds, {len(wrong)} things wrong\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
