"""Values of the flags of ``run``, as people write them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ross.cli.flags.health import HealthFlags, parse_health_command
from ross.cli.flags.limits import parse_huge_pages, parse_throttle, parse_ulimit
from ross.cli.flags.mounts import parse_long_mount, parse_tmpfs
from ross.cli.flags.namespaces import NamespaceFlags, parse_host
from ross.cli.flags.security import parse_device, parse_device_rule, parse_security
from ross.cli.parse import parse_duration, parse_mount, read_env_files
from ross.client.specs import make_spec
from ross.errors import InvalidArgument
from ross.model.health import HealthCheck
from ross.model.limits import HugePages, Throttle, ThrottleKind, Ulimit
from ross.model.mounts import Mount, MountKind, Recursion
from ross.model.security import Device

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path("/here")
READ_BPS, READ_IOPS = ThrottleKind.READ_BPS, ThrottleKind.READ_IOPS


def long(text: str) -> Mount:
    return parse_long_mount(text, here=HERE)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (parse_mount("./a:/b:ro,Z,nosuid", here=HERE), ("/here/a", True, True, ("nosuid",))),
        (parse_mount("/a:/b", here=HERE), ("/a", False, False, ())),
        (parse_mount("/a:/b:z,rw", here=HERE), ("/a", False, True, ())),
    ],
)
def test_short_mounts(found: Mount, expected: tuple[Any, ...]) -> None:
    assert (found.source, found.read_only, found.relabel, found.options) == expected


def test_long_mounts() -> None:
    assert long("type=bind,src=a,dst=/b") == Mount(source="/here/a", target="/b")
    assert long("type=bind,source=/a,target=/b,readonly,nodev,bind-recursive=readonly") == Mount(
        source="/a", target="/b", read_only=True, options=("nodev",), recursion=Recursion.READONLY
    )
    assert long("destination=/b,ro=false,source=/a,type=bind,bind-propagation=rslave") == Mount(
        source="/a", target="/b", propagation="rslave"
    )
    assert long("type=bind,src=/a,dst=/b,bind-nonrecursive").recursion is Recursion.DISABLED
    assert long("type=tmpfs,dst=/b,tmpfs-size=1m,tmpfs-mode=0700,exec") == Mount(
        kind=MountKind.TMPFS, target="/b", size_bytes=1 << 20, mode=0o700, options=("exec",)
    )
    assert long("destination=/b,source=a/b:1,type=image,image-subpath=c,noexec") == Mount(
        kind=MountKind.IMAGE, source="a/b:1", target="/b", subpath="c", options=("noexec",)
    )
    assert parse_tmpfs("/b") == Mount(kind=MountKind.TMPFS, target="/b")
    assert parse_tmpfs("/b:ro,size=1m,mode=1777,exec") == Mount(
        kind=MountKind.TMPFS, target="/b", read_only=True, size_bytes=1 << 20, mode=0o1777, options=("exec",)
    )


def test_values_of_limits_and_devices() -> None:
    assert parse_ulimit("nofile=10") == Ulimit(name="nofile", soft=10, hard=10)
    assert parse_ulimit("core=0:-1") == Ulimit(name="core", soft=0, hard=-1)
    assert parse_ulimit("stack=unlimited") == Ulimit(name="stack", soft=-1, hard=-1)
    assert parse_throttle(READ_BPS, "/dev/a:1m") == Throttle(kind=READ_BPS, device="/dev/a", rate=1 << 20)
    assert parse_throttle(READ_IOPS, "/dev/a:5") == Throttle(kind=READ_IOPS, device="/dev/a", rate=5)
    assert parse_huge_pages("2m=1g") == HugePages(page_bytes=2 << 20, limit_bytes=1 << 30)
    for text in ("c 10:229 rwm", "b 8:* r", "a *:* m"):
        assert str(parse_device_rule(text)) == text
    assert parse_device("/dev/a") == Device(source="/dev/a", target="/dev/a")
    assert parse_device("/dev/a:r") == Device(source="/dev/a", target="/dev/a", access="r")
    assert parse_device("/dev/a:/dev/b:rw") == Device(source="/dev/a", target="/dev/b", access="rw")
    assert parse_host("a=[::1]") == "a:::1"
    assert parse_host("a:1.2.3.4") == "a:1.2.3.4"
    assert make_spec([], NamespaceFlags(ipc="shareable").options()) == make_spec([], {"ipc": "private"})


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("1m30s", 90 * 10**9),
        ("1.5s", 1_500_000_000),
        ("500ms", 5 * 10**8),
        ("2us3ns", 2003),
        ("1h0.5m", 3630 * 10**9),
    ],
)
def test_lengths_of_time(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "10", "s", "-1s", "1 s", "1d", "1s ", "9" * 400 + "s", "9999999h", "1.s", "٣s"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is not a length of time"):
        parse_duration(text)


def test_commands_of_health_checks() -> None:
    assert parse_health_command("curl -f x || exit 1") == "curl -f x || exit 1"
    assert parse_health_command("[ -e /x ]") == "[ -e /x ]"
    assert parse_health_command('["curl", "-f"]') == ["curl", "-f"]
    assert parse_health_command("none") == parse_health_command("") == ""
    assert HealthFlags(health_cmd="none").options()["no_healthcheck"] is True
    assert make_spec(["x"], {"health_cmd": "y", "health_interval": 0.1}).health == HealthCheck(
        test=("CMD-SHELL", "y"), interval_ns=10**8
    )
    for wrong in ("[]", "[1]", '["a", 1]'):
        with pytest.raises(InvalidArgument, match="is not a list of words"):
            parse_health_command(wrong)
    with pytest.raises(InvalidArgument, match="together with other flags"):
        HealthFlags(no_healthcheck=True, health_retries=1).options()


def test_options_of_security(tmp_path: Path) -> None:
    profile = tmp_path / "profile"
    profile.write_text("{}")
    assert parse_security([f"seccomp={profile}"])["seccomp"] == "{}"
    assert parse_security(["seccomp=builtin"])["seccomp"] == ""
    assert parse_security(["seccomp:unconfined"])["seccomp"] == "unconfined"
    assert parse_security(["no-new-privileges"])["no_new_privileges"] is True
    assert parse_security(["no-new-privileges=false"])["no_new_privileges"] is False
    found = parse_security(["mask=/a:/b", "unmask=/c", "systempaths=unconfined", "label=disable", "apparmor=x"])
    assert found == {"mask": ["/a", "/b"], "unmask": ["/c", "ALL"], "apparmor": "x"}
    assert parse_security(["label=type:spc_t"])["selinux"] == "system_u:system_r:spc_t:s0"
    words = ["label:level:s0:c1,c2", "label=user:u", "label=role:r", "label=type:t"]
    assert parse_security(words)["selinux"] == "u:r:t:s0:c1,c2"
    assert "selinux" not in parse_security([*words, "label=disable"])
    profile.write_bytes(b"\xff")
    with pytest.raises(InvalidArgument, match="is not text"):
        parse_security([f"seccomp={profile}"])
    profile.write_text("x" * (1 << 20) + "y")
    with pytest.raises(InvalidArgument, match="larger than a mebibyte"):
        parse_security([f"seccomp={profile}"])


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (long, "src=/a,dst=/b", "of which type"),
        (long, "type=bind,src=/a", "where to mount"),
        (long, "type=bind,dst=/b", "what to mount"),
        (long, "type=volume,src=a,dst=/b", "not part of a mount"),
        (long, "type=bind,src=/a,dst=/b,bind-recursive=maybe", "not part of a mount"),
        (long, "type=bind,src=/a,dst=/b,tmpfs-size=1m", "no size"),
        (long, "type=tmpfs,src=/a,dst=/b", "neither source"),
        (long, "type=tmpfs,dst=/b,tmpfs-mode=999", "not the mode"),
        (parse_tmpfs, "/x:huge", "no option of a tmpfs"),
        (parse_tmpfs, ":ro", "where to mount"),
        (lambda text: parse_mount(text, here=HERE), "/a:/b:U", "no option of a mount"),
        (parse_ulimit, "nofile", "not a ulimit"),
        (parse_ulimit, "nofile=1:", "not a ulimit"),
        (parse_ulimit, "nofile=-2", "not a ulimit"),
        (lambda text: parse_throttle(READ_BPS, text), "1m", "not a limit of a device"),
        (lambda text: parse_throttle(READ_IOPS, text), "/dev/a:1m", "not a number"),
        (lambda text: parse_throttle(ThrottleKind.WEIGHT, text), "/dev/a:1m", "not a weight"),
        (parse_huge_pages, "2m", "not a limit of huge pages"),
        (parse_huge_pages, "2m=", "not a limit of huge pages"),
        (parse_device_rule, "c 1:3", "not a rule"),
        (parse_device_rule, "c 1:3 rx", "not a rule"),
        (parse_device_rule, "c 1:3 r\n", "not a rule"),
        (parse_device, "fuse", "not a device"),
        (parse_device, "/dev/a:", "not a device"),
        (parse_host, "a", "not a host"),
        (parse_host, "a:host-gateway", "no network yet"),
        (lambda text: parse_security([text]), "label=kind:x_t", "not an option of security"),
        (lambda text: parse_security([text]), "label=type:", "not an option of security"),
        (lambda text: parse_security([text]), "seccomp=/no/such", "cannot be read"),
        (lambda text: read_env_files([text], {}), "/no/such", "cannot be read"),
    ],
)
def test_values_that_are_refused(parse: Callable[[str], object], text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        parse(text)
