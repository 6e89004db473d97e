"""Profiles of system calls that users bring, as Docker writes them or as the runtime-spec has them; to what the runtime is told.

Docker's have conditions: rules for some architectures, capabilities or kernels. They are decided here.
"""

from __future__ import annotations

import platform
import re
from typing import Any, Final

from ross.errors import Corrupt, InvalidArgument
from ross.oci.codec import parse_json

MAX_PROFILE_BYTES: Final = 1 << 20
_ARCHITECTURES: Final = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
}
_ACTIONS: Final = frozenset({
    "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP", "SCMP_ACT_ERRNO", "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW", "SCMP_ACT_LOG",
})  # fmt: skip
_OPERATORS: Final = frozenset({
    "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ",
})  # fmt: skip
_MAX_RULES: Final = 4096
_MAX_NAMES: Final = 1024


def read_profile(text: str, capabilities: frozenset[str]) -> dict[str, Any]:
    """The ``linux.seccomp`` that a profile means for a container with these capabilities, on this machine.

    Raises:
        InvalidArgument: it is no profile.
    """
    if len(text) > MAX_PROFILE_BYTES:
        raise InvalidArgument(f"a profile of system calls takes no more than {MAX_PROFILE_BYTES} bytes")
    try:
        document = parse_json(text.encode(), what="the profile of system calls")
        return _profile(document, capabilities)
    except (InvalidArgument, Corrupt) as error:
        raise InvalidArgument(f"the profile of system calls cannot be used: {error.message}") from None
    except (TypeError, ValueError, AttributeError, KeyError):
        raise InvalidArgument("the profile of system calls is not written as one") from None


def _profile(document: dict[str, Any], capabilities: frozenset[str]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "defaultAction": _one_of(_ACTIONS, document["defaultAction"]),
        "architectures": _architectures(document),
        "syscalls": [],
    }
    if (default := document.get("defaultErrnoRet")) is not None:
        found["defaultErrnoRet"] = _errno(default)
    rules = document.get("syscalls") or []
    if len(rules) > _MAX_RULES:
        raise InvalidArgument(f"it has more than {_MAX_RULES} rules")
    for rule in rules:
        if _applies(rule, capabilities):
            found["syscalls"].append(_rule(rule))
    return found


def _architectures(document: dict[str, Any]) -> list[str]:
    listed = document.get("architectures")
    if listed:
        return [_text(name) for name in listed]
    _name, own = _machine()
    for entry in document.get("archMap") or []:
        if entry["architecture"] == own:
            return [own, *(_text(name) for name in entry.get("subArchitectures") or [])]
    return [own]


def _machine() -> tuple[str, str]:
    return _ARCHITECTURES.get(platform.machine(), (platform.machine(), ""))


def _applies(rule: dict[str, Any], capabilities: frozenset[str]) -> bool:
    wanted, unwanted = rule.get("includes") or {}, rule.get("excludes") or {}
    architecture, _own = _machine()
    if (arches := wanted.get("arches")) and architecture not in arches:
        return False
    if not capabilities.issuperset(wanted.get("caps") or ()):
        return False
    if (kernel := wanted.get("minKernel")) and not _has_kernel(kernel):
        return False
    if architecture in (unwanted.get("arches") or ()) or capabilities.intersection(unwanted.get("caps") or ()):
        return False
    return not ((kernel := unwanted.get("minKernel")) and _has_kernel(kernel))


def _has_kernel(wanted: str) -> bool:
    numbers = [tuple(int(part) for part in re.findall(r"\d+", text)[:2]) for text in (platform.release(), wanted)]
    return numbers[0] >= numbers[1]


def _rule(rule: dict[str, Any]) -> dict[str, Any]:
    names = rule.get("names") or [rule["name"]]
    if len(names) > _MAX_NAMES:
        raise InvalidArgument(f"a rule has more than {_MAX_NAMES} names")
    found: dict[str, Any] = {"names": [_text(name) for name in names], "action": _one_of(_ACTIONS, rule["action"])}
    if (number := rule.get("errnoRet")) is not None:
        found["errnoRet"] = _errno(number)
    if arguments := rule.get("args"):
        found["args"] = [
            {
                "index": _number(one["index"], most=5),
                "value": _number(one["value"]),
                "valueTwo": _number(one.get("valueTwo", 0)),
                "op": _one_of(_OPERATORS, one["op"]),
            }
            for one in arguments
        ]
    return found


def _one_of(allowed: frozenset[str], value: object) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise InvalidArgument(f"{str(value)[:60]!r} is none of {', '.join(sorted(allowed))}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_]{1,64}", value, re.ASCII):
        raise InvalidArgument(f"{str(value)[:60]!r} is not a name in a profile")
    return value


def _errno(value: object) -> int:
    return _number(value, most=4095)


def _number(value: object, *, most: int = (1 << 64) - 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise InvalidArgument(f"{str(value)[:60]} is not a number from 0 to {most}")
    return value
