"""Every path below the root and the run directory. No other module joins paths of the state."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from ross.oci.digest import Digest


@frozen(kw_only=True)
class StateLayout:
    """What outlives a reboot, below the root (default ``/var/lib/ross``, mode 0700). See docs/storage.md."""

    root: Path

    @property
    def lock(self) -> Path:
        """Held locked by the one daemon of this root; contains its pid."""
        return self.root / "lock"

    @property
    def epoch(self) -> Path:
        """The number of the daemon among all that this root has had."""
        return self.root / "epoch"

    @property
    def format(self) -> Path:
        """The number of the records' format: what no earlier version may use."""
        return self.root / "format"

    @property
    def reserve(self) -> Path:
        """Space that is given up when the disk is full, so that things can be removed."""
        return self.root / "reserve"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    def blob(self, digest: Digest) -> Path:
        return self.blobs / digest.algorithm / digest.encoded

    @property
    def manifests(self) -> Path:
        return self.root / "manifests"

    def manifest(self, digest: Digest) -> Path:
        return self.manifests / digest.algorithm / digest.encoded

    @property
    def tags(self) -> Path:
        """Names of images: ``tags/<host>/<path>/.../:<tag>``, or ``@<digest>`` for one pulled by digest. A path's part
        begins with neither ``:`` nor ``@``, so that a repository below another never clashes with a tag of it."""
        return self.root / "tags"

    @property
    def labels(self) -> Path:
        """Labels on content: one small record for each piece that has any."""
        return self.root / "labels"

    @property
    def ingests(self) -> Path:
        """What is on its way: one directory for each ingest, with ``data`` and ``metadata.json``."""
        return self.root / "ingest"

    def ingest(self, key: str) -> Path:
        return self.ingests / key

    @property
    def pending(self) -> Path:
        """Records of what was brought in and is not on the disk for certain yet."""
        return self.root / "pending"

    @property
    def snapshots(self) -> Path:
        return self.root / "snapshots"

    def snapshot(self, name: str) -> Path:
        """``snapshots/<name>/{fs,work,metadata.json}``."""
        return self.snapshots / name

    @property
    def init_layer(self) -> Path:
        """The read-only layer between an image and the writable top of a container: ``fs`` and ``metadata.json``."""
        return self.root / "init"

    @property
    def containers(self) -> Path:
        return self.root / "containers"

    def container(self, container_id: str) -> ContainerLayout:
        return ContainerLayout(directory=self.containers / container_id)

    @property
    def trash(self) -> Path:
        """Renamed here, in one step, before it is taken apart; whatever is found here at start-up is removed."""
        return self.root / "trash"


@frozen(kw_only=True)
class ContainerLayout:
    """What one container keeps below the root."""

    directory: Path

    @property
    def record(self) -> Path:
        return self.directory / "metadata.json"

    @property
    def bundle(self) -> Path:
        return self.directory / "bundle"

    @property
    def runtime_config(self) -> Path:
        return self.bundle / "config.json"

    @property
    def rootfs(self) -> Path:
        return self.bundle / "rootfs"

    @property
    def etc(self) -> Path:
        """The generated ``hosts``, ``hostname`` and ``resolv.conf``, bind-mounted into the container."""
        return self.directory / "etc"

    @property
    def shm(self) -> Path:
        """Where the shared memory of another container is mounted while this one, which shares it, is created."""
        return self.directory / "shm"

    @property
    def frozen(self) -> Path:
        """There while the container is held still: whoever finds it lets the container go on."""
        return self.directory / "frozen"

    @property
    def checkpoint(self) -> Path:
        """What it can be restored from, whole: ``images``, ``metadata.json``, and what CRIU has logged, if that is kept (0700)."""
        return self.directory / "checkpoint"

    @property
    def checkpoint_part(self) -> Path:
        """One that is being made, and gets its own name when it is whole."""
        return self.directory / "checkpoint.part"

    @property
    def log(self) -> Path:
        """The container's output in CRI format, written by the monitor."""
        return self.directory / "log"


@frozen(kw_only=True)
class RuntimeLayout:
    """What a reboot may lose, below the run directory (default ``/run/ross``, mode 0711)."""

    run: Path

    @property
    def socket(self) -> Path:
        return self.run / "ross.sock"

    @property
    def lock(self) -> Path:
        """Held locked by the one daemon of this run directory; contains its pid."""
        return self.run / "lock"

    @property
    def owner(self) -> Path:
        """Which root the containers belong to that run here."""
        return self.run / "owner"

    @property
    def runtime_root(self) -> Path:
        """The OCI runtime's ``--root`` (0700)."""
        return self.run / "runtime"

    @property
    def exits(self) -> Path:
        """The monitor's exit files, one a container (0700)."""
        return self.run / "exits"

    @property
    def monitors(self) -> Path:
        """One directory a container: the monitor's pid file, attach socket and control fifo (0700)."""
        return self.run / "monitors"

    def monitor(self, container_id: str) -> Path:
        return self.monitors / container_id

    @property
    def roots(self) -> Path:
        """Where the root filesystem of a container with users of its own is mounted too while it is created (0711)."""
        return self.run / "roots"

    def root(self, container_id: str) -> Path:
        """In a directory that only this container's root may pass, by its group (0710)."""
        return self.roots / container_id / "fs"

    @property
    def all_binds(self) -> Path:
        """Where files of the host are mounted with other owners while a container with users of its own is created: one directory a
        container. Never below the root, where directories are removed with all that is in them."""
        return self.run / "binds"

    def binds(self, container_id: str) -> Path:
        return self.all_binds / container_id

    @property
    def execs(self) -> Path:
        """One directory for each program that is executed in a container and has not ended (0700)."""
        return self.run / "execs"

    def exec(self, exec_id: str) -> ExecLayout:
        return ExecLayout(directory=self.execs / exec_id)


@frozen(kw_only=True)
class ExecLayout:
    """What is kept of a program that is executed in a container, below the run directory: it does not outlive a reboot either."""

    directory: Path
    """Also where its monitor makes its attach socket and control fifo."""

    @property
    def record(self) -> Path:
        return self.directory / "metadata.json"

    @property
    def process(self) -> Path:
        """What the runtime reads: a process as in a runtime config."""
        return self.directory / "process.json"

    @property
    def pid(self) -> Path:
        return self.directory / "pid"

    @property
    def monitor_pid(self) -> Path:
        return self.directory / "monitor.pid"

    @property
    def exits(self) -> Path:
        """Where the monitor writes the exit code, in a file with the container's id for a name."""
        return self.directory / "exit"

    @property
    def runtime_log(self) -> Path:
        """What the runtime has to say where its error output is not ours to read."""
        return self.directory / "log"
