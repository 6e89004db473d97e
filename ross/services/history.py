"""How an image was made, step by step, out of what its config says of itself."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from attrs import evolve

from ross.model.images import History
from ross.oci.image import HistoryItem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ross.oci.digest import Digest
    from ross.oci.image import ImageConfig, Manifest


def history_of(
    manifest: Manifest, config: ImageConfig, *, sizes: Sequence[int], names: Sequence[str]
) -> tuple[History, ...]:
    """The steps, the last first.

    The config's word is taken for which steps made no layer. Where its steps and the layers do not come out even, steps without a layer
    have no size, and layers without a step stand by themselves: every layer is shown, none twice.

    Args:
        manifest: The image's.
        config: The image's.
        sizes: Of each layer, unpacked, bottom first.
        names: The image's.
    """
    layers = list(zip(manifest.layers, sizes, strict=True))
    steps: list[History] = []
    for item in config.history or ():
        empty = bool(item.empty_layer)
        if layers and not empty:
            descriptor, size = layers.pop(0)
            steps.append(_step(item, layer=descriptor.digest, size=size, empty=False))
        else:
            steps.append(_step(item, layer=None, size=0, empty=empty))
    steps += [_step(HistoryItem(), layer=descriptor.digest, size=size, empty=False) for descriptor, size in layers]
    if not steps:
        steps = [_step(HistoryItem(author=config.author), layer=None, size=0, empty=True)]
    last = steps[-1]
    created_at = last.created_at or nanoseconds(config.created)
    steps[-1] = evolve(last, id=manifest.config.digest, created_at=created_at, names=tuple(names))
    return tuple(reversed(steps))


def nanoseconds(text: str | None) -> int:
    """An RFC 3339 time; 0 where there is none that can be read, or that 64 bits since 1970 can hold: Go writes the year 1 for no time."""
    try:
        found = int(datetime.fromisoformat(text).timestamp() * 1_000_000) * 1000 if text else 0
    except (ValueError, OverflowError):
        return 0
    return found if 0 <= found < 1 << 63 else 0


def _step(item: HistoryItem, *, layer: Digest | None, size: int, empty: bool) -> History:
    return History(
        id=None,
        created_at=nanoseconds(item.created),
        created_by=item.created_by or "",
        author=item.author or "",
        comment=item.comment or "",
        empty=empty,
        layer=layer,
        size_bytes=size,
        names=(),
    )
