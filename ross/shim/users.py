"""Who a container's process is: a user as people write it, looked up in the root filesystem's own files (passwd(5), group(5))."""

from __future__ import annotations

import posixpath
import stat
from typing import TYPE_CHECKING, Final

from attrs import frozen

from ross.errors import FailedPrecondition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ross.shim.rootfs import Rootfs

_FILES: Final = ("/etc/passwd", "/etc/group")
_KERNELS_OWN: Final = ("/dev/", "/proc/", "/sys/")
_MAX_BYTES: Final = 1 << 20
_MAX_ID: Final = (1 << 31) - 1
"""The kernel has larger ones; runtimes do not take them."""
_MAX_GROUPS: Final = 1024


@frozen(kw_only=True)
class User:
    """Ids and home of a process."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    """Supplementary."""
    home: str


def resolve_user(text: str, rootfs: Rootfs) -> User:
    """The user that ``user``, ``uid``, ``user:group``, ``uid:gid`` or nothing (root) means in a root filesystem.

    A number need not be in the files. With a group given there are no supplementary groups, as with other engines.

    Raises:
        FailedPrecondition: a name is not in the files, or a number is no id.
    """
    _check_files(rootfs)
    name, colon, group = text.partition(":")
    number = _id(name or "0", "user")
    entry = _passwd(rootfs, name or "0")
    if entry is None and number is None:
        raise FailedPrecondition(f"the image has no user {name!r}", hint="see its /etc/passwd, or use a number")
    uid = entry.uid if entry is not None else number
    assert uid is not None  # noqa: S101 -- one of the two was there
    home = entry.home if entry is not None and entry.home else "/"
    if colon and group:
        return User(uid=uid, gid=resolve_group(group, rootfs), groups=(), home=home)
    gid = entry.gid if entry is not None else 0
    groups = _groups_of(rootfs, entry.name, gid) if entry is not None else ()
    _check_numbers(rootfs, (gid, *groups))
    return User(uid=uid, gid=gid, groups=groups, home=home)


def _check_files(rootfs: Rootfs) -> None:
    """The runtime reads these files too: all of them, into memory, and where the container's own mounts are. It would wait for ever on
    a fifo or on the kernel's log, and take all memory for /dev/zero (CVE-2026-47262, CVE-2025-4437, CVE-2024-9676)."""
    for path in _FILES:
        if posixpath.normpath(rootfs.locate(path)).startswith(_KERNELS_OWN):
            raise FailedPrecondition(f"the image's {path} leads into the kernel's own filesystems, which is refused")
        found = rootfs.stat(path)
        if found is not None and not stat.S_ISREG(found.st_mode):
            raise FailedPrecondition(f"the image's {path} is not a regular file, which is refused")
        if found is not None and found.st_size > _MAX_BYTES:
            raise FailedPrecondition(f"the image's {path} is larger than {_MAX_BYTES} bytes, which is refused")


@frozen
class _Entry:
    name: str
    uid: int
    gid: int
    home: str


def _passwd(rootfs: Rootfs, wanted: str) -> _Entry | None:
    """A number by number only, so that no image gives it to another user by calling one so (CVE-2016-3697); else by name."""
    numeric = wanted.isascii() and wanted.isdigit()
    for name, _password, uid, gid, _gecos, home, *_shell in _lines(rootfs, "/etc/passwd", 6):
        if not _is_id(uid) or not _is_id(gid):
            continue
        entry = _Entry(name, int(uid), int(gid), home if home.startswith("/") else "")
        if (entry.uid == int(wanted)) if numeric else (name == wanted):
            return entry
    return None


def resolve_group(wanted: str, rootfs: Rootfs) -> int:
    """The id of a group, by name or number. A number need not be in the files.

    Raises:
        FailedPrecondition: the name is not in the files, or the number is no id.
    """
    found = _id(wanted, "group")
    if found is None:
        named = (gid for name, _password, gid, *_members in _lines(rootfs, "/etc/group", 3) if name == wanted)
        found = next((int(gid) for gid in named if _is_id(gid)), None)
    if found is None:
        raise FailedPrecondition(f"the image has no group {wanted!r}", hint="see its /etc/group, or use a number")
    _check_numbers(rootfs, (found,))
    return found


def _check_numbers(rootfs: Rootfs, ids: tuple[int, ...]) -> None:
    """The runtime looks the ids of groups up as names too, and would give the process the other group (as CVE-2016-3697)."""
    numbers = {str(number) for number in ids}
    for name, _password, gid, *_members in _lines(rootfs, "/etc/group", 3):
        if name in numbers and gid != name:
            raise FailedPrecondition(
                f"the image's /etc/group calls another group {name!r}, which is the id of one here"
            )


def _groups_of(rootfs: Rootfs, user: str, primary: int) -> tuple[int, ...]:
    found: list[int] = []
    for _name, _password, gid, members, *_rest in _lines(rootfs, "/etc/group", 4):
        if user in members.split(",") and _is_id(gid) and int(gid) != primary and int(gid) not in found:
            found.append(int(gid))
    return tuple(found[:_MAX_GROUPS])


def _lines(rootfs: Rootfs, path: str, fields: int) -> Iterator[list[str]]:
    """The lines that have at least so many fields; what else is in there is not our concern."""
    data = rootfs.read(path, limit=_MAX_BYTES) or b""
    for line in data.decode(errors="replace").split("\n"):
        parts = line.split(":")
        if len(parts) >= fields and not line.startswith("#") and parts[0]:
            yield parts


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _MAX_ID


def _id(text: str, what: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    if not _is_id(text):
        raise FailedPrecondition(f"{text} is no {what} id: the largest is {_MAX_ID}")
    return int(text)
