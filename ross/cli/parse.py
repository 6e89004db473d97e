"""Values of flags, as people write them."""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ross.errors import InvalidArgument
from ross.model.containers import ContainerFilter, ContainerState
from ross.model.health import HealthState
from ross.model.images import ImageFilter
from ross.model.mounts import MOUNT_OPTIONS, PROPAGATIONS, Mount

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CONTAINER_FILTERS: Final = (
    "name", "id", "status", "exited", "label", "ancestor", "before", "since", "health", "volume", "is-task",
)  # fmt: skip
_HEALTH: Final = tuple(state.value for state in HealthState if state is not HealthState.UNKNOWN)
_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION: Final = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|[smhdw]))+")
_GO_UNITS: Final = {
    "ns": 1, "us": 1000, "\N{MICRO SIGN}s": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip
_GO_PART: Final = re.compile("([0-9]+(?:[.][0-9]+)?)(ns|us|\N{MICRO SIGN}s|ms|s|m|h)")
_GO_DURATION: Final = re.compile(f"(?:{_GO_PART.pattern})+")
_MAX_DURATION: Final = 1 << 62
_CONSISTENCY: Final = frozenset({"consistent", "cached", "delegated"})
"""How far host and container may differ for a while where there is a virtual machine between them; here they never do."""
_IMAGE_FILTERS: Final = ("dangling", "reference", "label", "before", "since")


def parse_env(entries: Sequence[str], ours: Mapping[str, str]) -> list[str]:
    """``NAME=value`` entries; a bare ``NAME`` takes our own value, and stays, for there to be no such variable, if we have none.

    Raises:
        InvalidArgument: an entry has no name.
    """
    found = []
    for entry in entries:
        name, equals, _value = entry.partition("=")
        if not name:
            raise InvalidArgument(f"{entry!r} is not an environment variable", hint="write NAME=value")
        if equals:
            found.append(entry)
        else:
            found.append(f"{name}={ours[name]}" if name in ours else name)
    return found


def read_env_files(paths: Sequence[str], ours: Mapping[str, str]) -> list[str]:
    """The entries of files that have one a line; empty lines, and those that begin with ``#``, are none. Nothing is unquoted.
    A bare ``NAME`` takes our own value, and is left out if we have none.

    Raises:
        InvalidArgument: a file cannot be read, or a line of it is no entry.
    """
    found = []
    for path in paths:
        try:
            text = Path(path).read_bytes().decode("utf-8-sig")
        except OSError as error:
            raise InvalidArgument(f"the file {path!r} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise InvalidArgument(f"the file {path!r} is not UTF-8") from None
        # Only so do lines end: a value may hold what else Unicode takes for the end of one.
        lines = (line.removesuffix("\r").lstrip() for line in text.split("\n"))
        entries = [line for line in lines if line and not line.startswith("#")]
        for entry in entries:
            name = entry.partition("=")[0]
            if not name or any(character.isspace() for character in name):
                raise InvalidArgument(
                    f"the file {path!r} has a variable with the name {name!r}", hint="a name is one word"
                )
        found += [entry for entry in parse_env(entries, ours) if "=" in entry]
    return found


def parse_labels(entries: Sequence[str]) -> dict[str, str]:
    """``key=value`` entries; a bare ``key`` has the empty value.

    Raises:
        InvalidArgument: an entry has no key.
    """
    found = {}
    for entry in entries:
        key, _equals, value = entry.partition("=")
        if not key:
            raise InvalidArgument(f"{entry!r} is not a label", hint="write key=value")
        found[key] = value
    return found


def read_label_files(paths: Sequence[str]) -> dict[str, str]:
    """The labels of files that have one a line; empty lines, and those that begin with ``#``, are none.

    Raises:
        InvalidArgument: a file cannot be read, or a line of it is no label.
    """
    found: dict[str, str] = {}
    for path in paths:
        try:
            text = Path(path).read_bytes().decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise InvalidArgument(f"the file {path!r} cannot be read: {why}") from None
        lines = (line.strip() for line in text.split("\n"))
        found |= parse_labels([line for line in lines if line and not line.startswith("#")])
    return found


def parse_options(entries: Sequence[str]) -> dict[str, str]:
    """``key=value`` entries; the last of a key counts.

    Raises:
        InvalidArgument: an entry is not of that form.
    """
    found = {}
    for entry in entries:
        key, _equals, value = entry.partition("=")
        if not key or not value:
            raise InvalidArgument(f"{entry!r} is not an option", hint="write key=value")
        found[key] = value
    return found


def parse_duration(text: str) -> int:
    """A length of time as Go writes it, such as 1m30s or 500ms, in nanoseconds.

    Raises:
        InvalidArgument: it is none.
    """
    if text == "0":
        return 0
    parts = _GO_PART.findall(text) if _GO_DURATION.fullmatch(text) else []
    nanoseconds = sum(float(count) * _GO_UNITS[unit] for count, unit in parts)
    if not parts or nanoseconds > _MAX_DURATION:
        raise InvalidArgument(f"{text[:40]!r} is not a length of time", hint="write 30s, 1m30s or 500ms")
    return round(nanoseconds)


def parse_time(text: str, *, now: float | None = None) -> int:
    """A moment as people give it, in nanoseconds since the epoch.

    Raises:
        InvalidArgument: it is none.
    """
    try:
        if _DURATION.fullmatch(text):
            parts = re.findall(r"([0-9.]+)(ms|[smhdw])", text)
            return int(((now or time.time()) - sum(float(count) * _UNITS[unit] for count, unit in parts)) * 1e9)
        if text.replace(".", "", 1).isdigit():
            whole, _point, fraction = text.partition(".")
            return int(whole or "0") * 10**9 + int(fraction[:9].ljust(9, "0") or "0")
        return _nanoseconds(text)
    except (ValueError, OverflowError):
        raise InvalidArgument(
            f"{text!r} is not a time",
            hint="write 2026-01-31T12:00:00Z, seconds since the epoch, or 10m for ten minutes ago",
        ) from None


def _nanoseconds(text: str) -> int:
    """A date, or a date and time; without a zone, in ours. The kinds of RFC 3339 with up to nine digits behind the point."""
    match = re.fullmatch(r"([^.]*)\.([0-9]{1,9})(.*)", text)
    whole, fraction = (match[1] + match[3], match[2]) if match else (text, "")
    return int(datetime.fromisoformat(whole).timestamp()) * 10**9 + int(fraction.ljust(9, "0"))


def parse_image_filter(terms: Sequence[str], *, name: str = "", all: bool = False) -> ImageFilter:  # noqa: A002 -- the flag's
    """``key=value`` terms of ``images --filter``; several references are alternatives, everything else must hold at once.

    Raises:
        InvalidArgument: a term is not one that there is, or one of which there can be but one stands twice.
    """
    references, labels, single = [name] if name else [], [], dict[str, str]()
    for term in terms:
        key, _equals, value = term.partition("=")
        if key not in _IMAGE_FILTERS or not value:
            raise InvalidArgument(f"{term!r} is not a filter of images", hint=f"there are {', '.join(_IMAGE_FILTERS)}")
        if key == "reference":
            references.append(value)
        elif key == "label":
            labels.append(value)
        elif single.setdefault(key, value) != value:
            raise InvalidArgument(f"the filter {key} is given twice, with different values")
    dangling = single.get("dangling", "").lower()
    if dangling not in {"", "true", "false", "1", "0"}:
        raise InvalidArgument(f"the filter dangling is {dangling!r}", hint="write dangling=true or dangling=false")
    return ImageFilter(
        all=all,
        dangling=dangling in {"true", "1"},
        named=dangling in {"false", "0"},
        references=tuple(references),
        labels=tuple(labels),
        before=single.get("before", ""),
        since=single.get("since", ""),
    )


def parse_container_filter(terms: Sequence[str]) -> ContainerFilter:
    """``key=value`` terms of ``ps --filter``; several of one kind are alternatives, except labels.

    Raises:
        InvalidArgument: a term is not one that there is.
    """
    found: dict[str, list[str]] = {key: [] for key in _CONTAINER_FILTERS}
    for term in terms:
        key, _equals, value = term.partition("=")
        if key not in found or not value:
            hint = f"there are {', '.join(_CONTAINER_FILTERS)}"
            raise InvalidArgument(f"{term!r} is not a filter of containers", hint=hint)
        found[key].append(value)
    for key in ("before", "since"):
        if len(set(found[key])) > 1:
            raise InvalidArgument(f"the filter {key} is given twice, with different values")
    if not set(map(str.lower, found["is-task"])) <= {"false", "0"}:
        raise InvalidArgument("no container is a task: there is no swarm", hint="leave is-task out")
    codes = [value for value in found["exited"] if not (value.isascii() and value.isdigit() and int(value) <= 255)]
    if codes:
        raise InvalidArgument(f"{codes[0]!r} is not an exit code", hint="write exited=0 to exited=255")
    return ContainerFilter(
        names=tuple(found["name"]),
        ids=tuple(found["id"]),
        states=tuple(_state(value) for value in found["status"]),
        exit_codes=tuple(map(int, found["exited"])),
        labels=tuple(found["label"]),
        ancestors=tuple(found["ancestor"]),
        before="".join(found["before"][:1]),
        since="".join(found["since"][:1]),
        health=tuple(_health(value) for value in found["health"]),
        volumes=tuple(found["volume"]),
    )


def _health(text: str) -> HealthState:
    if text not in _HEALTH:
        raise InvalidArgument(f"{text!r} says nothing of health", hint=f"there are {', '.join(_HEALTH)}")
    return HealthState(text)


def _state(text: str) -> ContainerState:
    """A state as other engines call it, or as we do."""
    names = {state.value: state for state in ContainerState if state is not ContainerState.UNKNOWN}
    names |= {"exited": ContainerState.STOPPED}
    if text not in names:
        raise InvalidArgument(f"{text!r} is not a status", hint=f"there are {', '.join(names)}")
    return names[text]


def parse_mount(text: str, *, here: Path) -> Mount:
    """``source:target[:options]``; the source is meant from where we are.

    Raises:
        InvalidArgument: it is not of that form.
    """
    source, *rest = text.split(":")
    if not source or not 1 <= len(rest) <= 2 or not rest[0]:
        raise InvalidArgument(f"{text!r} is not a mount", hint="write source:target or source:target:ro")
    if "/" not in source and not source.startswith((".", "~")):
        raise InvalidArgument(
            f"{source!r} would be the name of a volume; there are only mounts of files and directories",
            hint=f"for a directory here write ./{source}:{rest[0]}",
        )
    read_only, relabel, idmap, propagation = False, False, False, "rprivate"
    options = []
    for option in rest[1].split(",") if len(rest) == 2 else ():
        if option in {"ro", "rw"}:
            read_only = option == "ro"
        elif option in {"z", "Z"}:
            relabel = True
        elif option in _CONSISTENCY:
            continue
        elif option == "idmap":
            idmap = True
        elif option in PROPAGATIONS:
            propagation = option
        elif option in MOUNT_OPTIONS:
            options.append(option)
        else:
            known = ", ".join((*sorted(MOUNT_OPTIONS), *sorted(PROPAGATIONS)))
            raise InvalidArgument(f"{option!r} is no option of a mount", hint=f"ro, rw, idmap, z, Z, {known}")
    return Mount(
        source=str(here / Path(source).expanduser()),
        target=rest[0],
        read_only=read_only,
        propagation=propagation,
        relabel=relabel,
        idmap=idmap,
        options=tuple(options),
    )
