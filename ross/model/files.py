"""Files of containers: what is at a path, what was copied, what makes an image of them."""

from __future__ import annotations

from attrs import frozen

from ross.model.snapshots import FileKind


@frozen(kw_only=True)
class FileInfo:
    """What is at a path of a container."""

    name: bytes
    """The last part of the path, as it was asked for."""
    kind: FileKind
    mode: int
    """Permission bits, with those for setuid, setgid and sticky."""
    size_bytes: int
    modified_at: int
    uid: int
    gid: int
    link_target: bytes
    """Of a symbolic link; empty for anything else."""


@frozen(kw_only=True)
class CopiedFiles:
    """What was put into a container."""

    entries: int
    size_bytes: int
    """Of the contents of files."""


@frozen(kw_only=True)
class CommitOptions:
    """How an image is made of a container."""

    name: str = ""
    """Empty: it is kept by its digest."""
    author: str = ""
    message: str = ""
    """Stands in its history."""
    changes: tuple[str, ...] = ()
    """Instructions of a Dockerfile that change its config: ``CMD ["/bin/sh"]``."""
    pause: bool = True
    """Let nothing in the container run while its files are read."""
