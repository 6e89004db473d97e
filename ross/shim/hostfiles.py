"""``/etc/hosts``, ``/etc/hostname`` and ``/etc/resolv.conf`` of a container: made for it, and mounted over what the image has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from ross.linux.files import make_directory
from ross.model.containers import NetworkMode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ross.layout import ContainerLayout

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


def write_host_files(layout: ContainerLayout, *, hostname: str, network: NetworkMode) -> Mapping[str, Path]:
    """Write the three files. Returns them by where they are to be mounted.

    A container in the host's network gets the host's own hosts and resolv.conf, as they are now.
    """
    make_directory(layout.etc, mode=0o755)
    if network is NetworkMode.HOST:
        hosts, resolver = _read(Path("/etc/hosts")), _read(Path("/etc/resolv.conf"))
    else:
        hosts, resolver = f"{_HOSTS}127.0.1.1\t{hostname}\n", _NO_RESOLVER
    files = {"hosts": hosts, "hostname": f"{hostname}\n", "resolv.conf": resolver}
    for name, text in files.items():
        path = layout.etc / name
        path.write_text(text)
        path.chmod(0o644)
    return {target: layout.etc / target.rpartition("/")[2] for target in HOST_FILES}


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
