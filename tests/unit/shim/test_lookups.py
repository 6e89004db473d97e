"""What is looked up in a root filesystem: users, programs, directories; and what of a spec is refused before anything is made."""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from ross.errors import FailedPrecondition, InvalidArgument, Reason
from ross.model.containers import ContainerSpec, NetworkMode
from ross.model.limits import Limits
from ross.model.mounts import Mount
from ross.oci.image import Execution
from ross.shim.command import effective_command
from ross.shim.programs import check_program
from ross.shim.runtime import runtime_error
from ross.shim.seccomp import default_profile
from ross.shim.signals import parse_signal
from ross.shim.users import User, resolve_user
from ross.shim.validate import normalise_spec, validate_spec
from tests.support.rootfs import open_as_ours

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ross.shim.rootfs import Rootfs

PASSWD = """\
# comment
root:x:0:0:root:/root:/bin/sh
alice:x:1000:1000::/home/alice:/bin/sh
broken:x:abc:1::/:
bob:x:1001:50::relative:

:::::
"""
GROUP = "root:x:0:\nalice:x:1000:\nstaff:x:50:alice,bob\nwheel:x:10:alice\nbroken:x:zz:alice\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("etc", "bin", "usr/bin"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


@pytest.fixture
def rootfs(tree: Path) -> Iterator[Rootfs]:
    with open_as_ours(tree) as opened:
        yield opened


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("", User(uid=0, gid=0, groups=(), home="/root")),
        ("alice", User(uid=1000, gid=1000, groups=(50, 10), home="/home/alice")),
        ("1000", User(uid=1000, gid=1000, groups=(50, 10), home="/home/alice")),
        ("alice:staff", User(uid=1000, gid=50, groups=(), home="/home/alice")),
        ("alice:7", User(uid=1000, gid=7, groups=(), home="/home/alice")),
        ("4000", User(uid=4000, gid=0, groups=(), home="/")),
        ("4000:5000", User(uid=4000, gid=5000, groups=(), home="/")),
        ("bob", User(uid=1001, gid=50, groups=(), home="/")),
        (":staff", User(uid=0, gid=50, groups=(), home="/root")),
    ],
)
def test_users(rootfs: Rootfs, text: str, user: User) -> None:
    assert resolve_user(text, rootfs) == user


@pytest.mark.parametrize(
    "text",
    ["nobody", "broken", "alice:nogroup", "2147483648", "4294967295", "99999999999", "-1", "1 ", "alice:"[:-1] + "x"],
)
def test_users_that_are_none(rootfs: Rootfs, text: str) -> None:
    with pytest.raises(FailedPrecondition):
        resolve_user(text, rootfs)


def test_numbers_are_never_taken_for_names(tree: Path) -> None:
    (tree / "etc/passwd").write_text("1000:x:0:0::/:\n0:x:5:5::/:\nreal:x:1000:1000::/home/real:\n")
    (tree / "etc/group").write_text("50:x:0:\n60:x:60:\n")
    with open_as_ours(tree) as rootfs:
        assert resolve_user("1000", rootfs).uid == 1000
        assert resolve_user("", rootfs).uid == 0
        assert resolve_user("real:60", rootfs).gid == 60
        with pytest.raises(FailedPrecondition, match="calls another group '50'"):
            resolve_user("real:50", rootfs)  # the runtime would make it 0


@pytest.mark.parametrize("name", ["etc/passwd", "etc/group"])
def test_file_of_users_that_is_too_large_is_refused(tree: Path, name: str) -> None:
    """CVE-2026-47262, CVE-2025-4437: the runtime reads all of it."""
    with open_as_ours(tree) as rootfs:
        os.truncate(tree / name, 1 << 20)
        assert resolve_user("12345", rootfs).uid == 12345
        os.truncate(tree / name, (1 << 20) + 1)
        with pytest.raises(FailedPrecondition, match="is larger than 1048576 bytes"):
            resolve_user("12345", rootfs)


@pytest.mark.parametrize("name", ["etc/passwd", "etc/group"])
@pytest.mark.parametrize(
    "target", ["/proc/kmsg", "../proc/1/environ", "/dev/zero", "/sys/x", "/up/dev/zero", "/nosuch/../proc/kmsg"]
)
def test_file_of_users_that_leads_to_the_kernel_is_refused(tree: Path, name: str, target: str) -> None:
    """CVE-2024-9676: nothing is mounted there when we look, but where the runtime reads."""
    (tree / name).unlink()
    (tree / name).symlink_to(target)
    (tree / "up").symlink_to("../..")
    with open_as_ours(tree) as rootfs, pytest.raises(FailedPrecondition, match="kernel's own filesystems"):
        resolve_user("12345", rootfs)


@given(st.binary(max_size=300))
def test_no_passwd_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    tree = tmp_path_factory.mktemp("root")
    (tree / "etc").mkdir()
    (tree / "etc/passwd").write_bytes(data)
    with open_as_ours(tree) as rootfs:
        assert resolve_user("12345", rootfs).uid == 12345


def test_passwd_is_never_read_from_outside(tree: Path) -> None:
    outside = tree.parent / "outside"
    outside.write_text("evil:x:7:7::/:\n")
    (tree / "etc/passwd").unlink()
    (tree / "etc/passwd").symlink_to(outside)
    with open_as_ours(tree) as rootfs:
        assert rootfs.read("/etc/passwd", limit=100) is None
        with pytest.raises(FailedPrecondition, match="no user 'evil'"):
            resolve_user("evil", rootfs)


@pytest.mark.parametrize("name", ["etc/passwd", "etc/group"])
def test_fifo_in_the_place_of_a_file_is_refused(tree: Path, name: str) -> None:
    (tree / name).unlink()
    os.mkfifo(tree / name)
    with open_as_ours(tree) as rootfs, pytest.raises(FailedPrecondition, match="is not a regular file"):
        resolve_user("root", rootfs)


def test_directories_and_files_are_made_inside_whatever_the_links_say(tree: Path) -> None:
    (tree / "up").symlink_to("../../../..")
    (tree / "absolute").symlink_to("/made")
    (tree / "circle").symlink_to("circle")
    (tree / "etc/resolv.conf").symlink_to("/run/nowhere/resolv.conf")
    with open_as_ours(tree) as rootfs:
        if os.geteuid() == 0:
            rootfs.make_directory("/up/a/b")
            rootfs.make_directory("/absolute/c")
            rootfs.make_file("/etc/resolv.conf")
            assert (tree / "a/b").is_dir()
            assert (tree / "made/c").is_dir()
            assert (tree / "run/nowhere/resolv.conf").is_file()
        with pytest.raises(OSError, match="circle"):
            rootfs.make_directory("/circle/x")
        with pytest.raises(IsADirectoryError):
            rootfs.make_file("/etc")
        with pytest.raises(NotADirectoryError):
            rootfs.make_directory("/etc/passwd/x")
    assert not (tree.parent / "a").exists()


def elf(machine: int, interpreter: bytes = b"") -> bytes:
    head = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, 1 if interpreter else 0, 0, 0, 0)
    )
    table = struct.pack("<IIQQQQQQ", 3, 0, 120, 0, 0, len(interpreter), 0, 0) if interpreter else b""
    return head + table + interpreter


HOST = {"x86_64": 62, "aarch64": 183}.get(os.uname().machine, 62)


@pytest.mark.parametrize(
    ("content", "mode", "reason", "message"),
    [
        (elf(HOST), 0o755, None, ""),
        (b"#!/bin/static\n", 0o755, None, ""),
        (b"#! /bin/nosuch -x\n", 0o755, Reason.COMMAND_NOT_FOUND, "'/bin/nosuch', is not in the image"),
        (elf(HOST, b"/lib64/ld.so\0"), 0o755, Reason.COMMAND_NOT_FOUND, "dynamic loader, '/lib64/ld.so'"),
        (elf(243), 0o755, Reason.COMMAND_NOT_EXECUTABLE, "riscv64"),
        (b"text", 0o644, Reason.COMMAND_NOT_EXECUTABLE, "lacks the x permission"),
        (elf(HOST)[:20], 0o755, None, ""),
    ],
)
def test_programs(tree: Path, rootfs: Rootfs, content: bytes, mode: int, reason: str | None, message: str) -> None:
    (tree / "bin/static").write_bytes(elf(HOST))
    program = tree / "usr/bin/program"
    program.write_bytes(content)
    program.chmod(mode)

    def check(*command: str) -> None:
        check_program(rootfs, command, search_path="/bin:/usr/bin", working_dir="/usr", mounted=("/mnt",))

    for name in ("program", "/usr/bin/program", "bin/program", "./bin/program"):
        if reason is None:
            check(name)
            continue
        with pytest.raises(FailedPrecondition) as caught:
            check(name)
        assert caught.value.reason == reason
        assert message in caught.value.message
    with pytest.raises(FailedPrecondition, match="has no program 'nosuch' in its PATH") as missing:
        check("nosuch")
    assert missing.value.reason == Reason.COMMAND_NOT_FOUND
    check("/mnt/anything")
    (tree / "dev").mkdir(exist_ok=True)
    (tree / "bin/null").symlink_to("../dev/null")
    for name in ("/dev/null", "/proc/self/exe", "/sys", "/bin/null", "../dev/nosuch"):
        with pytest.raises(FailedPrecondition, match="kernel's own") as kernels:
            check(name)
        assert kernels.value.reason == Reason.COMMAND_NOT_EXECUTABLE
    (tree / "opt").symlink_to("mnt/tools")
    (tree / "bin/linked").symlink_to("../opt/linked")
    check("/opt/anything")
    check("linked")
    (tree / "bin/astray").symlink_to("../lost/linked")
    with pytest.raises(FailedPrecondition, match="has no program 'astray'"):
        check("astray")


def test_commands_are_merged_by_the_fields_rules() -> None:
    image = Execution(entrypoint=("entry",), cmd=("default",))
    spec = ContainerSpec()
    assert effective_command(spec, image) == ("entry", "default")
    assert effective_command(evolve(spec, args=("mine",)), image) == ("entry", "mine")
    assert effective_command(evolve(spec, entrypoint=("other",)), image) == ("other",)
    assert effective_command(evolve(spec, entrypoint=(), args=("mine",)), image) == ("mine",)
    for empty in (Execution(), Execution(cmd=("",))):
        with pytest.raises(InvalidArgument, match="no command"):
            effective_command(spec, empty)


@pytest.mark.parametrize(
    ("text", "number"),
    [("TERM", 15), ("SIGTERM", 15), ("sigterm", 15), ("15", 15), ("RTMIN+3", 37), ("SIGRTMAX-1", 63), ("KILL", 9)],
)
def test_signals(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "65",
        "NOSUCH",
        "RTMIN+99",
        "-9",
        "TERM+1",
        "RTMIN+x",
        "\N{FULLWIDTH DIGIT NINE}",
        "U\N{LATIN SMALL LETTER LONG S}R1",
    ],
)
def test_what_is_no_signal(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is not a signal"):
        parse_signal(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "-x"}, "container name"),
        ({"name": "a" * 200}, "container name"),
        ({"hostname": "a_b"}, "hostname"),
        ({"network": NetworkMode.UNKNOWN}, "network"),
        ({"network": NetworkMode.HOST, "hostname": "x"}, "host's name"),
        ({"working_dir": "x"}, "absolute"),
        ({"stop_signal": "NOPE"}, "not a signal"),
        ({"stop_grace_seconds": -2}, "negative"),
        ({"env": ("=x",)}, "NAME=value"),
        ({"args": ("a\0b",)}, "zero byte"),
        ({"limits": Limits(memory_bytes=5)}, "too small"),
        ({"limits": Limits(nano_cpus=5)}, "too little"),
        ({"limits": Limits(pids_limit=-2)}, "limit of processes"),
        ({"labels": {"": "x"}}, "labels"),
        ({"labels": {"x": "y" * 70_000}}, "labels"),
        ({"mounts": (Mount(source="x", target="/y"),)}, "source"),
        ({"mounts": (Mount(source="/x", target="y"),)}, "target"),
        ({"mounts": (Mount(source="/x", target="/a/../../b"),)}, "target"),
        ({"mounts": (Mount(source="/x", target="/proc"),)}, "nothing can be mounted on /proc"),
        ({"mounts": (Mount(source="/x", target="/a"), Mount(source="/y", target="/a/"))}, "two mounts"),
        ({"mounts": (Mount(source="/x", target="/a", propagation="up"),)}, "propagation"),
    ],
)
def test_specs_that_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        validate_spec(evolve(ContainerSpec(), **change))


@pytest.mark.parametrize(
    ("text", "reason", "message"),
    [
        (
            'level=error msg="unable to start container process: exec: \\"nosuch\\": executable file not found in $PATH"',
            Reason.COMMAND_NOT_FOUND,
            'exec: "nosuch": executable file not found',
        ),
        (
            'level=error msg="container process: exec: \\"/x\\": permission denied"',
            Reason.COMMAND_NOT_EXECUTABLE,
            "permission denied",
        ),
        ('level=error msg="something else"', None, "could not create the container: something else"),
        ("plain words", None, "plain words"),
        ("", None, "no reason given"),
    ],
)
def test_failures_of_the_runtime_are_told_in_its_words(text: str, reason: str | None, message: str) -> None:
    error = runtime_error(text, what="create")
    assert error.reason == reason
    assert message in error.message


def test_targets_of_mounts_have_one_form() -> None:
    spec = ContainerSpec(mounts=(Mount(source="/x", target="//a//./b/"),))
    assert normalise_spec(spec).mounts[0].target == "/a/b"
    for target in ("//", "//proc", "/./sys/", "///dev"):
        with pytest.raises(InvalidArgument, match="nothing can be mounted"):
            validate_spec(ContainerSpec(mounts=(Mount(source="/x", target=target),)))


def test_zero_byte_does_not_end_a_path(rootfs: Rootfs) -> None:
    assert rootfs.stat("/bin/\0x") is None
    assert rootfs.read("/etc/passwd\0x", limit=10) is None


def test_sockets_of_two_families_are_denied() -> None:
    profile = default_profile(frozenset(), machine="x86_64")
    assert profile is not None
    rules = [rule["args"][0] for rule in profile["syscalls"] if rule["names"] == ["socket"]]

    def allowed(family: int) -> bool:
        compare = {"SCMP_CMP_LT": family.__lt__, "SCMP_CMP_EQ": family.__eq__, "SCMP_CMP_GT": family.__gt__}
        return any(compare[rule["op"]](rule["value"]) for rule in rules)

    assert [family for family in range(60) if not allowed(family)] == [38, 40]
    assert [rule for rule in profile["syscalls"] if "socketcall" in rule["names"]] == [
        {"names": ["socketcall"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
    ], "without this rule it is allowed by libseccomp wherever socket is, for any family"
    assert default_profile(frozenset(), machine="unheard-of") is None


def test_filter_is_for_the_architectures_that_the_kernel_has() -> None:
    for machine, x32, expected in (
        ("x86_64", True, ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
        ("x86_64", False, ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]),
        ("aarch64", False, ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
    ):
        profile = default_profile(frozenset(), machine=machine, x32=x32)
        assert profile is not None
        assert profile["architectures"] == expected


def test_rootfs_reads_are_bounded(tree: Path, rootfs: Rootfs) -> None:
    (tree / "big").write_bytes(b"x" * 1000)
    assert rootfs.read("/big", limit=10) == b"x" * 10
    assert rootfs.read("/etc", limit=10) is None
    found = rootfs.stat("/etc/passwd")
    assert found is not None
    assert stat.S_ISREG(found.st_mode)
    assert rootfs.stat("/nosuch/x") is None
