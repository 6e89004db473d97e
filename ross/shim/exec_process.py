"""What is executed in a running container: the options checked, and the process that the runtime reads (runtime-spec, config.md)."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from ross.errors import FailedPrecondition, InvalidArgument, Reason
from ross.layout import ContainerLayout
from ross.linux.capabilities import ALL_CAPABILITIES
from ross.model.execs import GonePolicy
from ross.model.namespaces import UserNamespace
from ross.shim.bundle import refuse_kernels_own
from ross.shim.facts import HostFacts
from ross.shim.programs import check_program
from ross.shim.rootfs import Rootfs, open_rootfs
from ross.shim.spec import DEFAULT_PATH
from ross.shim.users import resolve_user
from ross.shim.valid_users import check_has
from ross.shim.validate import check_env

if TYPE_CHECKING:
    from ross.model.execs import ExecOptions

_TERMINAL: Final = "TERM"
_HOME: Final = "HOME"


@frozen(kw_only=True)
class Surroundings:
    """What decides, beside the options, how something is executed in a container."""

    layout: ContainerLayout
    declared_env: Sequence[str]
    """What the image and the container's spec say of the environment; everything else in it was made up for the first process."""
    privileged: bool
    users: UserNamespace
    host: HostFacts


def validate_exec(options: ExecOptions) -> None:
    """Check all that does not depend on the container.

    Raises:
        InvalidArgument: something is not allowed.
    """
    if not options.args or not options.args[0]:
        raise InvalidArgument("there is nothing to execute", hint="name a program and its arguments")
    if options.working_dir and not options.working_dir.startswith("/"):
        raise InvalidArgument(f"the working directory {options.working_dir!r} is not an absolute path")
    if options.when_gone is GonePolicy.UNKNOWN:
        raise InvalidArgument("this engine does not know that policy for a holder that is gone")
    if options.stdio and (len(options.stdio) != 3 or options.terminal):
        raise InvalidArgument("there are three standard descriptors, and a terminal takes their place")
    for entry in options.env:
        check_env(entry)
    if any("\0" in text for text in (*options.args, *options.env, options.user, options.working_dir)):
        raise InvalidArgument("a text of what is to be executed has a zero byte in it")


def exec_process(options: ExecOptions, around: Surroundings) -> dict[str, Any]:
    """The process to execute: the container's first one as it was begun, with what the options say otherwise.

    So limits, profiles, privileges and their absence are those of the container; capabilities are not inheritable. Blocks.

    Raises:
        FailedPrecondition: the user, the directory or the program is not there, or cannot be used.
    """
    config: dict[str, Any] = json.loads(around.layout.runtime_config.read_bytes())
    process: dict[str, Any] = config["process"]
    with open_rootfs(around.layout.rootfs) as rootfs:
        home = _set_user(process, options.user, rootfs)
        ids = process["user"]
        check_has(around.users, ids["uid"], (ids["gid"], *ids["additionalGids"]))
        env = _environment(process["env"], options, around.declared_env, home=home)
        directory = options.working_dir or process["cwd"]
        mounted = tuple(mount["destination"] for mount in config["mounts"])
        _check_directory(rootfs, directory, mounted)
        if not around.privileged:  # who has all privileges may have mounted what we do not see
            path = env.get("PATH", DEFAULT_PATH)
            check_program(rootfs, options.args, search_path=path, working_dir=directory, mounted=mounted)
    process.pop("consoleSize", None)
    if options.terminal and options.rows and options.columns:
        process["consoleSize"] = {"height": options.rows, "width": options.columns}
    if options.privileged:
        everything = [name for name in ALL_CAPABILITIES if name in around.host.capabilities]
        process["capabilities"] = {"bounding": everything, "effective": everything, "permitted": everything}
        process.pop("apparmorProfile", None)
    return process | {
        "terminal": options.terminal,
        "args": list(options.args),
        "env": [f"{name}={value}" for name, value in env.items()],
        "cwd": directory,
    }


def _set_user(process: dict[str, Any], wanted: str, rootfs: Rootfs) -> str:
    """Let the process be of this user, if one is named. Returns the user's home."""
    if not wanted:
        return resolve_user(str(process["user"]["uid"]), rootfs).home
    user = resolve_user(wanted, rootfs)
    process["user"] = {"uid": user.uid, "gid": user.gid, "additionalGids": [user.gid, *user.groups]}
    return user.home


def _environment(begun: Sequence[str], options: ExecOptions, declared: Sequence[str], *, home: str) -> dict[str, str]:
    """The container's environment, with home and terminal as they are for this process, and what the options add."""
    env = _split(begun)
    for name in {_HOME, _TERMINAL} - set(_split(declared)):
        env.pop(name, None)
    if options.terminal:
        env.setdefault(_TERMINAL, "xterm")
    for entry in options.env:
        name, equals, value = entry.partition("=")
        if equals:
            env[name] = value
        else:
            env.pop(name, None)
    env.setdefault(_HOME, home)
    return env


def _split(entries: Sequence[str]) -> dict[str, str]:
    return {name: value for name, _equals, value in (entry.partition("=") for entry in entries)}


def _check_directory(rootfs: Rootfs, path: str, mounted: Sequence[str]) -> None:
    where = posixpath.normpath(rootfs.locate(path))
    refuse_kernels_own(path)
    refuse_kernels_own(where)
    if any(where == target or where.startswith(f"{target}/") for target in mounted):
        return  # what is mounted there is the container's to see
    found = rootfs.stat(path)
    if found is None:
        raise FailedPrecondition(
            f"the container has no directory {path!r}",
            hint="name another with --workdir",
            reason=Reason.COMMAND_NOT_EXECUTABLE,
        )
