"""``ross daemon``, ``health``, ``version``, ``info``, ``doctor``, ``debug tasks``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from attrs import frozen

from ross.cli import output
from ross.cli.output import Format
from ross.cli.session import with_engine

if TYPE_CHECKING:
    from ross.client import Engine

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]
CgroupManager = Literal["cgroupfs", "systemd"]


def daemon(
    *,
    root: str | None = None,
    run: str | None = None,
    socket: str | None = None,
    runtime: str | None = None,
    cgroup_manager: CgroupManager | None = None,
    certs_dir: str | None = None,
    disk_floor: str | None = None,
    max_downloads: str | None = None,
    max_connections_per_blob: str | None = None,
    max_bandwidth: str | None = None,
    kept_events: str | None = None,
    log_level: LogLevel | None = None,
    log_format: LogFormat | None = None,
) -> int:
    """Run the daemon in the foreground.

    Each setting may also stand in /etc/ross/config.toml, or in the environment as ROSS_ROOT and so on.

    Parameters
    ----------
    root
        Where images and containers are kept. /var/lib/ross if not given.
    run
        Where sockets and pids are, which a reboot may lose. /run/ross if not given.
    socket
        Where clients connect. ross.sock in the run directory if not given.
    runtime
        The OCI runtime, by name or path. runc if not given.
    cgroup_manager
        Who makes control groups: cgroupfs, the runtime itself; or systemd, which then knows them as scopes. cgroupfs if not given.
    certs_dir
        Where registries and mirrors are configured, as directories with colons between them, each with HOST/hosts.toml. The first
        that has something for a host counts. /etc/ross/certs.d, then those of containerd and Docker, if not given.
    disk_floor
        What pulls leave free on the filesystem of the root: 512m, 2g or bytes. 256m, or a hundredth of it, if not given.
    max_downloads
        How many layers are fetched at the same time. 6 if not given.
    max_connections_per_blob
        How many of these downloads may be of one large layer, in parts, where it comes slowly by one connection. 1 if not given.
    max_bandwidth
        Bytes a second for all downloads together: 10m, or a number. No bound if not given.
    kept_events
        How many events are kept for clients that come late or read slowly. 4096 if not given.
    log_level
        debug, info, warning or error. info if not given.
    log_format
        text or json. text if not given.
    """
    from ross.daemon import main
    from ross.settings import load_settings

    flags = {
        "root": root,
        "run": run,
        "socket": socket,
        "runtime": runtime,
        "cgroup_manager": cgroup_manager,
        "certs_dir": certs_dir,
        "disk_floor": disk_floor,
        "max_downloads": max_downloads,
        "max_connections_per_blob": max_connections_per_blob,
        "max_bandwidth": max_bandwidth,
        "kept_events": kept_events,
        "log_level": log_level,
        "log_format": log_format,
    }
    return main(load_settings(flags=flags))


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


def version(*, format: Format = "table") -> int:  # noqa: A002 -- the flag's name
    """Print the versions of this client and of the daemon, if one answers.

    Parameters
    ----------
    format
        table, json or jsonl.
    """
    from importlib.metadata import version as distribution_version

    from ross.cli.errors import show
    from ross.errors import RossError

    client = distribution_version("ross-engine")
    found = Versions(client=client, daemon=None, protocol=None, features=())
    problem: RossError | None = None

    async def body(engine: Engine) -> Versions:
        answered = engine.version
        return Versions(client=client, daemon=answered.version, protocol=answered.protocol, features=answered.features)

    try:
        found = with_engine(body)
    except RossError as error:
        problem = error
    if format != "table":
        output.write(output.document(found, format))
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


def info(*, format: Format = "table") -> None:  # noqa: A002 -- the flag's name
    """Print what is known of the daemon and its host.

    Parameters
    ----------
    format
        table, json or jsonl.
    """

    async def body(engine: Engine) -> None:
        from ross.oci.codec import to_plain

        found = await engine.info()
        if format != "table":
            output.write(output.document(found, format))
            return
        plain = to_plain(found)
        rows = plain.items() if isinstance(plain, dict) else ()
        output.write("".join(f"{key.replace('_', ' ') + ':':20}{_value(key, value)}\n" for key, value in rows))

    with_engine(body)


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
