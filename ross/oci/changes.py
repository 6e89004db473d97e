"""Changes to an image's config, written as the instructions of a Dockerfile: ``CMD ["/bin/sh"]``, ``ENV A=1``, ``LABEL a=b``.

What a builder does with these words is done here, as far as it only touches the config. Values may be quoted; ``$NAME`` and ``${NAME}``
outside single quotes stand for what ``ENV`` has set before, nothing where it has not.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from ross.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Config = dict[str, object]
"""The ``config`` of an image config, in the names of the spec."""

MAX_CHANGE: Final = 64 << 10
_SHELL: Final = ("/bin/sh", "-c")
_NAME: Final = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")
_PORT: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?\Z")
_SIGNAL: Final = re.compile(r"(?:SIG)?[A-Z][A-Z0-9+-]*\Z|[0-9]{1,2}\Z")


def apply_changes(changes: Iterable[str], config: Mapping[str, object] | None = None) -> Config:
    """What a config is after these changes.

    Raises:
        InvalidArgument: one of them is not an instruction, or not one that a config knows.
    """
    changed: Config = dict(config or {})
    for change in changes:
        word, _space, rest = change.strip().partition(" ")
        instruction = _INSTRUCTIONS.get(word.upper())
        if instruction is None or len(change) > MAX_CHANGE:
            raise InvalidArgument(
                f"there is no change {change[:100]!r}", hint=f"the instructions are {', '.join(sorted(_INSTRUCTIONS))}"
            )
        rest = rest.strip()
        if not rest and word.upper() not in {"CMD", "ENTRYPOINT"}:
            raise InvalidArgument(f"the change {word.upper()} says nothing", hint=f"write {_EXAMPLES[word.upper()]}")
        try:
            instruction(changed, rest)
        except _MistakeError as error:
            raise InvalidArgument(
                f"the change {change[:100]!r} cannot be read: {error}", hint=f"write {_EXAMPLES[word.upper()]}"
            ) from None
    return changed


class _MistakeError(Exception):
    """What is wrong with an instruction."""


def _cmd(config: Config, rest: str) -> None:
    config["Cmd"] = _command(rest)


def _entrypoint(config: Config, rest: str) -> None:
    config["Entrypoint"] = _command(rest)


def _command(rest: str) -> list[str]:
    """A JSON array is the command itself; anything else is a line for the shell."""
    listed = _json_list(rest)
    if listed is not None:
        return listed
    return [*_SHELL, rest] if rest else []


def _json_list(text: str) -> list[str] | None:
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) and all(isinstance(word, str) for word in value) else None


def _env(config: Config, rest: str) -> None:
    known = _strings(config.get("Env"))
    for name, value in _pairs(rest, _variables(config)):
        entry = f"{name}={value}"
        at = next((index for index, one in enumerate(known) if one.partition("=")[0] == name), None)
        if at is None:
            known.append(entry)
        else:
            known[at] = entry
    config["Env"] = known


def _label(config: Config, rest: str) -> None:
    found = config.get("Labels")
    labels = dict(found) if isinstance(found, dict) else {}
    labels.update(_pairs(rest, _variables(config)))
    config["Labels"] = labels


def _expose(config: Config, rest: str) -> None:
    ports = _keys(config.get("ExposedPorts"))
    for word in _words(rest, _variables(config)):
        match = _PORT.match(word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if match is None or not 0 < first <= last <= 65535:
            raise _MistakeError(f"{word!r} is no port")
        ports |= {f"{port}/{match[3] or 'tcp'}" for port in range(first, last + 1)}
    config["ExposedPorts"] = {port: {} for port in sorted(ports)}


def _volume(config: Config, rest: str) -> None:
    volumes = _keys(config.get("Volumes"))
    for path in _json_list(rest) or _words(rest, _variables(config)):
        if not path.strip():
            raise _MistakeError("a volume has a path")
        volumes.add(path)
    config["Volumes"] = {path: {} for path in sorted(volumes)}


def _workdir(config: Config, rest: str) -> None:
    path = _one(rest, config)
    before = config.get("WorkingDir")
    if not path.startswith("/"):
        path = f"{before if isinstance(before, str) and before else ''}/{path}"
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    config["WorkingDir"] = "/" + "/".join(parts)


def _user(config: Config, rest: str) -> None:
    config["User"] = _one(rest, config)


def _stop_signal(config: Config, rest: str) -> None:
    signal = _one(rest, config)
    if not _SIGNAL.match(signal):
        raise _MistakeError(f"{signal!r} is no signal")
    config["StopSignal"] = signal


_INSTRUCTIONS: Final[dict[str, Callable[[Config, str], None]]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
_EXAMPLES: Final = {
    "CMD": 'CMD ["program", "argument"]',
    "ENTRYPOINT": 'ENTRYPOINT ["program"]',
    "ENV": "ENV NAME=value",
    "EXPOSE": "EXPOSE 80/tcp",
    "LABEL": "LABEL key=value",
    "STOPSIGNAL": "STOPSIGNAL SIGTERM",
    "USER": "USER name[:group]",
    "VOLUME": "VOLUME /data",
    "WORKDIR": "WORKDIR /directory",
}


# -- words --------------------------------------------------------------------------------------------------------------


def _one(rest: str, config: Config) -> str:
    words = _words(rest, _variables(config))
    if len(words) != 1 or not words[0]:
        raise _MistakeError("it takes one value")
    return words[0]


def _pairs(rest: str, variables: Mapping[str, str]) -> list[tuple[str, str]]:
    """``A=1 B="two words"``; or, as it was written once, ``A all the rest``."""
    name, _space, value = rest.partition(" ")
    if "=" not in name:
        if not value.strip():
            raise _MistakeError(f"{name!r} has no value")
        return [(name, _expanded(value.strip(), variables))]
    pairs = []
    for word in _words(rest, variables):
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise _MistakeError(f"{word!r} is not of the form name=value")
        pairs.append((key, value))
    return pairs


def _words(text: str, variables: Mapping[str, str]) -> list[str]:
    """Words as a shell splits them: quotes keep blanks, a backslash keeps what follows it."""
    words: list[str] = []
    word: str | None = None
    quote = ""
    at = 0
    while at < len(text):
        character = text[at]
        variable = _NAME.match(text, at) if character == "$" and quote != "'" else None
        if variable is not None:
            word = (word or "") + variables.get(variable[1] or variable[2], "")
            at = variable.end()
            continue
        if character == "\\" and quote != "'" and at + 1 < len(text):
            following = text[at + 1]
            kept = f"\\{following}" if quote and following not in '"\\$' else following
            word, at = (word or "") + kept, at + 2
            continue
        if character == quote:
            quote = ""
        elif character in "'\"" and not quote:
            quote, word = character, word or ""
        elif character.isspace() and not quote:
            if word is not None:
                words.append(word)
            word = None
        else:
            word = (word or "") + character
        at += 1
    if quote:
        raise _MistakeError(f"a quote {quote} is not closed")
    return [*words, word] if word is not None else words


def _expanded(text: str, variables: Mapping[str, str]) -> str:
    return _NAME.sub(lambda match: variables.get(match[1] or match[2], ""), text)


def _variables(config: Config) -> dict[str, str]:
    return {name: value for name, _equals, value in (entry.partition("=") for entry in _strings(config.get("Env")))}


def _strings(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list | tuple) else []


def _keys(value: object) -> set[str]:
    return set(value) if isinstance(value, dict) else set()
