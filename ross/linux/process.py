"""The one place that starts programs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio
from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence


NO_STDIO: Final = (subprocess.DEVNULL, subprocess.DEVNULL, subprocess.DEVNULL)
_MOST_SAID_BYTES: Final = 2 << 10
_RENUMBER: Final = Path(__file__).with_name("renumber.py")


@frozen(kw_only=True)
class Completed:
    """A program that has ended, and what it printed."""

    argv: tuple[str, ...]
    returncode: int
    """Its exit code, or the negative number of the signal that ended it."""
    stdout: bytes
    stderr: bytes

    @property
    def how(self) -> str:
        """How it ended, in words."""
        if self.returncode < 0:
            return f"was ended by {signal.Signals(-self.returncode).name}"
        return f"ended with exit code {self.returncode}"


def search_path() -> str:
    """Where programs of the host are looked for."""
    # The sbin directories, which a user's PATH often lacks, are where Debian has runc.
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def which(name: str) -> Path | None:
    """A program of the host, by name or path; None if there is none that can be executed."""
    found = shutil.which(name, path=search_path())
    return Path(found).absolute() if found else None


async def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    input: bytes = b"",  # noqa: A002 -- subprocess and Trio call it so
    max_output_bytes: int = 1 << 20,
) -> Completed:
    """Run a program to its end. If the caller is cancelled, it is killed and reaped first.

    Args:
        argv: The program, by path, and its arguments; never through a shell.
        env: The whole environment; ours if None.
        cwd: Where it runs.
        pass_fds: Descriptors that it inherits beside the standard three, under the same numbers.
        input: Its standard input.
        max_output_bytes: How much of each output is kept; the rest is read and dropped.

    Raises:
        OSError: it could not be started.
    """
    process = await trio.lowlevel.open_process(
        list(argv),
        stdin=subprocess.PIPE if input else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env) if env is not None else None,
        cwd=cwd,
        pass_fds=pass_fds,
    )
    try:
        stdout, stderr = await _communicate(process, input, max_output_bytes=max_output_bytes)
    except BaseException:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
        raise
    returncode = process.returncode if process.returncode is not None else -1
    return Completed(argv=tuple(argv), returncode=returncode, stdout=stdout, stderr=stderr)


async def _communicate(process: trio.Process, data: bytes, *, max_output_bytes: int) -> tuple[bytes, bytes]:
    """Hand a program its input, and wait for its end; what it has printed meanwhile."""
    outputs = {"stdout": bytearray(), "stderr": bytearray()}

    async def read(stream: trio.abc.ReceiveStream, into: bytearray) -> None:
        async with stream:
            async for chunk in stream:
                into += chunk[: max(0, max_output_bytes - len(into))]

    async def feed(stream: trio.abc.SendStream) -> None:
        async with stream:
            try:
                await stream.send_all(data)
            except trio.BrokenResourceError:
                return  # it did not want to read it all

    async with trio.open_nursery() as nursery:
        for name, buffer in outputs.items():
            nursery.start_soon(read, getattr(process, name), buffer)
        if process.stdin is not None:
            nursery.start_soon(feed, process.stdin)
        await process.wait()
    return bytes(outputs["stdout"]), bytes(outputs["stderr"])


class Output:
    """What a program prints, while it runs. Made by :func:`reading`."""

    def __init__(self, argv: Sequence[str], process: trio.Process) -> None:
        self._argv = tuple(argv)
        self._process = process

    async def receive(self, max_bytes: int) -> bytes:
        """Some more of it, empty at its end.

        Raises:
            ChildProcessError: the program has failed; with what it said of that.
        """
        process = self._process
        data = await process.stdout.receive_some(max_bytes) if process.stdout is not None else b""
        if not data:
            said = bytes(await process.stderr.receive_some(_MOST_SAID_BYTES)) if process.stderr is not None else b""
            await process.wait()
            done = Completed(argv=self._argv, returncode=process.returncode or 0, stdout=b"", stderr=said)
            if done.returncode != 0:
                text = said.decode(errors="replace").strip()
                raise ChildProcessError(f"{Path(self._argv[0]).name} {done.how}{': ' if text else ''}{text}")
        return bytes(data)


@asynccontextmanager
async def reading(argv: Sequence[str], *, env: Mapping[str, str]) -> AsyncGenerator[Output, None]:
    """Run a program for as long as somebody reads what it prints: it is killed and reaped with the block.

    One that is waited for by nobody must notice by itself that its output is read no more, as when we are killed.

    Args:
        argv: The program, by path, and its arguments; never through a shell.
        env: The whole environment.

    Raises:
        OSError: it could not be started.
    """
    with trio.CancelScope(shield=True):  # or nobody would know of it
        process = await trio.lowlevel.open_process(
            list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(env)
        )
    try:
        yield Output(argv, process)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    await stream.aclose()


async def start(argv: Sequence[str], *, env: Mapping[str, str], pass_fds: Sequence[int] = ()) -> trio.Process:
    """Start a program that the caller speaks to by the descriptors it passes, and ends; errors go where ours go.

    Raises:
        OSError: it could not be started.
    """
    with trio.CancelScope(shield=True):  # or nobody would know of it
        process = await trio.lowlevel.open_process(
            list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=dict(env), pass_fds=pass_fds
        )
    return process  # noqa: RET504 -- mypy takes a cancel scope for one that swallows exceptions


@asynccontextmanager
async def start_piped(argv: Sequence[str], *, env: Mapping[str, str]) -> AsyncIterator[trio.Process]:
    """A program with pipes for its input and output, for the length of a block; then it is killed.

    Raises:
        OSError: it could not be started.
    """
    with trio.CancelScope(shield=True):  # or nobody would know of it
        process = await trio.lowlevel.open_process(
            list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=dict(env)
        )
    assert process.stdio is not None  # noqa: S101 -- both are pipes
    try:
        async with process.stdio:
            yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def spawn_and_forget(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    stdio: Sequence[int] = NO_STDIO,
    behind: Sequence[int] = (),
) -> None:
    """Start a program that puts itself in the background (daemon(7)), and wait until its first process has ended.

    Never cancelled half-way: what was started has then gone where it wanted to.

    Args:
        argv: The program, by path, and its arguments; never through a shell.
        env: The whole environment.
        cwd: Where it runs.
        pass_fds: Descriptors that it inherits beside the standard three, under the same numbers.
        stdio: Its standard input, output and error output.
        behind: What it has from descriptor 3 on, in this order. All descriptors that are passed have numbers above those.

    Raises:
        OSError: it could not be started.
        ChildProcessError: its first process failed.
    """
    renumbering = [sys.executable, "-I", "-S", str(_RENUMBER), ",".join(map(str, behind))] if behind else []
    with trio.CancelScope(shield=True):
        process = await trio.lowlevel.open_process(
            [*renumbering, *argv],
            stdin=stdio[0],
            stdout=stdio[1],
            stderr=stdio[2],
            env=dict(env),
            cwd=cwd,
            pass_fds=(*pass_fds, *behind),
            start_new_session=True,
        )
        if await process.wait() != 0:
            raise ChildProcessError(f"{argv[0]} ended with {process.returncode}")
