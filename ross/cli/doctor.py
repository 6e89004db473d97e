"""Checking a host: each finding says what was looked at, what was found, and what to do about it."""

from __future__ import annotations

import os
import platform
import re
import shutil
from pathlib import Path

import trio
from attrs import frozen

from ross.cli.holes import first_without, known_holes
from ross.client.connection import socket_path
from ross.linux.apparmor import has_apparmor, loaded_profiles
from ross.linux.host import cgroup_version
from ross.linux.process import run, which

_LEAST_KERNEL = (5, 6)
_GOOD_KERNEL = (6, 8)
_LEAST_FREE_BYTES = 2 << 30
_CRIU_SECONDS = 20


@frozen(kw_only=True)
class Finding:
    """One check."""

    what: str
    verdict: str
    """``ok``, ``warn`` or ``fail``."""
    detail: str
    fix: str = ""


def examine() -> list[Finding]:
    """All checks."""
    return [
        _root(),
        _kernel(),
        _filesystem(),
        _cgroups(),
        _seccomp(),
        _apparmor(),
        trio.run(_program, "runc", (1, 1), "the OCI runtime", "apt install runc"),
        _init(),
        trio.run(_program, "conmon", (2, 0), "the container monitor", "apt install conmon"),
        trio.run(_criu),
        _space(),
        _daemon(),
    ]


def _root() -> Finding:
    if os.geteuid() == 0:
        return Finding(what="user", verdict="ok", detail="root")
    return Finding(
        what="user", verdict="warn", detail=f"uid {os.geteuid()}; the daemon needs root", fix="run the daemon as root"
    )


def _kernel() -> Finding:
    release = platform.release()
    found = _numbers(release)
    if found < _LEAST_KERNEL:
        return Finding(
            what="kernel", verdict="fail", detail=f"{release}; openat2 came with 5.6", fix="use a newer kernel"
        )
    detail = release if found >= _GOOD_KERNEL else f"{release}; from 6.8 on images may have more than some 100 layers"
    return Finding(what="kernel", verdict="ok", detail=detail)


def _filesystem() -> Finding:
    names = Path("/proc/filesystems").read_text().split()
    if "overlay" in names or Path("/sys/module/overlay").exists():
        return Finding(what="overlay", verdict="ok", detail="the kernel has it")
    return Finding(what="overlay", verdict="fail", detail="the kernel does not have it", fix="modprobe overlay")


def _cgroups() -> Finding:
    version = cgroup_version()
    detail = "v2" if version == 2 else "v1 or hybrid; limits work, v2 is better kept"
    return Finding(what="cgroups", verdict="ok", detail=detail)


def _seccomp() -> Finding:
    if Path("/proc/sys/kernel/seccomp/actions_avail").exists():
        return Finding(what="seccomp", verdict="ok", detail="the kernel has it")
    return Finding(
        what="seccomp",
        verdict="warn",
        detail="the kernel does not have it",
        fix="use a kernel with CONFIG_SECCOMP_FILTER",
    )


def _apparmor() -> Finding:
    if not has_apparmor():
        return Finding(what="apparmor", verdict="ok", detail="the kernel does not have it, or it is off")
    if os.geteuid() != 0:
        return Finding(
            what="apparmor", verdict="ok", detail="the kernel has it; which profiles are loaded is root's to see"
        )
    if "ross-default" in loaded_profiles():
        return Finding(
            what="apparmor", verdict="ok", detail="the kernel has it, and containers have the profile ross-default"
        )
    return Finding(
        what="apparmor",
        verdict="warn",
        detail="the kernel has it, and the profile ross-default for containers is not loaded",
        fix="apparmor_parser -r contrib/apparmor/ross-default, from the source",
    )


async def _program(name: str, least: tuple[int, ...], what: str, fix: str) -> Finding:
    path = which(name)
    if path is None:
        return Finding(what=name, verdict="fail", detail=f"{what} is not installed", fix=fix)
    done = await run([str(path), "--version"])
    text = done.stdout.decode(errors="replace").partition("\n")[0].strip()
    if done.returncode != 0 or _numbers(text) < least:
        wanted = ".".join(map(str, least))
        return Finding(what=name, verdict="fail", detail=f"{text or done.how}; at least {wanted} is needed", fix=fix)
    if holes := known_holes(text):
        detail = f"{text}, which has {', '.join(holes)} unless the distribution has mended it under the same number"
        fix = f"see the distribution's advisories; {first_without(text)} has none of them"
        return Finding(what=name, verdict="warn", detail=detail, fix=fix)
    return Finding(what=name, verdict="ok", detail=f"{text} ({path})")


def _init() -> Finding:
    for name in ("tini-static", "catatonit"):
        if (path := which(name)) is not None:
            return Finding(what="init", verdict="ok", detail=str(path))
    return Finding(
        what="init", verdict="ok", detail="none is installed, so there is no run --init", fix="apt install tini"
    )


async def _criu() -> Finding:
    path = which("criu")
    if path is None:
        return Finding(
            what="criu", verdict="ok", detail="none is installed, so there is no checkpoint", fix="apt install criu"
        )
    if os.geteuid() != 0:
        return Finding(what="criu", verdict="ok", detail=f"{path}; whether it works is root's to see")
    with trio.move_on_after(_CRIU_SECONDS):
        done = await run([str(path), "check"])
        if done.returncode == 0:
            return Finding(what="criu", verdict="ok", detail=f"{path}; checkpoints can be made and restored")
        said = done.stderr.decode(errors="replace").strip().partition("\n")[0] or done.how
        return Finding(what="criu", verdict="ok", detail=f"{path}; it does not work with this kernel: {said}")
    return Finding(what="criu", verdict="ok", detail=f"{path}; criu check does not end")


def _space() -> Finding:
    root = Path(os.environ.get("ROSS_ROOT") or "/var/lib/ross")
    existing = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    verdict = "ok" if free >= _LEAST_FREE_BYTES else "warn"
    fix = "" if verdict == "ok" else "free some, or put the root elsewhere with --root"
    return Finding(what="disk", verdict=verdict, detail=f"{free >> 20} MiB free for {root}", fix=fix)


def _daemon() -> Finding:
    path = socket_path(None)
    if Path(path).is_socket():
        return Finding(
            what="daemon", verdict="ok", detail=f"a socket is at {path}; ross health asks whether it answers"
        )
    return Finding(what="daemon", verdict="warn", detail=f"no socket at {path}", fix="start it with: ross daemon")


def _numbers(text: str) -> tuple[int, ...]:
    match = re.search(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)
