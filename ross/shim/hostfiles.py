"""``/etc/hosts``, ``/etc/hostname`` and ``/etc/resolv.conf`` of a container: made for it, and mounted over what the image has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from ross.linux.files import make_directory
from ross.model.containers import NetworkMode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ross.layout import ContainerLayout
    from ross.model.namespaces import Resolution

HOST_FILES: Final = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
"""Where they are mounted."""
_HOSTS: Final = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
_NO_RESOLVER: Final = "# This container has no network.\n"


def write_host_files(
    layout: ContainerLayout, *, hostname: str, network: NetworkMode, resolution: Resolution
) -> Mapping[str, Path]:
    """Write the three files. Returns them by where they are to be mounted.

    A container in the host's network gets the host's own hosts and resolv.conf, as they are now, with what was asked for.
    """
    make_directory(layout.etc, mode=0o755)
    if network is NetworkMode.HOST:
        hosts, resolver = _read(Path("/etc/hosts")), _read(Path("/etc/resolv.conf"))
    else:
        hosts, resolver = f"{_HOSTS}127.0.1.1\t{hostname}\n", _NO_RESOLVER
    files = {
        "hosts": _hosts(hosts, resolution),
        "hostname": f"{hostname}\n",
        "resolv.conf": _resolver(resolver, resolution),
    }
    for name, text in files.items():
        path = layout.etc / name
        path.write_text(text)
        path.chmod(0o644)
    return {target: layout.etc / target.rpartition("/")[2] for target in HOST_FILES}


def _hosts(text: str, resolution: Resolution) -> str:
    """The entries that were asked for come first: the first one for a name counts (hosts(5))."""
    entries = (entry.split(":", 1) for entry in resolution.hosts)
    return "".join(f"{address}\t{name}\n" for name, address in entries) + text


def _resolver(text: str, resolution: Resolution) -> str:
    """What is asked for of a kind takes the place of all that there is of it."""
    wanted = {
        "nameserver": [f"nameserver {address}" for address in resolution.servers],
        "search": [f"search {' '.join(resolution.search)}"] if resolution.search else [],
        "options": [f"options {' '.join(resolution.options)}"] if resolution.options else [],
    }
    replaced = {kind for kind, lines in wanted.items() if lines}
    if not replaced:
        return text
    if "search" in replaced:
        replaced.add("domain")
    kept = [line for line in text.splitlines() if (line.split() or [""])[0] not in replaced]
    lines = [*(line for line in kept if not line.startswith("#")), *wanted["nameserver"], *wanted["options"]]
    if resolution.search != (".",):
        lines += wanted["search"]
    return "".join(f"{line}\n" for line in lines)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
