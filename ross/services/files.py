"""The files of a container: looking at them, copying them in and out, exporting them, and telling what it has changed.

Of a container that runs, the files are seen as it sees them, its mounts included: through the root of its first process, opened once and
then used by descriptor. If that process has another root than the container's (it has called chroot, or joined another mount namespace),
the container's root filesystem is used, without mounts. One that does not run has its root filesystem mounted meanwhile, in its turn, so
that nothing starts or removes it; a path that leads to where it has a mount when it runs is refused then, since what is there now is
something else.

Nothing of the container is ever executed or loaded, nothing is ever mounted inside of it, and nothing is found by a path that a
container could bend: everything is resolved with its root as root (openat2(2), RESOLVE_IN_ROOT). Files of kernel filesystems, such as
/proc, are no files to copy.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import trio
from attrs import frozen

from ross.errors import FailedPrecondition, NotFound, Reason, RossError
from ross.linux.archive.packer import pack
from ross.linux.archive.place import Placing, Root, place
from ross.linux.archive.tar import show
from ross.linux.fsids import acting_as
from ross.linux.mount import unmount
from ross.linux.openat2 import Resolve, openat2
from ross.linux.pidfd import identify
from ross.linux.statfs import is_kernels_own
from ross.model.containers import ContainerState
from ross.model.files import CopiedFiles, FileInfo
from ross.model.namespaces import UserNamespace
from ross.model.snapshots import FileKind
from ross.services.own_users import Owners
from ross.services.snapshot_mounts import mount_snapshot
from ross.services.snapshots import Snapshots
from ross.services.threads import hand_over
from ross.shim.hostfiles import HOST_FILES
from ross.shim.rootfs import Rootfs
from ross.shim.state import ALIVE, check_alive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ross.linux.archive.stream import NextChunk
    from ross.model.snapshots import SnapshotChange
    from ross.services.containers import Parts
    from ross.services.feed import Feed
    from ross.services.running import RunnableContainer

T = TypeVar("T")
Write = Callable[[bytes], Awaitable[None]]

_IN_ROOT: Final = Resolve.IN_ROOT | Resolve.NO_MAGICLINKS
_AT_REST_AGAIN: Final = frozenset({ContainerState.STOPPED, ContainerState.RESTARTING})
_AS_STORED: Final = Owners(users=UserNamespace())
"""Of one that does not run: nothing is mapped."""
_WAY_SECONDS: Final = 60.0
"""How long a copy may go on once somebody wants to start or remove the container, which stands still for it."""


@frozen(kw_only=True)
class _Tree:
    """A container's root, open."""

    fd: int
    hidden: frozenset[bytes]
    """Where mounts are that cannot be seen through it: absolute paths."""
    read_only: bool
    """The container may not write to it, and nor does anybody for it."""
    owners: Owners


class Files:
    """The files of one container."""

    def __init__(self, container: RunnableContainer, parts: Parts, turn: trio.Lock) -> None:
        self._container = container
        self._parts = parts
        self._turn = turn
        self._live: set[trio.CancelScope] = set()
        self._at_rest: set[trio.CancelScope] = set()
        self._wanted = 0
        """How many want the turn for something else than a copy, or have it."""
        self._unwanted = trio.Event()
        """Set, and replaced, when the last of them is done."""

    # -- what clients do ----------------------------------------------------------------------------------------------

    async def stat(self, path: bytes, *, follow: bool) -> FileInfo:
        """What is at a path; with ``follow``, what a link there leads to.

        Raises:
            NotFound: there is nothing, or the container has been removed.
            FailedPrecondition: the path leads through something that is no directory.
        """

        async def look(tree: _Tree) -> FileInfo:
            with self._opened(tree, path, follow=follow) as fd:
                found = os.fstat(fd)
                link = os.readlink(b"", dir_fd=fd) if stat.S_ISLNK(found.st_mode) else b""
            uid, gid = tree.owners.told((found.st_uid, found.st_gid))
            return FileInfo(
                name=base_name(path),
                kind=FileKind.of(found),
                mode=stat.S_IMODE(found.st_mode),
                size_bytes=found.st_size,
                modified_at=found.st_mtime_ns,
                uid=uid,
                gid=gid,
                link_target=link,
            )

        return await self._with_tree(look)

    async def read(self, path: bytes, *, name: bytes, follow: bool, write: Write) -> None:
        """Hand a tar of what is at a path to ``write``, chunk by chunk.

        Args:
            path: A directory's that ends with ``/.`` means what is in it.
            name: What it is called in the archive; empty: the last part of the path.
            follow: If it is a link, what that leads to.
            write: Waited for.

        Raises:
            NotFound: there is nothing, or the container has been removed.
            FailedPrecondition: it is a file of the kernel's, or on a mount that is not there now, or the container ended meanwhile.
        """

        async def read(tree: _Tree) -> None:
            with self._opened(tree, path, follow=follow) as fd:
                self._check_files(fd, path)
                self._check_seen(tree, fd, path)
                if stat.S_ISSOCK(os.fstat(fd).st_mode):
                    raise FailedPrecondition(f"{show(path)} is a socket, which cannot be copied")
                await self._hand_over(fd, name or base_name(path), write, tree.owners)

        await self._with_tree(read)
        self._container.publish("copy", direction="out")

    async def write(self, path: bytes, feed: Feed, *, keep_owners: bool) -> CopiedFiles:
        """Put what is in a tar into a directory.

        Args:
            path: Of the directory, which is there.
            feed: The tar, which may be compressed. Closed at the end.
            keep_owners: Files get the owners that the tar says; else the container's root.

        Raises:
            NotFound: there is no such directory, or the container has been removed.
            FailedPrecondition: it is no directory, or not to be written to, or something in it is in the way.
            Corrupt: the tar is damaged, or leads out of the directory. What came before is there.
            ResourceExhausted: the disk is full.
        """

        async def write(tree: _Tree) -> CopiedFiles:
            with self._opened(tree, path, follow=True) as fd:
                self._check_files(fd, path)
                inside = self._check_seen(tree, fd, path)
                if not stat.S_ISDIR(os.fstat(fd).st_mode):
                    raise FailedPrecondition(f"{show(path)} in the container is no directory")
                if tree.read_only:
                    raise FailedPrecondition(
                        f"the root filesystem of the container {self._container.record.name} is read-only"
                    )
                how = Placing(
                    owner=None if keep_owners else tree.owners.users.root,
                    map_owner=tree.owners.meant,
                    root=Root(fd=tree.fd, path=path),
                    hidden=_below(inside, tree.hidden),
                )
                return await self._parts.sender_threads.run(partial(_place, fd, how, tree.owners), feed)

        try:
            copied = await self._with_tree(write)
        finally:
            feed.close()
        self._container.publish("copy", direction="in")
        return copied

    async def export(self, write: Write) -> None:
        """Hand a tar of its whole root filesystem, without what is mounted in it, to ``write``.

        Raises:
            NotFound: the container has been removed.
            FailedPrecondition: it ended meanwhile.
        """
        await self._with_tree(lambda tree: self._hand_over(tree.fd, b".", write, tree.owners), mounts=False)
        self._container.publish("export")

    async def diff(self, write: Callable[[Sequence[SnapshotChange]], Awaitable[None]]) -> None:
        """Hand what it has changed in the files of its image to ``write``, in batches.

        Raises:
            NotFound: the container has been removed.
        """
        self._check_there()
        await Snapshots(self._parts.snapshotter, threads=self._parts.file_threads).diff(self._container.id, write=write)

    # -- what the container tells -------------------------------------------------------------------------------------

    def run_ended(self) -> None:
        """It runs no more: what is being copied from its mounts is of no use."""
        for scope in self._live:
            scope.cancel()

    @contextmanager
    def making_way(self) -> Iterator[None]:
        """While somebody wants its turn, or has it: a copy that has the turn gets a deadline, and others begin when he is done.

        However many copies wait, whoever starts or removes the container waits for one of them at most.
        """
        self._wanted += 1
        for scope in self._at_rest:
            scope.deadline = min(scope.deadline, trio.current_time() + _WAY_SECONDS)
        try:
            yield
        finally:
            self._wanted -= 1
            if not self._wanted:
                self._unwanted.set()
                self._unwanted = trio.Event()

    # -- its root -----------------------------------------------------------------------------------------------------

    async def _with_tree(self, work: Callable[[_Tree], Awaitable[T]], *, mounts: bool = True) -> T:
        container = self._container
        while True:
            if container.state in ALIVE:
                return await self._with_live(work, mounts)
            if container.state in _AT_REST_AGAIN:
                await container.settled.wait()
            async with self._turn:
                self._check_there()
                if container.state in ALIVE or (container.state in _AT_REST_AGAIN and not container.settled.is_set()):
                    continue  # it was started, or has ended, while we waited
                if not self._wanted:
                    return await self._with_mounted(work)
                unwanted = self._unwanted
            await unwanted.wait()

    async def _with_live(self, work: Callable[[_Tree], Awaitable[T]], mounts: bool) -> T:
        run = self._container.record.run
        assert run is not None  # noqa: S101 -- its state says so
        owners = Owners(users=self._container.record.spec.namespaces.users)
        tree = self._open_live(run.process.pid, owners) if mounts else self._open_own(owners)
        with trio.CancelScope() as scope:
            self._live.add(scope)
            try:
                found = await work(tree)
            finally:
                self._live.discard(scope)
                os.close(tree.fd)
            if identify(run.process.pid) == run.process or not mounts:
                return found
        raise FailedPrecondition(
            f"the container {self._container.record.name} ended while its files were copied", hint="try again"
        )

    def _open_live(self, pid: int, owners: Owners) -> _Tree:
        """As its first process sees it, if that sees the container's own root filesystem as its root."""
        own = self._open_own(owners)
        try:
            fd = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return own  # it ends just now, which the caller is told of
        if _identity(fd) == _identity(own.fd):
            os.close(own.fd)
            return _Tree(
                fd=fd, hidden=frozenset(), read_only=False, owners=owners
            )  # where it is read-only, the mount is so
        os.close(fd)
        return own

    def _open_own(self, owners: Owners) -> _Tree:
        """Its root filesystem, where it is mounted for it."""
        layout = self._container.layout
        fd = os.open(layout.rootfs, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_dev == layout.bundle.stat().st_dev:
                raise FailedPrecondition(
                    f"the root filesystem of the container {self._container.record.name} is not mounted any more",
                    hint="start it again",
                )
            spec = self._container.record.spec
            rootfs = Rootfs(fd)
            targets = (*(mount.target for mount in spec.mounts), *HOST_FILES)
            hidden = frozenset(os.fsencode(rootfs.locate(target)) for target in targets)
            return _Tree(fd=fd, hidden=hidden, read_only=spec.read_only, owners=owners)
        except BaseException:
            os.close(fd)
            raise

    async def _with_mounted(self, work: Callable[[_Tree], Awaitable[T]]) -> T:
        container = self._container
        await container.launcher.see_snapshot(container.record)
        await mount_snapshot(self._parts.snapshotter, container.id, container.layout.rootfs)
        try:
            with trio.CancelScope() as scope:
                if self._wanted:  # since it is being mounted
                    scope.deadline = trio.current_time() + _WAY_SECONDS
                self._at_rest.add(scope)
                tree = self._open_own(_AS_STORED)
                try:
                    return await work(tree)
                finally:
                    self._at_rest.discard(scope)
                    os.close(tree.fd)
            raise FailedPrecondition(
                f"copying files of the container {container.record.name} gave way to its start or removal",
                hint=f"a copy has {_WAY_SECONDS:g} s then; try again",
            )
        finally:
            unmount(container.layout.rootfs)

    def _check_there(self) -> None:
        check_alive(self._container.record.name, self._container.state)

    async def _hand_over(self, fd: int, name: bytes, write: Write, owners: Owners) -> None:
        packed = pack(fd, name, checkpoint=trio.from_thread.check_cancelled, map_owner=owners.told)
        try:
            await hand_over(packed, write, threads=self._parts.file_threads)
        except OSError as error:
            raise FailedPrecondition(
                f"the files of the container {self._container.record.name} cannot be read: {error.strerror}"
            ) from error

    # -- paths --------------------------------------------------------------------------------------------------------

    @contextmanager
    def _opened(self, tree: _Tree, path: bytes, *, follow: bool) -> Iterator[int]:
        """What is at a path, by ``O_PATH``: opened and not touched."""
        what = f"{show(path)} in the container {self._container.record.name}"
        try:
            fd = openat2(tree.fd, path or b"/", os.O_PATH | (0 if follow else os.O_NOFOLLOW), resolve=_IN_ROOT)
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise NotFound(f"there is no {what}", reason=Reason.FILE_NOT_FOUND) from None
            raise FailedPrecondition(f"{what} cannot be reached: {error.strerror}") from None
        try:
            yield fd
        except RossError:
            raise
        except OSError as error:
            raise FailedPrecondition(f"{what} cannot be copied: {error.strerror}") from error
        finally:
            os.close(fd)

    def _check_files(self, fd: int, path: bytes) -> None:
        if is_kernels_own(fd):
            raise FailedPrecondition(f"{show(path)} is in a filesystem of the kernel's own, which has no files to copy")

    def _check_seen(self, tree: _Tree, fd: int, path: bytes) -> bytes:
        """Where it really is. Refuses what is hidden by a mount whenever the container runs."""
        top, here = (os.fsencode(os.readlink(f"/proc/self/fd/{one}")) for one in (tree.fd, fd))  # noqa: PTH115 -- by descriptor
        inside = here[len(top) :] if tree.hidden else b""
        for target in tree.hidden:
            if inside == target or inside.startswith(target + b"/"):
                raise FailedPrecondition(
                    f"{show(path)} is where the container {self._container.record.name} has a mount, which is there only while it runs",
                    hint="start it first, or copy to or from where the mount comes from",
                )
        return inside


def base_name(path: bytes) -> bytes:
    """What a path is called in an archive: its last part; ``.`` for what is in a directory."""
    if path.endswith(b"/.") or path.strip(b"/") in {b"", b"."}:
        return b"."
    name = path.rstrip(b"/").rpartition(b"/")[2]
    return b"." if name == b".." else name


def _below(inside: bytes, paths: frozenset[bytes]) -> frozenset[tuple[bytes, ...]]:
    """Those of the paths that are below a directory, from there."""
    return frozenset(
        tuple(path[len(inside) :].strip(b"/").split(b"/")) for path in paths if path.startswith(inside + b"/")
    )


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _place(fd: int, how: Placing, owners: Owners, next_chunk: NextChunk) -> CopiedFiles:
    with acting_as(*owners.users.root):
        placed = place(next_chunk, fd, how)
    return CopiedFiles(entries=placed.entries, size_bytes=placed.size_bytes)
