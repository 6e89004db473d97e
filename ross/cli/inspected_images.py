"""What ``image inspect`` shows, under the names that Docker has for what it has, with Ross's own beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ross.cli.inspected import time_text
from ross.cli.template_values import NO_LIST, Fields, Labels
from ross.oci.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ross.model.images import ImageInfo, Referrer


_MAPS: Final = ("ExposedPorts", "Labels", "Volumes")


class ImageFields(Fields):
    """An image; what its registry has about it is there if it was asked for."""

    also: ClassVar[Mapping[str, str]] = {"ID": "Id"}
    absent: ClassVar[Mapping[str, Any]] = {"Referrers": None}


class ConfigFields(Fields):
    """The ``config`` of an image, of which most may be left out."""

    absent: ClassVar[Mapping[str, Any]] = {
        **dict.fromkeys(("Cmd", "Entrypoint", "Env", "OnBuild"), NO_LIST),
        **dict.fromkeys(_MAPS, Labels()),
        **dict.fromkeys(("StopSignal", "User", "WorkingDir"), ""),
        "Healthcheck": None,
    }


def image_fields(
    info: ImageInfo, config: dict[str, Any], manifest: dict[str, Any], *, referrers: Sequence[Referrer] | None = None
) -> ImageFields:
    """An image, with its config and its manifest as they are in the store."""
    references = [Reference.parse(name) for name in info.names]
    rootfs = config.get("rootfs")
    steps = config.get("history")
    last = steps[-1] if isinstance(steps, list) and steps and isinstance(steps[-1], dict) else {}
    return ImageFields({
        "Id": str(info.id),
        "RepoTags": [one.familiar for one in references if one.tag is not None and one.digest is None],
        "RepoDigests": _digests(references, info),
        "Comment": last.get("comment", ""),
        "Created": config.get("created") or time_text(info.created_at),
        "Author": config.get("author", ""),
        "Config": _execution(config),
        "Architecture": info.platform.architecture,
        "Variant": info.platform.variant,
        "Os": info.platform.os,
        "Size": info.unpacked_bytes,
        "GraphDriver": {"Name": "overlay", "Data": None},
        "RootFS": {
            "Type": "layers",
            "Layers": rootfs.get("diff_ids", []) if isinstance(rootfs, dict) else [],
        },
        "Names": list(info.names),
        "Target": str(info.target),
        "Manifest": str(info.manifest),
        "CompressedSize": info.size_bytes,
        "ChainId": str(info.chain_id) if info.chain_id is not None else "",
        "Blobs": [str(digest) for digest in info.layers],
        "ImageConfig": config,
        "ImageManifest": manifest,
        **({"Referrers": [_referrer(one) for one in referrers]} if referrers is not None else {}),
    })


def _digests(references: Sequence[Reference], info: ImageInfo) -> list[str]:
    """By what content each repository has it, or would have it once it is pushed."""
    repositories = dict.fromkeys(Reference(one.host, one.path, None, info.target).familiar for one in references)
    return list(repositories)


def _referrer(one: Referrer) -> dict[str, Any]:
    return {
        "Subject": str(one.subject),
        "Digest": str(one.digest),
        "MediaType": one.media_type,
        "ArtifactType": one.artifact_type,
        "Size": one.size_bytes,
        "Annotations": Labels(one.annotations),
    }


def _execution(config: dict[str, Any]) -> ConfigFields:
    found = config.get("config")
    fields = ConfigFields(found if isinstance(found, dict) else {})
    fields.update({name: Labels(fields[name]) for name in _MAPS if isinstance(fields.get(name), dict)})
    return fields
