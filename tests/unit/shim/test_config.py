"""Specs that are refused, and what becomes of those that are not: the runtime's config, without a container."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from ross.errors import FailedPrecondition, InvalidArgument, RossError
from ross.linux.capabilities import ALL_CAPABILITIES
from ross.model.containers import ContainerSpec, ContainerUpdate, NetworkMode
from ross.model.limits import HugePages, Limits, Resources, Throttle, ThrottleKind, Ulimit
from ross.model.mounts import Mount, MountKind, Recursion
from ross.model.namespaces import NamespaceMode, Namespaces, Resolution
from ross.model.security import Device, DeviceRule, Security
from ross.oci.image import Execution
from ross.shim.facts import HostFacts, host_facts, parse_set
from ross.shim.host_check import check_host
from ross.shim.hostfiles import write_host_files
from ross.shim.resources import hard_limit, rlimits_of
from ross.shim.seccomp import default_profile
from ross.shim.seccomp_profile import read_profile
from ross.shim.security import seccomp_digest
from ross.shim.spec import Resolved, runtime_config
from ross.shim.update import changed_resources, updated_spec
from ross.shim.users import User
from ross.shim.validate import validate_spec

HOST = HostFacts(
    cgroup_version=2,
    cgroup_namespaces=True,
    capabilities=frozenset(ALL_CAPABILITIES) - {"CAP_SYS_RESOURCE"},
    swap_accounting=True,
    blkio_weights=False,
    huge_pages=frozenset({2 << 20}),
    oom_score_adj=100,
    cpus=frozenset({0, 1}),
    memory_nodes=frozenset({0}),
    recursive_read_only=True,
    selinux=False,
)
MiB = 1 << 20


def config_of(spec: ContainerSpec, host: HostFacts = HOST, **changes: Any) -> dict[str, Any]:
    resolved = Resolved(
        command=("true",),
        user=User(uid=5, gid=6, groups=(7,), home="/"),
        working_dir="/",
        hostname="box",
        rootfs=Path("/r"),
        host_files={},
        bind_sources={mount.target: Path(mount.source) for mount in spec.mounts if mount.source},
        cgroups_path="/ross/x",
    )
    return runtime_config(spec, Execution(), evolve(resolved, **changes), host)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"limits": Limits(memory_swap_bytes=64 * MiB)}, "goes with one of memory"),
        ({"limits": Limits(memory_bytes=64 * MiB, memory_swap_bytes=32 * MiB)}, "smaller than that of memory"),
        ({"limits": Limits(memory_bytes=64 * MiB, memory_swap_bytes=-2)}, "or -1"),
        ({"limits": Limits(memory_bytes=64 * MiB, memory_reservation_bytes=65 * MiB)}, "more than the limit"),
        ({"limits": Limits(nano_cpus=10**9, cpu_quota_us=5000)}, "another way"),
        ({"limits": Limits(cpu_quota_us=5)}, "quota"),
        ({"limits": Limits(cpu_period_us=5)}, "period"),
        ({"limits": Limits(cpu_shares=1)}, "shares"),
        ({"limits": Limits(blkio_weight=5)}, "weight"),
        ({"limits": Limits(cpuset_cpus="0-4294967295")}, "not a list of numbers"),
        ({"limits": Limits(cpuset_cpus="3-1")}, "ends before"),
        ({"limits": Limits(cpuset_mems="٣")}, "not a list of numbers"),
        ({"resources": Resources(memory_swappiness=101)}, "swappiness"),
        ({"resources": Resources(oom_score_adj=1001)}, "out-of-memory"),
        ({"resources": Resources(ulimits=(Ulimit(name="files", soft=1, hard=1),))}, "no ulimit"),
        ({"resources": Resources(ulimits=(Ulimit(name="core", soft=2, hard=1),))}, "larger than the hard"),
        ({"resources": Resources(ulimits=(Ulimit(name="core", soft=1, hard=1),) * 2)}, "twice"),
        ({"resources": Resources(throttles=(Throttle(kind=ThrottleKind.UNKNOWN, device="/x", rate=1),))}, "limited"),
        ({"resources": Resources(throttles=(Throttle(kind=ThrottleKind.READ_BPS, device="/x", rate=0),))}, "larger"),
        ({"resources": Resources(throttles=(Throttle(kind=ThrottleKind.WEIGHT, device="/x", rate=5),))}, "10 to 1000"),
        ({"resources": Resources(huge_pages=(HugePages(page_bytes=0, limit_bytes=1),))}, "size of a page"),
        ({"resources": Resources(huge_pages=(HugePages(page_bytes=1, limit_bytes=1),) * 2)}, "twice"),
        ({"security": Security(device_rules=(DeviceRule(kind="d", major=1, minor=1),))}, "'d 1:1 rwm' is not a rule"),
        ({"security": Security(device_rules=(DeviceRule(kind="c", major=-2, minor=1),))}, "not a rule"),
        ({"security": Security(device_rules=(DeviceRule(kind="c", major=1, minor=-1, access="x"),))}, "way to use"),
        ({"security": Security(cap_add=("NO_SUCH",))}, "no capability"),
        ({"security": Security(seccomp="{")}, "profile"),
        ({"security": Security(apparmor="a b")}, "AppArmor"),
        ({"security": Security(selinux="system_u:system_r")}, "label of SELinux"),
        ({"security": Security(selinux="u:r:t:s0\n")}, "label of SELinux"),
        ({"security": Security(mask=("/a/../../etc",))}, "absolute path"),
        ({"security": Security(mask=("/",))}, "root of a container"),
        ({"security": Security(unmask=("proc",))}, "not a path to unmask"),
        ({"security": Security(devices=(Device(source="x", target="/x"),))}, "absolute"),
        ({"security": Security(devices=(Device(source="/x", target="/a/../../x"),))}, "absolute"),
        ({"security": Security(devices=(Device(source="/x", target="/x", access="rr"),))}, "way to use"),
        ({"security": Security(groups=("a\nb",))}, "not a group"),
        ({"security": Security(sysctls={"vm.overcommit_memory": "1"})}, "whole host"),
        ({"security": Security(sysctls={"kernel.shmmax": "1+kernel.core_pattern=|/x"})}, "is not one of"),
        ({"security": Security(sysctls={"net.ipv4.ip_forward+kernel.core_pattern": "1"})}, "is not the name"),
        ({"security": Security(sysctls={"net/../kernel/core_pattern": "1"})}, "is not the name"),
        ({"security": Security(sysctls={"net.ipv4.ip_forward": "1\n2"})}, "is not one of"),
        (
            {"security": Security(sysctls={"kernel.sem": "1"}), "namespaces": Namespaces(ipc=NamespaceMode.HOST)},
            "host's own",
        ),
        ({"security": Security(sysctls={"net.x": "1"}), "network": NetworkMode.HOST}, "host's own"),
        ({"namespaces": Namespaces(pid=NamespaceMode.UNKNOWN)}, "kind of namespace"),
        ({"namespaces": Namespaces(uts=NamespaceMode.HOST), "hostname": "x"}, "host's name"),
        ({"namespaces": Namespaces(ipc=NamespaceMode.HOST), "resources": Resources(shm_bytes=1)}, "size it has"),
        ({"resolution": Resolution(hosts=("a\nb:1.2.3.4",))}, "name of a host"),
        ({"resolution": Resolution(hosts=("a:1.2.3.4\n5.6.7.8 b",))}, "not an IP address"),
        ({"resolution": Resolution(servers=("1.2.3.4 x",))}, "not an IP address"),
        ({"resolution": Resolution(servers=("fe80::1%eth0",))}, "network interface"),
        ({"resolution": Resolution(search=("a b",))}, "not a domain"),
        ({"resolution": Resolution(options=("ndots:2\nnameserver 1.1.1.1",))}, "not an option"),
        ({"annotations": {"": "x"}}, "need a key"),
        ({"annotations": {"a": "x" * 70_000}}, "need a key"),
        ({"mounts": (Mount(kind=MountKind.UNKNOWN, target="/x"),)}, "type of mount"),
        ({"mounts": (Mount(source="/x", target="/a", options=("suid,remount",)),)}, "no option"),
        ({"mounts": (Mount(source="/x", target="/a", recursion=Recursion.READONLY),)}, "read-only"),
        ({"mounts": (Mount(kind=MountKind.TMPFS, source="/x", target="/a"),)}, "no source"),
        ({"mounts": (Mount(kind=MountKind.TMPFS, target="/a", mode=0o20000),)}, "mode"),
        ({"mounts": (Mount(source="/x", target="/dev/init"),)}, "nothing can be mounted"),
        ({"mounts": (Mount(kind=MountKind.IMAGE, target="/a"),)}, "which image"),
        ({"mounts": (Mount(kind=MountKind.IMAGE, source="x", target="/a", mode=0o700),)}, "as it is"),
        ({"mounts": (Mount(kind=MountKind.IMAGE, source="x", target="/a", options=("dev",)),)}, "nodev"),
        ({"mounts": (Mount(kind=MountKind.IMAGE, source="x", target="/a", recursion=Recursion.DISABLED),)}, "below"),
        ({"mounts": (Mount(kind=MountKind.IMAGE, source="x", target="/a", subpath="a/.."),)}, "subpath"),
        ({"mounts": (Mount(source="/x", target="/a", subpath="a"),)}, "only of an image"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_specs_that_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        validate_spec(evolve(ContainerSpec(), **change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"limits": Limits(nano_cpus=3 * 10**9)}, "more than there are"),
        ({"limits": Limits(cpuset_cpus="0-2")}, "no processors with the numbers 2"),
        ({"limits": Limits(cpuset_mems="1")}, "no memory nodes"),
        ({"limits": Limits(blkio_weight=50)}, "weighs no use of disks"),
        ({"resources": Resources(memory_swappiness=1)}, "version 1"),
        ({"resources": Resources(oom_kill_disable=True)}, "version 1"),
        ({"resources": Resources(oom_score_adj=50)}, "CAP_SYS_RESOURCE"),
        ({"security": Security(cap_add=("sys_resource",))}, "has no CAP_SYS_RESOURCE itself"),
        ({"security": Security(apparmor="nosuch")}, "no profile 'nosuch'"),
        ({"security": Security(selinux="u:r:t:s0")}, "no SELinux that could know the label u:r:t:s0"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_what_this_host_cannot_do_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RossError, match=message):
        check_host(evolve(ContainerSpec(), **change), HOST)


def test_what_other_hosts_cannot_do_is_refused() -> None:
    check_host(ContainerSpec(), host_facts())
    host = evolve(HOST, selinux=True, recursive_read_only=False, swap_accounting=False)
    mount = Mount(source="/x", target="/a", read_only=True)
    with pytest.raises(FailedPrecondition, match="SELinux"):
        check_host(ContainerSpec(mounts=(evolve(mount, relabel=True),)), host)
    with pytest.raises(FailedPrecondition, match="whole tree"):
        check_host(ContainerSpec(mounts=(evolve(mount, recursion=Recursion.READONLY),)), host)
    with pytest.raises(FailedPrecondition, match="count swap"):
        check_host(ContainerSpec(limits=Limits(memory_bytes=MiB * 9, memory_swap_bytes=MiB * 9)), host)
    most = hard_limit("nofile")
    wanted = Resources(ulimits=(Ulimit(name="nofile", soft=1, hard=-1 if most < 0 else most + 1),))
    if most >= 0:
        with pytest.raises(FailedPrecondition, match="its own ulimit nofile"):
            check_host(ContainerSpec(resources=wanted), HOST)


# -- 5.3: users, kernel parameters, labels, generated files -----------------------------------------------------------


def test_huge_sets_of_processors_are_refused_at_once() -> None:
    """CVE-2018-20699: a large number in a set of processors took the daemon's memory and time."""
    assert parse_set("0-2,7") == {0, 1, 2, 7}
    assert len(parse_set("0-9999")) == 10_000
    for text in ("0-4294967295", "0-99999", "-1", "1-", "", "1,,2", "²", "1 2", "0x1"):
        with pytest.raises(ValueError, match="list of numbers"):
            parse_set(text)


@given(st.dictionaries(st.text(), st.text(), max_size=4))
def test_kernel_parameters_that_pass_are_of_a_namespace(sysctls: dict[str, str]) -> None:
    """CVE-2022-0811: a value with '+' in it set a second parameter, of the host."""
    try:
        validate_spec(ContainerSpec(security=Security(sysctls=sysctls)))
    except InvalidArgument:
        return
    for key, value in sysctls.items():
        assert key.startswith(("net.", "fs.mqueue.", "kernel.msg", "kernel.sem", "kernel.shm"))
        assert not set(f"{key}{value}") & set("+=\n\r\0/;|")


@pytest.mark.parametrize(
    "key", ["org.systemd.property.ExecStart", "run.oci.handler", "org.criu.config", "ross.x", "ross"]
)
def test_annotations_that_runtimes_obey_are_refused(key: str) -> None:
    """CVE-2024-3154: an annotation became a property of a systemd unit; CVE-2026-53488: a label was read as an order."""
    with pytest.raises(InvalidArgument, match="order to the runtime"):
        validate_spec(ContainerSpec(annotations={key: "x"}))
    validate_spec(ContainerSpec(labels={key: "x"}))
    ours = {"org.criu.config": ""}  # no file of settings for CRIU either
    assert config_of(ContainerSpec(labels={key: "x"}))["annotations"] == ours
    assert config_of(ContainerSpec(annotations={"a": "b"}))["annotations"] == {"a": "b", **ours}


HOSTILE = st.text(st.sampled_from("a1.:-# \t\n\r\0\x85\u2028\\n"), min_size=1, max_size=12)


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_generated_files_hold_what_was_meant_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, hostname: str, name: str, address: str, domain: str, option: str
) -> None:
    """CVE-2022-4318 and CVE-2026-15809: a newline in a value became a line of a generated file."""
    resolution = Resolution(hosts=(f"{name}:{address}",), servers=(address,), search=(domain,), options=(option,))
    try:
        validate_spec(ContainerSpec(hostname=hostname, resolution=resolution))
    except InvalidArgument:
        resolution = Resolution(hosts=("a:1.1.1.1",), servers=("1.1.1.1",), search=(domain,), options=("ndots:1",))
        try:
            validate_spec(ContainerSpec(hostname=hostname, resolution=resolution))
        except InvalidArgument:
            return
    directory = tmp_path_factory.mktemp("etc", numbered=True)

    class Layout:
        etc = directory

    files = write_host_files(Layout, hostname=hostname, network=NetworkMode.NONE, resolution=resolution)  # type: ignore[arg-type]  # all of it that is used
    text = {path: file.read_bytes().decode() for path, file in files.items()}
    assert text["/etc/hostname"].splitlines() == [hostname]
    entries = [line.split("\t") for line in text["/etc/hosts"].splitlines()]
    assert len(entries) == 8
    assert entries[-1] == ["127.0.1.1", hostname]
    assert [line.split(" ")[0] for line in text["/etc/resolv.conf"].splitlines()] in (
        ["nameserver", "options", "search"],
        ["nameserver", "options"],
    )


def test_primary_group_is_among_the_supplementary_ones_and_nothing_is_inheritable() -> None:
    """CVE-2022-36109 and 2023-25173, CVE-2022-24769 and its twins, for whatever groups and capabilities are asked for."""
    security = Security(groups=("9",), cap_add=("ALL",))
    process = config_of(ContainerSpec(security=security), groups=(9, 7))["process"]
    assert process["user"] == {"uid": 5, "gid": 6, "additionalGids": [6, 7, 9]}
    assert set(process["capabilities"]) == {"bounding", "effective", "permitted"}


def test_label_of_selinux_is_that_of_its_processes() -> None:
    spec = ContainerSpec(security=Security(selinux="system_u:system_r:spc_t:s0:c1,c2"))
    validate_spec(spec)
    check_host(spec, evolve(HOST, selinux=True))
    assert config_of(spec)["process"]["selinuxLabel"] == "system_u:system_r:spc_t:s0:c1,c2"
    assert "selinuxLabel" not in config_of(ContainerSpec())["process"]


def test_masked_paths_are_those_of_the_golden_list() -> None:
    """GHSA-6fw5-f8r9-fgfm and GHSA-jq35-85cj-fj4p: power and temperature tell what others compute. No default loses one."""
    linux = config_of(ContainerSpec())["linux"]
    golden = {
        *("/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
        *("/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"),
        "/sys/devices/virtual/powercap",
        *map(str, Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle")),
    }
    assert set(linux["maskedPaths"]) == golden
    assert linux["readonlyPaths"] == ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


# -- the config -------------------------------------------------------------------------------------------------------


def test_limits_in_the_config() -> None:
    limits = Limits(memory_bytes=64 * MiB, memory_swap_bytes=-1, nano_cpus=1_500_000_000, pids_limit=-1, cpu_shares=5)
    resources = config_of(ContainerSpec(limits=limits))["linux"]["resources"]
    assert resources["memory"] == {"limit": 64 * MiB, "swap": -1}
    assert resources["cpu"] == {"period": 100_000, "quota": 150_000, "shares": 5}
    assert "pids" not in resources
    plain = config_of(ContainerSpec())["linux"]["resources"]
    assert set(plain) == {"devices", "pids"}
    assert plain["pids"] == {"limit": 4096}
    (nofile,) = rlimits_of(ContainerSpec())
    assert nofile["type"] == "RLIMIT_NOFILE"
    assert nofile["soft"] <= 1024
    assert nofile["hard"] <= 524_288
    unlimited = Resources(ulimits=(Ulimit(name="core", soft=-1, hard=-1),))
    assert rlimits_of(ContainerSpec(resources=unlimited))[0]["hard"] == (1 << 64) - 1


def test_score_for_lack_of_memory_is_never_below_the_daemons_by_default() -> None:
    assert config_of(ContainerSpec())["process"]["oomScoreAdj"] == 100
    assert config_of(ContainerSpec(), evolve(HOST, oom_score_adj=-900))["process"]["oomScoreAdj"] == 0
    assert config_of(ContainerSpec(resources=Resources(oom_score_adj=300)))["process"]["oomScoreAdj"] == 300


def test_updates_change_what_they_name() -> None:
    spec = ContainerSpec(limits=Limits(memory_bytes=64 * MiB, nano_cpus=10**9, cpu_shares=7))

    def updated(**limits: Any) -> tuple[Limits, dict[str, Any]]:
        update = ContainerUpdate(limits=Limits(**limits))
        changed = updated_spec(spec, update)
        return changed.limits, changed_resources(changed, update, HOST)

    limits, told = updated(memory_bytes=-1)
    assert limits == Limits(nano_cpus=10**9, cpu_shares=7)
    assert told == {"memory": {"limit": -1, "swap": -1}}
    limits, told = updated(cpu_quota_us=5000)
    assert limits == Limits(memory_bytes=64 * MiB, cpu_quota_us=5000, cpu_shares=7)
    assert told == {"cpu": {"quota": 5000, "period": 100_000}}
    assert updated(cpu_shares=-1)[1] == {"cpu": {"shares": 1024}}
    assert updated(memory_reservation_bytes=8 * MiB)[1] == {"memory": {"reservation": 8 * MiB}}
    assert updated(memory_swap_bytes=80 * MiB)[1] == {"memory": {"limit": 64 * MiB, "swap": 80 * MiB}}
    assert updated(cpuset_cpus="0")[1] == {"cpu": {"cpus": "0"}}
    assert updated(pids_limit=-1)[1] == {"pids": {"limit": -1}}
    assert updated(blkio_weight=100)[1] == {"blockIO": {"weight": 100}}
    assert updated()[1] == {}


def test_read_only_mounts_are_so_with_all_below_where_the_kernel_can() -> None:
    mount = Mount(source="/x", target="/a", read_only=True)

    def options(host: HostFacts, recursion: Recursion) -> list[str]:
        spec = ContainerSpec(mounts=(evolve(mount, recursion=recursion),))
        return list(config_of(spec, host)["mounts"][-1]["options"])

    assert options(HOST, Recursion.ENABLED) == ["rbind", "rprivate", "rro"]
    assert options(HOST, Recursion.WRITABLE) == ["rbind", "rprivate", "ro"]
    assert options(HOST, Recursion.DISABLED) == ["bind", "rprivate", "ro"]
    assert options(evolve(HOST, recursive_read_only=False), Recursion.ENABLED) == ["rbind", "rprivate", "ro"]


# -- profiles of system calls -----------------------------------------------------------------------------------------


def test_profiles_are_decided_for_the_container() -> None:
    rules = [
        {"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_CHOWN"]}},
        {"names": ["b"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_CHOWN"]}},
        {"names": ["c"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "999.0"}},
        {"names": ["d"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["pdp11"]}},
        {
            "name": "e",
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 5,
            "args": [{"index": 1, "value": 7, "op": "SCMP_CMP_EQ"}],
        },
    ]
    text = json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "syscalls": rules})
    found = read_profile(text, frozenset({"CAP_CHOWN"}))
    assert [rule["names"] for rule in found["syscalls"]] == [["a"], ["e"]]
    assert found["syscalls"][1]["args"] == [{"index": 1, "value": 7, "valueTwo": 0, "op": "SCMP_CMP_EQ"}]
    assert [rule["names"] for rule in read_profile(text, frozenset())["syscalls"]] == [["b"], ["e"]]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5))
def test_whatever_a_profile_holds_it_is_read_or_refused(value: Any) -> None:
    good = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_ALLOW"}]}
    rule: dict[str, Any] = {"names": ["a"], "action": "SCMP_ACT_ALLOW"}
    for document in (
        value,
        {"defaultAction": value},
        *({**good, key: value} for key in ("defaultErrnoRet", "architectures", "archMap", "syscalls")),
        *({**good, "syscalls": [{**rule, key: value}]} for key in ("names", "action", "args", "includes", "excludes")),
    ):
        try:
            found = read_profile(json.dumps(document), frozenset())
        except InvalidArgument:
            continue
        assert set(found) <= {"defaultAction", "defaultErrnoRet", "architectures", "syscalls"}


def test_digest_tells_profiles_apart() -> None:
    digest = seccomp_digest(ContainerSpec(), HOST)
    assert digest.startswith("sha256:")
    assert seccomp_digest(ContainerSpec(), HOST) == digest
    assert seccomp_digest(ContainerSpec(security=Security(cap_add=("SYS_ADMIN",))), HOST) != digest
    assert seccomp_digest(ContainerSpec(privileged=True), HOST) == ""
    assert seccomp_digest(ContainerSpec(security=Security(seccomp="unconfined")), HOST) == ""
    own = Security(seccomp='{"defaultAction": "SCMP_ACT_ALLOW"}')
    assert seccomp_digest(ContainerSpec(security=own), HOST) not in {"", digest}
    assert seccomp_digest(ContainerSpec(privileged=True, security=own), HOST) != ""


def test_calls_that_led_out_of_containers_are_in_no_list() -> None:
    """CVE-2026-31431 and others: io_uring, keyrings, userfaultfd, and more namespaces without the privilege for it."""
    profile = default_profile(frozenset(), machine="x86_64")
    assert profile is not None
    names = {name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    doubtful = "io_uring_setup io_uring_enter io_uring_register keyctl add_key request_key userfaultfd bpf mount unshare setns "
    doubtful += "kexec_load open_by_handle_at perf_event_open init_module pivot_root swapon socketcall move_pages nfsservctl vmsplice"
    assert not names & set(doubtful.split())
