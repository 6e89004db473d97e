"""The daemon's settings: defaults, then a file, then the environment, then flags; each value knows where it came from.

# /etc/ross/config.toml
root = "/var/lib/ross"
log_level = "debug"
disk_floor = "512m"
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
from attrs import Attribute, field, frozen

from ross.errors import FailedPrecondition, InvalidArgument, RossError
from ross.sizes import parse_size

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_CONFIG: Final = Path("/etc/ross/config.toml")
DEFAULT_CERTS_DIR: Final = (
    Path("/etc/ross/certs.d"),
    Path("/etc/containerd/certs.d"),
    Path("/etc/docker/certs.d"),
)
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
LOG_FORMATS: Final = ("text", "json")
CGROUP_MANAGERS: Final = ("cgroupfs", "systemd")


# Converters and validators complain in words that follow the name of the setting.


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"must be text, not {type(value).__name__}")
    return value


def _path(value: object) -> Path:
    return value if isinstance(value, Path) else Path(_text(value))


def _whole(value: object) -> int:
    """A number that is not negative; in the environment and on the command line it is text."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"must be a whole number, not {value!r}")
    return value


def _size(value: object) -> int:
    """Bytes, as a number or as people write them."""
    try:
        return parse_size(value) if isinstance(value, str) else _whole(value)
    except (RossError, ValueError):
        raise ValueError(f"must be a size such as 512m, 2g or a number of bytes, not {value!r}") from None


def _size_if_set(value: object) -> int | None:
    return None if value is None else _size(value)


def _absolute(_instance: object, _attribute: object, value: Path) -> None:
    if not value.is_absolute():
        raise ValueError(f"must be an absolute path, not {str(value)!r}")


def _at_least_one(_instance: object, _attribute: object, value: int) -> None:
    if value < 1:
        raise ValueError("must be at least 1")


def _all_absolute(instance: object, attribute: Attribute[tuple[Path, ...]], value: tuple[Path, ...]) -> None:
    for path in value:
        _absolute(instance, attribute, path)


def _paths(value: object) -> tuple[Path, ...]:
    """Several paths: a list, or text with colons between them, as in ``PATH``."""
    parts = value.split(":") if isinstance(value, str) else [value] if isinstance(value, Path) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str | Path) for part in parts):
        raise TypeError(f"must be a list of paths, not {value!r}")
    return tuple(Path(part) for part in parts if str(part))


def _choice(*allowed: str) -> Any:  # attrs' validators are typed by the field they serve
    def check(_instance: object, _attribute: Attribute[str], value: str) -> None:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}, not {value!r}")

    return check


@frozen(kw_only=True)
class Settings:
    """Everything that can be set about a daemon."""

    root: Path = field(default=Path("/var/lib/ross"), validator=_absolute, converter=_path)
    """Where the state lives that outlives a reboot."""
    run: Path = field(default=Path("/run/ross"), validator=_absolute, converter=_path)
    """Where sockets, pids and exit files live; a reboot may lose it."""
    socket: Path = field(validator=_absolute, converter=_path)
    """Where clients connect; ``ross.sock`` in the run directory if not set."""
    group: str = field(default="ross", converter=_text)
    """Members of this group of the host hold the whole engine, as root does; it need not exist."""
    runtime: str = field(default="runc", converter=_text)
    """The OCI runtime, by name or path."""
    cgroup_manager: str = field(default="cgroupfs", validator=_choice(*CGROUP_MANAGERS), converter=_text)
    """Who makes control groups: ``cgroupfs``, the runtime itself; or ``systemd``, which then knows them as scopes."""
    certs_dir: tuple[Path, ...] = field(default=DEFAULT_CERTS_DIR, validator=_all_absolute, converter=_paths)
    """Where registries are configured, ``<host>/hosts.toml``; the first directory that has something for a host counts."""
    disk_floor: int | None = field(default=None, converter=_size_if_set)
    """Bytes of the root's filesystem that pulls leave free; 256 MiB, or a hundredth of it where that is less, if not set."""
    max_downloads: int = field(default=6, converter=_whole, validator=_at_least_one)
    """Layers that are fetched at the same time, of all pulls together; more exactly, connections that fetch them."""
    max_connections_per_blob: int = field(default=1, converter=_whole)
    """Of these, for one large layer that comes slowly by one; 1: no more than one."""
    max_bandwidth: int = field(default=0, converter=_size)
    """Bytes a second for all downloads together; no bound if 0."""
    kept_events: int = field(default=4096, converter=_whole, validator=_at_least_one)
    """Events that are kept for who comes late or reads slowly."""
    log_level: str = field(default="info", validator=_choice(*LOG_LEVELS), converter=_text)
    log_format: str = field(default="text", validator=_choice(*LOG_FORMATS), converter=_text)
    sources: dict[str, str] = field(factory=dict)
    """Where each value came from, in words, by the name of the field."""

    @socket.default
    def _socket_in_run(self) -> Path:
        return self.run / "ross.sock"


NAMES: Final = tuple(attribute.name for attribute in attrs.fields(Settings) if attribute.name != "sources")


def load_settings(
    *, flags: Mapping[str, object], environment: Mapping[str, str] | None = None, config: Path | None = None
) -> Settings:
    """Collect the settings.

    Args:
        flags: What the command line gave, by field name; ``None`` stands for a flag that was not given.
        environment: ``ROSS_<FIELD>`` variables and ``ROSS_CONFIG``; the process's own if absent.
        config: The file; else ``ROSS_CONFIG``, else ``/etc/ross/config.toml``, which need not exist.

    Raises:
        InvalidArgument: a value is not allowed, or the file has a key that is unknown; the message names the source.
        FailedPrecondition: the file cannot be read, or is not TOML.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    sources = dict.fromkeys(NAMES, "default")
    for source, found in (
        *_from_file(config, environment),
        *(
            (f"environment variable ROSS_{name.upper()}", {name: environment.get(f"ROSS_{name.upper()}")})
            for name in NAMES
        ),
        *((f"flag --{name.replace('_', '-')}", {name: flags.get(name)}) for name in NAMES),
    ):
        for name, value in found.items():
            if value is not None and value != "":
                _check_one(name, value, source)
                values[name] = value
                sources[name] = source
    return Settings(**values, sources=sources)


def _check_one(name: str, value: Any, source: str) -> None:
    """Build the settings from this value alone, so that a complaint can name the source."""
    try:
        Settings(**{name: value})
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"{name} {error} ({source})") from None


def _from_file(config: Path | None, environment: Mapping[str, str]) -> list[tuple[str, dict[str, Any]]]:
    named = config or (Path(environment["ROSS_CONFIG"]) if environment.get("ROSS_CONFIG") else None)
    path = named or DEFAULT_CONFIG
    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError:
        if named is None:
            return []
        raise FailedPrecondition(f"the configuration file {path} does not exist") from None
    except OSError as error:
        raise FailedPrecondition(f"the configuration file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FailedPrecondition(f"the configuration file {path} is not TOML: {error}") from None
    unknown = sorted(set(document) - set(NAMES))
    if unknown:
        raise InvalidArgument(f"unknown setting {unknown[0]!r} in {path}", hint=f"the settings are {', '.join(NAMES)}")
    return [(str(path), document)]
