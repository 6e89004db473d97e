"""Flags for the settings of the daemon."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from attrs import define
from cyclopts import Parameter

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]
CgroupManager = Literal["cgroupfs", "systemd"]

_CERTS_DIR: Final = (
    "Where registries and mirrors are configured, as directories with colons between them, each with HOST/hosts.toml. "
    "The first that has something for a host counts. /etc/ross/certs.d, then those of containerd and Docker, if not given."
)


@Parameter(name="*")
@define(kw_only=True)
class DaemonFlags:
    """Each is a field of :class:`~ross.settings.Settings`, where its default is."""

    root: str | None = None
    """Where images and containers are kept. /var/lib/ross if not given."""
    run: str | None = None
    """Where sockets and pids are, which a reboot may lose. /run/ross if not given."""
    socket: str | None = None
    """Where clients connect. ross.sock in the run directory if not given."""
    runtime: str | None = None
    """The OCI runtime, by name or path. runc if not given."""
    cgroup_manager: CgroupManager | None = None
    """Who makes control groups: cgroupfs, the runtime itself; or systemd, which then knows them as scopes. cgroupfs if not given."""
    certs_dir: Annotated[str | None, Parameter(help=_CERTS_DIR)] = None
    disk_floor: str | None = None
    """What pulls leave free on the filesystem of the root: 512m, 2g or bytes. 256m, or a hundredth of it, if not given."""
    max_downloads: str | None = None
    """How many layers are fetched at the same time. 6 if not given."""
    max_connections_per_blob: str | None = None
    """How many of these downloads may be of one large layer, in parts, where it comes slowly by one connection. 1 if not given."""
    max_bandwidth: str | None = None
    """Bytes a second for all downloads together: 10m, or a number. No bound if not given."""
    kept_events: str | None = None
    """How many events are kept for clients that come late or read slowly. 4096 if not given."""
    log_level: LogLevel | None = None
    """debug, info, warning or error. info if not given."""
    log_format: LogFormat | None = None
    """text or json. text if not given."""
