"""Which images and containers a list holds: the filters that people know from other engines."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from attrs import evolve

from ross.model.containers import ContainerState
from ross.model.health import HealthState
from ross.oci.reference import Reference
from ross.shim.state import ACTIVE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ross.model.containers import ContainerFilter, ContainerInfo
    from ross.model.images import ImageFilter, ImageInfo
    from ross.oci.digest import Digest


def select_images(
    infos: Iterable[ImageInfo], wanted: ImageFilter, *, created_at: Callable[[str], int]
) -> tuple[ImageInfo, ...]:
    """Those that fit all of what is wanted, with the names that do.

    Args:
        infos: The images.
        wanted: The filter.
        created_at: When the image of a name was made.

    Raises:
        NotFound: there is no such image as ``before`` or ``since`` says.
    """
    before = created_at(wanted.before) if wanted.before else None
    since = created_at(wanted.since) if wanted.since else None
    selected = []
    for info in infos:
        if wanted.references:
            info = evolve(info, names=tuple(name for name in info.names if _fits(name, wanted.references)))
            if not info.names:
                continue
        if (
            (not wanted.dangling or not info.names)
            and (not wanted.named or info.names)
            and (before is None or info.created_at < before)
            and (since is None or info.created_at > since)
            and all(has_label(info.labels, text) for text in wanted.labels)
        ):
            selected.append(info)
    return tuple(selected)


def select_containers(
    infos: Iterable[ContainerInfo],
    wanted: ContainerFilter,
    *,
    created_at: Callable[[str], int],
    image_id: Callable[[str], Digest | None],
) -> tuple[ContainerInfo, ...]:
    """Those that fit all of what is wanted, the newest first.

    Args:
        infos: The containers.
        wanted: The filter.
        created_at: When the container of a name was created.
        image_id: The image that a name denotes now, if there is one.

    Raises:
        NotFound: there is no such container as ``before`` or ``since`` says.
    """
    before = created_at(wanted.before) if wanted.before else None
    since = created_at(wanted.since) if wanted.since else None
    ancestors = {image_id(image) for image in wanted.ancestors} - {None}
    everything = wanted.all or wanted.states or wanted.exit_codes or wanted.last
    found = [
        info
        for info in infos
        if (everything or info.state in ACTIVE)
        and (not wanted.states or info.state in wanted.states)
        and (not wanted.exit_codes or _exited_with(info) in wanted.exit_codes)
        and (not wanted.names or any(part in info.name for part in wanted.names))
        and (not wanted.ids or info.id.startswith(wanted.ids))
        and (not wanted.ancestors or info.image_id in ancestors or info.image in wanted.ancestors)
        and (before is None or info.created_at < before)
        and (since is None or info.created_at > since)
        and all(has_label(info.spec.labels, text) for text in wanted.labels)
        and (not wanted.health or _health(info) in wanted.health)
        and (not wanted.volumes or _has_volume(info, wanted.volumes))
    ]
    found.sort(key=lambda info: -info.created_at)
    return tuple(found[: wanted.last] if wanted.last else found)


def _exited_with(info: ContainerInfo) -> int | None:
    return info.outcome.exit_code if info.state is ContainerState.STOPPED and info.outcome is not None else None


def _health(info: ContainerInfo) -> HealthState:
    return info.health.state if info.health is not None else HealthState.NONE


def _has_volume(info: ContainerInfo, paths: Sequence[str]) -> bool:
    return any(path in {mount.target, mount.source} for mount in info.spec.mounts for path in paths)


def has_label(labels: Mapping[str, str], text: str) -> bool:
    """Whether there is such a label, given as ``key`` or ``key=value``."""
    key, equals, value = text.partition("=")
    return key in labels and (not equals or labels[key] == value)


def _fits(name: str, patterns: Sequence[str]) -> bool:
    reference = Reference.parse(name)
    repository = evolve(reference, tag=None, digest=None)
    forms = (str(reference), reference.familiar, str(repository), repository.familiar)
    return any(_matches(form, pattern) for pattern in patterns for form in forms)


def _matches(form: str, pattern: str) -> bool:
    """As shells do, part by part: no ``*`` stands for a slash."""
    parts, wanted = form.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))
