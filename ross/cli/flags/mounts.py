"""Flags for what a container sees: mounts of the host's files, and filesystems in memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from attrs import define, field
from cyclopts import Parameter

from ross.cli.flags.limits import Switch, Words
from ross.cli.parse import parse_mount
from ross.errors import InvalidArgument
from ross.model.mounts import MOUNT_OPTIONS, Mount, MountKind, Recursion
from ross.sizes import parse_size

if TYPE_CHECKING:
    from ross.client.specs import CreateOptions

_TRUTH: Final = {"": True, "true": True, "1": True, "false": False, "0": False}
_RECURSIONS: Final = {one.value: one for one in Recursion if one is not Recursion.UNKNOWN}
_MAX_MODE: Final = 0o7777


@Parameter(name="*")
@define(kw_only=True)
class MountFlags:
    """What ``run`` and ``create`` say of mounts."""

    volume: Annotated[tuple[str, ...], Parameter(name=["--volume", "-v"], negative=())] = ()
    """source:target[:options], a file or directory of this host; options are ro, idmap, nosuid, nodev, noexec, z. May be repeated."""
    mount: Words = ()
    """type=bind|tmpfs|image,source=...,target=...[,readonly][,...]; of an image also image-subpath=.... May be repeated."""
    tmpfs: Words = ()
    """target[:options], a filesystem in memory; of the options ro, size=..., mode=..., exec, suid, dev. May be repeated."""
    volumes_from: Words = ()
    """container[:ro|rw], whose directories and files of this host it has too. May be repeated."""
    read_only: Switch = False
    """Let it write to nothing but its mounts."""

    def options(self) -> CreateOptions:
        """The options of the client library that these flags mean."""
        here = Path.cwd()
        return {
            "mounts": [
                *(parse_mount(text, here=here) for text in self.volume),
                *(parse_long_mount(text, here=here) for text in self.mount),
                *(parse_tmpfs(text) for text in self.tmpfs),
            ],
            "read_only": self.read_only,
        }


def parse_tmpfs(text: str) -> Mount:
    """``target[:options]``.

    Raises:
        InvalidArgument: it is not of that form.
    """
    target, _colon, words = text.partition(":")
    found = _Found(kind=MountKind.TMPFS)
    for word in words.split(",") if words else ():
        name, _equals, value = word.partition("=")
        if name in {"ro", "rw"} and not value:
            found.read_only = name == "ro"
        elif name == "size" and value:
            found.size_bytes = parse_size(value)
        elif name == "mode" and value:
            found.mode = _mode(value)
        elif word in MOUNT_OPTIONS:
            found.options.append(word)
        else:
            raise InvalidArgument(
                f"{word!r} is no option of a tmpfs", hint="there are ro, rw, size=64m, mode=1777, exec, suid, dev"
            )
    found.target = target
    return found.mount(text)


@define
class _Found:
    """What has been read of a mount."""

    kind: MountKind | None = None
    source: str = ""
    target: str = ""
    read_only: bool = False
    propagation: str = "rprivate"
    recursion: Recursion = Recursion.ENABLED
    idmap: bool = False
    subpath: str = ""
    size_bytes: int = 0
    mode: int = 0
    options: list[str] = field(factory=list)

    def mount(self, text: str) -> Mount:
        if self.kind is None:
            raise InvalidArgument(f"{text!r} does not say of which type the mount is", hint="begin it with type=bind")
        if not self.target:
            raise InvalidArgument(f"{text!r} does not say where to mount", hint="write target=/path")
        return Mount(
            kind=self.kind,
            source=self.source,
            target=self.target,
            read_only=self.read_only,
            propagation=self.propagation,
            recursion=self.recursion,
            idmap=self.idmap,
            subpath=self.subpath,
            size_bytes=self.size_bytes,
            mode=self.mode,
            options=tuple(self.options),
        )


def parse_long_mount(text: str, *, here: Path) -> Mount:
    """``type=...,source=...,target=...``; the source is meant from where we are, if it is not an image.

    Raises:
        InvalidArgument: it is not of that form.
    """
    found = _Found()
    for word in text.split(","):
        name, _equals, value = word.partition("=")
        _read_word(found, name.strip().lower(), value, word)
    if found.kind in {MountKind.BIND, MountKind.IMAGE} and not found.source:
        wanted = "source=/path" if found.kind is MountKind.BIND else "source=IMAGE"
        raise InvalidArgument(f"{text!r} does not say what to mount", hint=f"write {wanted}")
    if found.kind is MountKind.BIND:
        found.source = str(here / Path(found.source).expanduser())
    if found.kind is MountKind.TMPFS and (found.source or found.propagation != "rprivate"):
        raise InvalidArgument("a tmpfs has neither source nor propagation")
    if found.kind is MountKind.BIND and (found.size_bytes or found.mode):
        raise InvalidArgument("a directory of the host has no size or mode to be given")
    return found.mount(text)


def _read_word(found: _Found, name: str, value: str, word: str) -> None:
    if name == "type" and value in {"bind", "tmpfs", "image"}:
        found.kind = MountKind(value)
    elif name in {"source", "src"} and value:
        found.source = value
    elif name in {"target", "dst", "destination"} and value:
        found.target = value
    elif name in {"readonly", "ro"} and value in _TRUTH:
        found.read_only = _TRUTH[value]
    elif name == "bind-propagation" and value:
        found.propagation = value
    elif name == "bind-recursive" and value in _RECURSIONS:
        found.recursion = _RECURSIONS[value]
    elif name == "bind-nonrecursive" and value in _TRUTH:
        found.recursion = Recursion.DISABLED if _TRUTH[value] else Recursion.ENABLED
    elif name == "idmap" and value in _TRUTH:
        found.idmap = _TRUTH[value]
    elif name in {"image-subpath", "subpath"} and value:
        found.subpath = value
    elif name == "tmpfs-size" and value:
        found.size_bytes = parse_size(value)
    elif name == "tmpfs-mode" and value:
        found.mode = _mode(value)
    elif word in MOUNT_OPTIONS:
        found.options.append(word)
    else:
        raise InvalidArgument(
            f"{word!r} is not part of a mount",
            hint="there are type=bind|tmpfs|image, source, target, readonly, bind-propagation, "
            f"bind-recursive={'|'.join(_RECURSIONS)}, idmap, image-subpath, tmpfs-size, tmpfs-mode, nosuid, nodev, noexec",
        )


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 < mode <= _MAX_MODE:
        raise InvalidArgument(f"{text[:20]!r} is not the mode of a directory", hint="write 1777, or 0700")
    return mode
