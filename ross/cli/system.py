"""``ross daemon``, ``health``, ``version``, ``info``, ``doctor``, ``debug tasks``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from attrs import asdict, frozen
from cyclopts import Parameter

from ross.cli import output
from ross.cli.flags.daemon import DaemonFlags
from ross.cli.output import Format
from ross.cli.session import with_engine

if TYPE_CHECKING:
    from ross.cli.template import Template
    from ross.client import Engine
    from ross.errors import RossError
    from ross.model.engine import EngineInfo

AnyFormat = Annotated[str, Parameter(name=["--format", "-f"])]
"""A form, or a template."""


def daemon(*, flags: DaemonFlags | None = None) -> int:
    """Run the daemon in the foreground.

    Each setting may also stand in /etc/ross/config.toml, or in the environment as ROSS_ROOT and so on.
    """
    from ross.daemon import main
    from ross.settings import load_settings

    return main(load_settings(flags=asdict(flags or DaemonFlags())))


def health() -> None:
    """Ask the daemon whether it answers."""

    async def body(engine: Engine) -> None:
        output.write(f"ok: ross {engine.version.version} answers\n")

    with_engine(body)


@frozen(kw_only=True)
class Versions:
    """What ``ross version`` prints as JSON."""

    client: str
    daemon: str | None
    protocol: int | None
    features: tuple[str, ...]


def version(*, format: AnyFormat = "table") -> int:  # noqa: A002 -- the flag's name
    """Print the versions of this client and of the daemon, if one answers.

    Parameters
    ----------
    format
        table, json, jsonl, or a template such as '{{.Server.Version}}'.
    """
    from importlib.metadata import version as distribution_version

    from ross.cli.errors import show
    from ross.errors import RossError

    form = output.parse_format(format)
    client = distribution_version("ross-engine")
    engine_info: EngineInfo | None = None
    found = Versions(client=client, daemon=None, protocol=None, features=())
    problem: RossError | None = None

    async def body(engine: Engine) -> Versions:
        nonlocal engine_info
        answered = engine.version
        if not isinstance(form, str):
            engine_info = await engine.info()
        return Versions(client=client, daemon=answered.version, protocol=answered.protocol, features=answered.features)

    try:
        found = with_engine(body)
    except RossError as error:
        problem = error
    if not isinstance(form, str):
        _write_versions(form, found, engine_info, problem)
    elif form != "table":
        output.write(output.document(found, form))
    else:
        rows = [("client", client)]
        if found.daemon is not None:
            rows += [
                ("daemon", found.daemon),
                ("protocol", str(found.protocol)),
                ("features", ", ".join(found.features)),
            ]
        output.write("".join(f"{name + ':':10}{value}\n" for name, value in rows))
    if problem is not None:
        show(problem.message, problem.hint)
        return 1
    return 0


def _write_versions(form: Template, found: Versions, engine: EngineInfo | None, problem: RossError | None) -> None:
    """By a template. Of a daemon that does not answer there is nothing, and why that is so comes first."""
    from ross.errors import InvalidArgument
    from ross.oci.image import host_platform

    platform = host_platform()  # the daemon's too: it is reached by a file
    machine = {"Os": platform.os, "Arch": platform.architecture}
    client, server = {"Version": found.client, **machine}, None
    if engine is not None:
        server = {
            "Version": found.daemon,
            **machine,
            "KernelVersion": engine.kernel,
            "Protocol": found.protocol,
            "Features": list(found.features),
        }
    fields = {"Client": client, "Server": server}
    try:
        output.write(output.rendered(form, [fields]))
    except InvalidArgument:
        if problem is None:
            raise


def info(*, format: AnyFormat = "table") -> None:  # noqa: A002 -- the flag's name
    """Print what is known of the daemon and its host.

    Parameters
    ----------
    format
        table, json, jsonl, or a template such as '{{.ServerVersion}}'.
    """
    form = output.parse_format(format)

    async def body(engine: Engine) -> None:
        from ross.oci.codec import to_plain

        found = await engine.info()
        if not isinstance(form, str):
            output.write(output.rendered(form, [_info_fields(found)]))
            return
        if form != "table":
            output.write(output.document(found, form))
            return
        plain = to_plain(found)
        rows = plain.items() if isinstance(plain, dict) else ()
        output.write("".join(f"{key.replace('_', ' ') + ':':20}{_value(key, value)}\n" for key, value in rows))

    with_engine(body)


def _info_fields(info: EngineInfo) -> dict[str, Any]:
    """Under the names of ``docker info --format``, with Ross's own beside them."""
    from ross.cli.inspected import time_text

    return {
        "ServerVersion": info.version,
        "DockerRootDir": info.root,
        "RunDir": info.run,
        "Pid": info.pid,
        "StartedAt": time_text(info.started_at),
        "Name": info.hostname,
        "KernelVersion": info.kernel,
        "OperatingSystem": info.operating_system,
        "OSType": "linux",
        "Architecture": info.architecture,
        "NCPU": info.cpus,
        "MemTotal": info.memory_bytes,
        "Driver": "overlay",
        "CgroupDriver": info.cgroup_manager,
        "CgroupVersion": str(info.cgroup_version),
        "DefaultRuntime": info.runtime,
        "RuntimeVersion": info.runtime_version,
        "Monitor": info.monitor,
        "MonitorVersion": info.monitor_version,
        "Images": info.images,
        "Snapshots": info.snapshots,
        "Containers": info.containers,
        "ContainersRunning": info.containers_running,
    }


def _value(key: str, value: object) -> str:
    if key == "memory_bytes" and isinstance(value, int):
        return output.size(value)
    if key == "started_at" and isinstance(value, int):
        return f"{output.ago(value)} ago"
    return str(value)


def doctor(*, format: Format = "table") -> int:  # noqa: A002 -- the flag's name
    """Check whether this host has what the daemon needs; works without a daemon. Ends with 1 if something is missing.

    Parameters
    ----------
    format
        table, json or jsonl.
    """
    from ross.cli.doctor import examine

    findings = examine()
    if format != "table":
        output.write(output.records(findings, format))
    else:
        for finding in findings:
            output.write(f"{finding.verdict:5} {finding.what}: {finding.detail}\n")
            if finding.fix:
                output.write(f"      fix: {finding.fix}\n")
    return 1 if any(finding.verdict == "fail" for finding in findings) else 0


def tasks(*, format: Format = "table") -> None:  # noqa: A002 -- the flag's name
    """Show the daemon's live task tree, and where each task waits.

    Parameters
    ----------
    format
        table, json or jsonl.
    """

    async def body(engine: Engine) -> None:
        found = await engine.tasks()
        if format != "table":
            output.write(output.records(found, format))
            return
        rows = [("  " * task.depth + task.name, task.waiting_at) for task in found]
        output.write(output.table(("TASK", "WAITING AT"), rows))

    with_engine(body)
