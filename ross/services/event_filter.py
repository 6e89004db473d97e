"""Which events somebody wants."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from ross.errors import InvalidArgument
from ross.oci.reference import Reference
from ross.services.filters import has_label

if TYPE_CHECKING:
    from ross.model.events import Event, EventOptions


class Wanted:
    """What was asked for, ready to be compared with many events."""

    def __init__(self, options: EventOptions) -> None:
        self._filter = options.filter
        self._kinds = frozenset(options.filter.kinds)
        self._actions = frozenset(options.filter.actions)
        self._images = frozenset(form for name in options.filter.images for form in _asked_forms(name))
        self._since = options.since
        self.until = options.until

    def seconds_left(self) -> float:
        """How long it is until the time until which events are wanted; 0 if that has passed."""
        return max(0.0, (self.until - time.time_ns()) / 1e9) if self.until else math.inf

    def fits(self, event: Event) -> bool:
        """Whether an event is wanted, but for its end."""
        return (
            event.time >= self._since
            and (not self._kinds or event.kind in self._kinds)
            and (not self._actions or not self._actions.isdisjoint((event.action, event.action.partition(":")[0])))
            and (not self._filter.containers or self._is_of_container(event))
            and (not self._images or self._is_of_image(event))
            and all(has_label(event.labels, text) for text in self._filter.labels)
        )

    def _is_of_container(self, event: Event) -> bool:
        return event.kind == "container" and any(
            text.startswith(name) for name in self._filter.containers for text in (event.subject, event.name)
        )

    def _is_of_image(self, event: Event) -> bool:
        if event.kind == "image":
            encoded = event.subject.partition(":")[2]
            forms = {*_forms(event.name), event.subject, encoded, encoded[:12]}
        else:
            forms = _forms(event.attributes.get("image", ""))
        return not self._images.isdisjoint(forms)


def _forms(name: str) -> set[str]:
    """A name, and the same without its tag or digest, in full."""
    try:
        reference = Reference.parse(name).with_default_tag()
    except InvalidArgument:
        return {name}
    return {name, str(reference), reference.repository}


def _asked_forms(name: str) -> set[str]:
    """What somebody typed, and what that is in full; without a tag it means all tags."""
    try:
        return {name, str(Reference.parse(name))}
    except InvalidArgument:
        return {name}
