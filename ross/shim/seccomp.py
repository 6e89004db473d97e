"""The default seccomp profile: which system calls a container may make, as the field has settled on them.

Everything that is not listed fails with EPERM. Some calls depend on a capability of the container, some on the architecture, some on
an argument. ``clone3`` hides its flags from the filter, so it answers ENOSYS, upon which C libraries use ``clone``, whose flags must
make no namespace. io_uring, keyrings and userfaultfd, each a source of kernel escapes, are in no list.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import Any, Final

from ross.linux.host import has_x32

_EPERM: Final = 1
_ENOSYS: Final = 38
_NEW_NAMESPACE_FLAGS: Final = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""
_AF_ALG: Final = 38
_AF_VSOCK: Final = 40
_PERSONALITIES: Final = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""PER_LINUX, PER_LINUX32, both with UNAME26, and asking for the current one."""

_ALWAYS: Final = """
_llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32
clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1
epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown
fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64
fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake
futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid
getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid
getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32
getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents
io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule
landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listxattr listxattrat
llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret
mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open
mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv
msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause pidfd_open
pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2
prlimit64 process_mrelease process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2
read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr
removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask
rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler
sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg
sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups
setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid
setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown
sigaltstack signalfd signalfd4 sigprocmask sigreturn socketpair splice stat stat64 statfs statfs64 statx
symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun
timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64
timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat utime utimensat
utimensat_time64 utimes vfork wait4 waitid waitpid write writev
""".split()

_BY_CAPABILITY: Final = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYS_ADMIN": (
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount open_tree "
        "perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare"
    ),
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYSLOG": "syslog",
}

_ARCHITECTURES: Final = {
    "x86_64": (("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"), "arch_prctl modify_ldt"),
    "aarch64": (
        ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
        "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
    ),
    "armv7l": (
        ("SCMP_ARCH_ARM",),
        "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
    ),
    "s390x": (("SCMP_ARCH_S390X", "SCMP_ARCH_S390"), "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
    "ppc64le": (("SCMP_ARCH_PPC64LE",), "swapcontext sync_file_range2"),
    "riscv64": (("SCMP_ARCH_RISCV64",), "riscv_flush_icache"),
}


@cache
def default_profile(
    capabilities: frozenset[str], *, machine: str | None = None, x32: bool | None = None
) -> dict[str, Any] | None:
    """The ``linux.seccomp`` of a runtime config (runtime-spec, config-linux.md, "Seccomp").

    Args:
        capabilities: The container's bounding set.
        machine: The kernel's name of the architecture; this machine's if absent.
        x32: Whether the kernel has the x32 ABI; found out if absent.

    Returns:
        The profile, to be treated as constant; None for an architecture that it is not written for.
    """
    found = _ARCHITECTURES.get(machine or platform.machine())
    if found is None:
        return None
    architectures, extra = found
    if not (has_x32() if x32 is None else x32):
        # A filter with its calls takes the runtime twice as long to make, for what the kernel does not have.
        architectures = tuple(name for name in architectures if name != "SCMP_ARCH_X32")
    names = [*_ALWAYS, *extra.split()]
    for capability, allowed in _BY_CAPABILITY.items():
        if capability in capabilities:
            names += allowed.split()
    rules: list[dict[str, Any]] = [_allow(sorted(set(names)))]
    rules += [_allow(["personality"], _argument(0, value, "SCMP_CMP_EQ")) for value in _PERSONALITIES]
    # All families but two: AF_ALG, whose kernel code is an old source of escapes, and AF_VSOCK, which reaches the hypervisor past every
    # network namespace. A rule can compare an argument once, so the rest is given in three pieces.
    rules.append(_allow(["socket"], _argument(0, _AF_ALG, "SCMP_CMP_LT")))
    rules.append(_allow(["socket"], _argument(0, _AF_ALG + 1, "SCMP_CMP_EQ")))
    rules.append(_allow(["socket"], _argument(0, _AF_VSOCK, "SCMP_CMP_GT")))
    # What is allowed of socket, libseccomp allows of 32-bit programs' socketcall too, whose family it cannot see (CVE-2026-31431). So there
    # is no socketcall: C libraries then use the calls of their own that Linux 4.3 has for each.
    rules.append({"names": ["socketcall"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS})
    if "CAP_SYS_ADMIN" not in capabilities:
        flags_at = 1 if (machine or platform.machine()) == "s390x" else 0
        rules.append(_allow(["clone"], _argument(flags_at, _NEW_NAMESPACE_FLAGS, "SCMP_CMP_MASKED_EQ")))
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": _EPERM,
        "architectures": list(architectures),
        "syscalls": rules,
    }


def _allow(names: list[str], *arguments: dict[str, Any]) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": names, "action": "SCMP_ACT_ALLOW"}
    return rule | ({"args": list(arguments)} if arguments else {})


def _argument(index: int, value: int, operator: str) -> dict[str, Any]:
    return {"index": index, "value": value, "valueTwo": 0, "op": operator}
