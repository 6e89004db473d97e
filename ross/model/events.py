"""Events: what happens in the engine, told to whoever listens."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

EventKind = Literal["container", "image", "registry"]
"""What an event is about."""

ContainerAction = Literal[
    "attach",
    "checkpoint",
    "commit",
    "copy",
    "create",
    "destroy",
    "detach",
    "die",
    "exec_create",
    "exec_detach",
    "exec_die",
    "exec_start",
    "export",
    "health_status: healthy",
    "health_status: unhealthy",
    "kill",
    "oom",
    "pause",
    "prune",
    "rename",
    "resize",
    "restart",
    "restore",
    "start",
    "stop",
    "unpause",
    "update",
]
ImageAction = Literal["delete", "import", "load", "prune", "pull", "push", "save", "tag", "untag"]
RegistryAction = Literal["login", "logout"]
EventAction = ContainerAction | ImageAction | RegistryAction
"""What has happened, in Docker's words where Docker has one."""


@frozen(kw_only=True)
class Event:
    """Something that has happened. No event has a secret in it, nor what was executed, which may have one."""

    sequence: int
    """Rises from event to event, also from one daemon of a root to the next; never used twice."""
    time: int
    kind: str
    """One of :data:`EventKind`; a later daemon may have more."""
    action: str
    """One of :data:`EventAction`; a later daemon may have more."""
    subject: str
    """The container's id, the image's id, or the registry's host."""
    name: str
    """The name under which people know it, if it has one."""
    attributes: dict[str, str] = field(factory=dict)
    """More about it: ``image``, ``exitCode``, ``signal``, ``execID``, ..."""
    labels: dict[str, str] = field(factory=dict)
    """The container's, or the image's."""


@frozen(kw_only=True)
class EventGap:
    """Events that are not told any more, since too many have happened meanwhile, or since another daemon has ended."""

    lost: int
    """How many, of whatever kind; 0 where nobody knows, as of a daemon that was killed."""


@frozen(kw_only=True)
class EventFilter:
    """Which events are told. Of what is given, one must hold; of what is given in several fields, one in each."""

    kinds: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    """Events of containers whose id or name is this or begins so."""
    images: tuple[str, ...] = ()
    """Events of images with this id or name, and of containers that were made by this name; without a tag: whatever the tag."""
    labels: tuple[str, ...] = ()
    """All of these are labels of what the event is about: ``key`` or ``key=value``."""


@frozen(kw_only=True)
class EventOptions:
    """What to tell, and from where on: from now on, if nothing is said."""

    filter: EventFilter = EventFilter()
    after: int = 0
    """Behind the event with this sequence number: whoever has seen that one misses nothing and sees nothing twice."""
    since: int = 0
    """From this time on, in nanoseconds since the epoch."""
    until: int = 0
    """To this time; 0: for ever."""


@frozen(kw_only=True)
class EventBatch:
    """Some events, in their order."""

    gap: EventGap | None
    """What is missing before the first of them."""
    events: tuple[Event, ...]
    position: int
    """Ask for what is behind this sequence number next; also later, and of another daemon of the same root."""
    ended: bool
    """Nothing more will come: the time until which it was asked for has passed."""
