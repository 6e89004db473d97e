"""Images in archives: saving, loading, importing."""

from __future__ import annotations

from enum import Enum

from attrs import evolve, frozen

from ross.model.images import MOST_NAMES, ImageInfo, Platform


class ArchiveFormat(Enum):
    """Which documents an archive of images has."""

    UNKNOWN = "unknown"
    BOTH = "both"
    """An OCI layout with Docker's ``manifest.json`` beside it: every engine reads one of the two."""
    OCI_ARCHIVE = "ociArchive"
    DOCKER_ARCHIVE = "dockerArchive"
    """Docker's own: uncompressed layers, no manifest; older tools read nothing else."""


@frozen(kw_only=True)
class SaveOptions:
    """How to save."""

    format: ArchiveFormat = ArchiveFormat.BOTH
    platform: Platform | None = None
    """Absent: what the name denotes, with all of it that is in the store. Else the one image for this platform."""


@frozen(kw_only=True)
class LoadOptions:
    """How to load."""

    platform: Platform | None = None
    """Where there is a choice. Absent: the host's own, or the only one there is."""


@frozen(kw_only=True)
class LoadedImage:
    """An image that came out of an archive."""

    names: tuple[str, ...]
    """What the archive calls it; empty if it does not: it is kept without a name."""
    image: ImageInfo

    def abridge(self) -> LoadedImage:
        """The same, as short as it can be."""
        return evolve(self, names=self.names[:MOST_NAMES], image=self.image.abridge())


@frozen(kw_only=True)
class ImportOptions:
    """How to make an image of a root filesystem."""

    name: str = ""
    """Empty: none but its digest."""
    changes: tuple[str, ...] = ()
    """Instructions of a Dockerfile that change the config, such as ``CMD ["/bin/sh"]``."""
    message: str = ""
    """Stands in its history."""
    platform: Platform | None = None
    """Absent: the host's own."""
