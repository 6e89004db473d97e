"""What the flags of ``run`` and ``create`` do, as seen from inside; what is refused; all in one daemon."""

from __future__ import annotations

import json
import os
import resource
import shlex
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.typed import refused

if TYPE_CHECKING:
    from tests.support.daemon import Daemon


pytestmark = pytest.mark.integration

V1 = not Path("/sys/fs/cgroup/cgroup.controllers").exists()
ALL_CAPABILITIES = next(
    line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd")
)
USUAL_CAPABILITIES = 0xA80425FB
CAP_CHOWN, CAP_NET_ADMIN, CAP_SYS_PTRACE = 1 << 0, 1 << 12, 1 << 19


def inside(daemon: Daemon, box: str, flags: list[str], script: str) -> str:
    return daemon.ok("run", "--rm", *flags, box, "sh", "-c", script)


# -- limits -----------------------------------------------------------------------------------------------------------


def group_files(*pairs: tuple[str, str]) -> str:
    """A script that shows files of the container's control group: of version 1, or of version 2."""
    return f"cd /sys/fs/cgroup; cat {' '.join(one if V1 else two for one, two in pairs)}"


def test_limits_of_the_control_group(shared: Daemon, busybox: str) -> None:
    flags = [
        *("-m", "64m", "--memory-swap", "96m", "--memory-reservation", "32m", "-c", "512", "--cpu-quota", "25000"),
        *("--cpu-period", "50000", "--cpuset-cpus", "0", "--cpuset-mems", "0", "--pids-limit", "50"),
    ]
    script = group_files(
        ("memory/memory.limit_in_bytes", "memory.max"),
        ("memory/memory.memsw.limit_in_bytes", "memory.swap.max"),
        ("memory/memory.soft_limit_in_bytes", "memory.low"),
        ("cpu/cpu.shares", "cpu.weight"),
        ("cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us", "cpu.max"),
        ("cpuset/cpuset.cpus", "cpuset.cpus"),
        ("cpuset/cpuset.mems", "cpuset.mems"),
        ("pids/pids.max", "pids.max"),
    )
    swap, shares = (96 << 20, "512") if V1 else (32 << 20, "20")
    assert inside(shared, busybox, flags, script).split() == [
        *(str(64 << 20), str(swap), str(32 << 20), shares, "25000", "50000", "0", "0", "50"),
    ]


def test_more_limits_and_the_safe_defaults(shared: Daemon, busybox: str) -> None:
    script = "ulimit -Sn; ulimit -Hn; df -k /dev/shm | awk 'NR==2 {print $2}'; cat /proc/self/oom_score_adj; "
    script += group_files(("pids/pids.max", "pids.max"))
    own = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert inside(shared, busybox, [], script).split() == ["1024", str(min(own, 524288)), "65536", "0", "4096"]
    flags = ["--ulimit", "nofile=500:600", "--ulimit", "core=0", "--ulimit", "nproc=321", "--shm-size", "8m"]
    flags += ["--oom-score-adj", "321", "--pids-limit", "-1"]
    found = inside(shared, busybox, flags, f"{script}; ulimit -c; grep processes /proc/self/limits").split()
    assert found[:5] == ["500", "600", "8192", "321", "max"]
    assert found[5:] == ["0", "Max", "processes", "321", "321", "processes"]


def test_limits_of_version_1_are_refused_elsewhere(shared: Daemon, busybox: str) -> None:
    script = "cd /sys/fs/cgroup/memory; cat memory.swappiness; grep oom_kill_disable memory.oom_control"
    flags = ["--memory-swappiness", "7", "--oom-kill-disable", "-m", "64m"]
    if V1:
        assert inside(shared, busybox, flags, script).split() == ["7", "oom_kill_disable", "1"]
    else:
        assert "version 1" in refused(shared, busybox, shlex.join(flags))


def test_limits_of_devices(shared: Daemon, busybox: str, tmp_path: Path) -> None:
    disk = next(path for path in sorted(Path("/dev").iterdir()) if path.is_block_device())
    number = f"{os.major(disk.stat().st_rdev)}:{os.minor(disk.stat().st_rdev)}"
    flags = ["--device-read-bps", f"{disk}:1m", "--device-write-iops", f"{disk}:77"]
    script = group_files(
        ("blkio/blkio.throttle.read_bps_device blkio/blkio.throttle.write_iops_device", "io.max"),
    )
    found = inside(shared, busybox, flags, script)
    assert number in found
    assert "1048576" in found
    assert "77" in found
    assert "not a block device" in refused(shared, busybox, f"--device-read-bps {tmp_path}:1m")


def test_weights_of_devices(shared: Daemon, busybox: str) -> None:
    disk = next(path for path in sorted(Path("/dev").iterdir()) if path.is_block_device())
    number = f"{os.major(disk.stat().st_rdev)}:{os.minor(disk.stat().st_rdev)}"
    flags = ["--blkio-weight-device", f"{disk}:321"]
    groups = (Path("/sys/fs/cgroup/blkio"), "blkio") if V1 else (Path("/sys/fs/cgroup/ross"), "io")
    if not any(groups[0].glob(f"{groups[1]}.*weight_device")):
        assert "weighs no use of disks" in refused(shared, busybox, shlex.join(flags))
        return
    names = ("blkio/blkio.bfq.weight_device blkio/blkio.weight_device", "io.bfq.weight")
    assert f"{number} 321" in inside(shared, busybox, flags, group_files(names))


def test_update_changes_the_same_limits(shared: Daemon, busybox: str) -> None:
    shared.ross("run", "-d", "--name", "updated", "-m", "64m", "--cpus", "0.5", busybox, "sleep", "600")
    done = shared.ross("update", "--memory-reservation", "16m", "--cpu-shares", "300", "--cpuset-cpus", "0", "updated")
    assert (done.returncode, done.stdout) == (0, "updated\n"), done.stderr
    shared.ok("update", "--cpu-quota", "7000", "--cpu-period", "70000", "updated")
    (info,) = json.loads(shared.ross("inspect", "updated").stdout)
    limits = info["HostConfig"]
    assert (limits["Memory"], limits["MemoryReservation"]) == (64 << 20, 16 << 20)
    assert (limits["CpuShares"], limits["CpusetCpus"], limits["NanoCpus"]) == (300, "0", 0)
    if V1:
        group = Path("/sys/fs/cgroup/cpu/ross") / info["Id"]
        assert (group / "cpu.shares").read_text() == "300\n"
        assert (group / "cpu.cfs_quota_us").read_text() == "7000\n"
        assert (group / "cpu.cfs_period_us").read_text() == "70000\n"
    done = shared.ross("update", "--memory-swap", "32m", "updated")
    assert "smaller than that of memory" in done.stderr
    assert shared.ross("update", "--cpuset-cpus", "4000", "updated").returncode == 1
    shared.ross("rm", "-f", "updated")


# -- privileges -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], USUAL_CAPABILITIES),
        (["--cap-add", "net_admin", "--cap-drop", "CAP_CHOWN"], (USUAL_CAPABILITIES | CAP_NET_ADMIN) & ~CAP_CHOWN),
        (["--cap-drop", "ALL"], 0),
        (["--cap-drop", "all", "--cap-add", "CHOWN", "--cap-add", "cap_sys_ptrace"], CAP_CHOWN | CAP_SYS_PTRACE),
        (["--cap-add", "ALL"], int(ALL_CAPABILITIES, 16)),
        (["--cap-add", "ALL", "--cap-drop", "CHOWN"], int(ALL_CAPABILITIES, 16) & ~CAP_CHOWN),
    ],
)
def test_capabilities(shared: Daemon, busybox: str, flags: list[str], expected: int) -> None:
    found = inside(shared, busybox, flags, "grep ^Cap /proc/self/status")
    sets = dict(line.split(":\t") for line in found.splitlines())
    assert int(sets["CapBnd"], 16) == int(sets["CapEff"], 16) == int(sets["CapPrm"], 16) == expected
    assert int(sets["CapInh"], 16) == int(sets["CapAmb"], 16) == 0


def test_options_of_security(shared: Daemon, busybox: str) -> None:
    script = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status; ls /proc/scsi | wc -l; ls /etc/init.d 2>&1 | wc -l; "
    script += "cat /proc/self/mountinfo | grep -c ' /proc/sys '"
    assert inside(shared, busybox, [], script).split()[:4] == ["NoNewPrivs:", "0", "Seccomp:", "2"]
    flags = ["--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined"]
    flags += ["--security-opt", "label=disable", "--security-opt", "apparmor=unconfined"]
    assert inside(shared, busybox, flags, script).split()[:4] == ["NoNewPrivs:", "1", "Seccomp:", "0"]


def test_masks(shared: Daemon, busybox: str) -> None:
    script = "awk '{print $5}' /proc/self/mountinfo; ls /etc/init.d /home | wc -l"
    usual = set(inside(shared, busybox, [], script).split())
    golden = [
        "/proc/acpi",
        "/proc/interrupts",
        "/proc/keys",
        "/proc/kcore",
        "/proc/scsi",
        "/proc/timer_list",
        "/sys/firmware",
    ]
    golden += [
        "/proc/bus",
        "/proc/fs",
        "/proc/irq",
        "/proc/sys",
        "/proc/sysrq-trigger",
        "/sys/devices/virtual/powercap",
    ]
    golden += [str(path) for path in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle")]
    assert {path for path in golden if Path(path).exists()} <= usual
    flags = ["--security-opt", "mask=/home:/etc/group", "--security-opt", "unmask=/proc/k*:/proc/sys"]
    found = set(inside(shared, busybox, flags, f"wc -c < /etc/group; {script}").split())
    assert {"/proc/timer_list", "/etc/group", "0"} <= found
    assert not {"/proc/keys", "/proc/sys"} & found
    bare = inside(shared, busybox, ["--security-opt", "systempaths=unconfined"], script).split()
    assert not set(golden) & set(bare)


def test_profile_of_system_calls(shared: Daemon, busybox: str, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    rules = [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
        {"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["link"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_CHOWN"]}},
        {"names": ["sync"], "action": "SCMP_ACT_ERRNO", "includes": {"arches": ["s390x"]}},
    ]
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "archMap": [], "syscalls": rules}))
    script = "mkdir /x; touch /y; chmod 700 /y && sync && echo fine"
    done = shared.ross("run", "--rm", "--security-opt", f"seccomp={profile}", busybox, "sh", "-c", script)
    assert "Operation not supported" in done.stderr or "Not supported" in done.stderr
    assert done.stdout == "fine\n"
    profile.write_text('{"defaultAction": "SCMP_ACT_NOTIFY"}')
    assert "SCMP_ACT_NOTIFY" in refused(shared, busybox, f"--security-opt seccomp={profile}")
    profile.write_text("[]")
    assert "profile" in refused(shared, busybox, f"--security-opt seccomp={profile}")


def test_digest_of_the_profile_is_told(shared: Daemon, busybox: str) -> None:
    shared.ross("create", "--name", "profiled", busybox, "true")
    shared.ross("create", "--name", "bare", "--security-opt", "seccomp=unconfined", busybox, "true")
    profiled, bare = json.loads(shared.ross("inspect", "profiled", "bare").stdout)
    assert profiled["Seccomp"].startswith("sha256:")
    assert bare["Seccomp"] == ""
    shared.ross("rm", "profiled", "bare")


def test_devices_groups_and_annotations(shared: Daemon, busybox: str) -> None:
    script = "ls -l /dev/mine | awk '{print $5 $6}'; head -c1 /dev/mine | wc -c; echo x > /dev/mine && echo no; id -G"
    flags = [
        "--device",
        "/dev/kmsg:/dev/mine:r",
        "--device",
        "/dev/fuse",
        "--group-add",
        "1234",
        "--group-add",
        "staff",
    ]
    done = shared.ross("run", "--rm", "--annotation", "a=b", *flags, busybox, "sh", "-c", f"{script}; ls /dev/fuse")
    assert "1,11" in done.stdout
    assert "no" not in done.stdout.split()
    assert {"0", "50", "1234"} <= set(done.stdout.splitlines()[-2].split())
    assert done.stdout.splitlines()[-1] == "/dev/fuse"


def test_rules_about_devices(shared: Daemon, busybox: str) -> None:
    """Who may make a node of a device still opens only what a rule allows; each as Docker takes it."""
    script = (
        "mknod /fuse c 10 229; true </fuse && echo reads; true >>/fuse && echo writes; true </dev/null && echo usual"
    )
    for rules, expected in (
        ([], ["usual"]),
        (["c 10:229 r"], ["reads", "usual"]),
        (["c 10:228 rwm", "b 10:229 rwm", "c 2:* rwm"], ["usual"]),
        (["c 10:* rw"], ["reads", "writes", "usual"]),
        (["a *:229 w"], ["writes", "usual"]),
        (["a *:* rwm"], ["reads", "writes", "usual"]),
    ):
        flags = [f"--device-cgroup-rule={rule}" for rule in rules]
        done = shared.ross("run", "--rm", *flags, busybox, "sh", "-c", f"{{ {script}; }} 2>/dev/null")
        assert done.stdout.split() == expected, rules
    created = shared.ross("create", "--name", "ruled", "--device-cgroup-rule", "c 10:* rw", busybox)
    assert created.returncode == 0, created.stderr
    (info,) = json.loads(shared.ross("inspect", "ruled").stdout)
    assert info["HostConfig"]["DeviceCgroupRules"] == ["c 10:* rw"]
    shared.ross("rm", "ruled")


def test_kernel_parameters(shared: Daemon, busybox: str) -> None:
    flags = [
        "--sysctl",
        "net.ipv4.ip_forward=1",
        "--sysctl",
        "kernel.shmmax=1234567",
        "--sysctl",
        "fs.mqueue.msg_max=11",
    ]
    script = "cd /proc/sys; cat net/ipv4/ip_forward kernel/shmmax fs/mqueue/msg_max"
    assert inside(shared, busybox, flags, script).split() == ["1", "1234567", "11"]


# -- namespaces and names ---------------------------------------------------------------------------------------------


def test_namespaces_of_the_host(shared: Daemon, busybox: str) -> None:
    script = "for one in pid ipc uts cgroup; do readlink /proc/self/ns/$one; done"
    ours = [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("pid", "ipc", "uts", "cgroup")]
    flags = ["--pid", "host", "--ipc", "host", "--uts", "host", "--cgroupns", "host"]
    assert inside(shared, busybox, flags, script).split() == ours
    assert not set(inside(shared, busybox, [], script).split()) & set(ours)
    assert inside(shared, busybox, flags, "hostname; ls /proc | grep -c '^[0-9]'").split()[0] == os.uname().nodename


def test_processes_of_the_hosts_namespace_end_with_the_container(shared: Daemon, busybox: str) -> None:
    script = "sh -c 'exec sleep 987654' & sleep 0.3"
    assert inside(shared, busybox, ["--pid", "host"], script) == ""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # others end meanwhile
            assert b"987654" not in path.read_bytes()


def test_names_and_resolver(shared: Daemon, busybox: str) -> None:
    flags = [
        *("--add-host", "db:10.1.2.3", "--add-host", "six=[2001:db8::1]", "--dns", "9.9.9.9", "--dns", "2001:db8::53"),
        *("--dns-search", "a.example", "--dns-search", "b.example", "--dns-opt", "ndots:2", "--dns-option", "rotate"),
    ]
    found = inside(shared, busybox, flags, "cat /etc/resolv.conf; cat /etc/hosts").splitlines()
    assert found[:4] == [
        *("nameserver 9.9.9.9", "nameserver 2001:db8::53", "options ndots:2 rotate", "search a.example b.example"),
    ]
    assert found[4:6] == ["10.1.2.3\tdb", "2001:db8::1\tsix"]
    assert "127.0.0.1\tlocalhost" in found


def test_init_reaps_and_hands_signals_on(shared: Daemon, busybox: str) -> None:
    script = "cat /proc/1/comm; (sh -c 'sleep 0.1 &') ; sleep 0.5; for f in /proc/[0-9]*/status; do grep 'State:.Z' $f; done; echo end"
    found = inside(shared, busybox, ["--init", "--read-only"], script).split()
    assert found[0] in {"init", "tini-static", "tini", "catatonit"}
    assert found[1:] == ["end"]
    shared.ross("run", "-d", "--name", "polite", "--init", busybox, "sleep", "600")
    shared.ross("stop", "-t", "30", "polite")
    (info,) = json.loads(shared.ross("inspect", "polite").stdout)
    assert info["State"]["ExitCode"] == 143, "sleep alone, as the first process, would have ignored the signal"
    shared.ross("rm", "polite")


# -- mounts -----------------------------------------------------------------------------------------------------------


def options_of(listing: str, target: str) -> set[str]:
    """Of a mount in a mountinfo, its options, and those of its filesystem."""
    fields = next(line.split() for line in listing.splitlines() if line.split()[4] == target)
    return {*fields[5].split(","), *fields[-1].split(",")}


def test_mounts(shared: Daemon, busybox: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    flags = [
        *("--tmpfs", "/plain", "--tmpfs", "/tuned:size=1m,mode=700,exec,ro", "-v", f"{source}:/v:ro,noexec,nosuid,Z"),
        *("--mount", f"type=bind,source={source},target=/m,readonly,bind-propagation=rslave,nodev"),
        *("--mount", "type=tmpfs,dst=/t,tmpfs-size=2m,tmpfs-mode=0711"),
        *("--mount", f"type=bind,src={source},dst=/one/in/it,bind-recursive=disabled"),
    ]
    found = inside(shared, busybox, flags, "cat /proc/self/mountinfo; stat -c %a /plain /tuned /t")
    listing, modes = found.rsplit("\n", 4)[0], found.split()[-3:]
    assert modes == ["1777", "700", "711"]
    assert {"rw", "nosuid", "nodev", "noexec"} <= options_of(listing, "/plain")
    assert {"ro", "nosuid", "nodev", "size=1024k"} <= options_of(listing, "/tuned")
    assert "noexec" not in options_of(listing, "/tuned")
    assert {"ro", "noexec", "nosuid"} <= options_of(listing, "/v")
    assert {"ro", "nodev"} <= options_of(listing, "/m")
    assert {"rw", "size=2048k"} <= options_of(listing, "/t")
    assert "rw" in options_of(listing, "/one/in/it")


def test_read_only_means_what_is_mounted_below_too(shared: Daemon, busybox: str, filesystem: Path) -> None:
    source = filesystem / "tree"
    (source / "below").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "below", source / "below"], check=True)
    try:
        script = "touch /v/below/x 2>/dev/null && echo written; grep -q ' /v/below ' /proc/self/mountinfo && echo seen"
        assert inside(shared, busybox, ["-v", f"{source}:/v:ro"], script).split() == ["seen"]
        flags = ["--mount", f"type=bind,src={source},dst=/v,ro,bind-recursive=writable"]
        assert inside(shared, busybox, flags, script).split() == ["written", "seen"]
        flags = ["--mount", f"type=bind,src={source},dst=/v,bind-recursive=disabled"]
        assert inside(shared, busybox, flags, f"{script}; true").split() == ["written"]
    finally:
        subprocess.run(["umount", source / "below"], check=True)


# -- files of the client ----------------------------------------------------------------------------------------------


def test_environment_from_files_and_file_for_the_id(shared: Daemon, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# a comment\nA=from the file\nB='quoted'\n\nPATH_OF_NOBODY\nC=file\n")
    identity = tmp_path / "id"
    flags = ["--env-file", str(tmp_path / "env"), "-e", "C=flag", "--cidfile", str(identity), "--name", "withid"]
    done = shared.ross("run", *flags, busybox, "sh", "-c", 'echo "$A,$B,$C,$PATH_OF_NOBODY"')
    assert done.stdout == "from the file,'quoted',flag,\n"
    (info,) = json.loads(shared.ross("inspect", "withid").stdout)
    assert identity.read_text() == info["Id"]
    assert "is there already" in refused(shared, busybox, f"--cidfile {identity}")
    shared.ross("rm", "withid")
    assert "cannot be read" in refused(shared, busybox, "--env-file /no/such")
    missing = tmp_path / "none"
    assert shared.ross("create", "--cidfile", str(missing), "--pull", "never", "nosuch:1").returncode == 125
    assert not missing.exists()


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--cpuset-cpus", "0-9999"], "no processors with the numbers"),
        (["--device", "/etc/passwd"], "not a device"),
        (["--group-add", "nosuch"], "no group 'nosuch'"),
        (["--pid", "container:x"], "no container"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_flags_that_are_refused(shared: Daemon, busybox: str, flags: list[str], message: str) -> None:
    assert message in refused(shared, busybox, shlex.join(flags))
