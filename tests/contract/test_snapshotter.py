"""What a snapshotter promises, after containerd's test suite for it: kinds, parents, names, labels, lists, usage."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from ross.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from ross.model.snapshots import SnapshotInfo, SnapshotKind, SnapshotOwner
from tests.support.snapshots import SnapshotsUnderTest, mounted

pytestmark = pytest.mark.integration


class Names:
    """Names of one test."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def __getattr__(self, name: str) -> str:
        return self._prefix + name


@pytest.fixture
def n(prefix: str) -> Names:
    return Names(prefix)


async def layer(
    snapshots: SnapshotsUnderTest, name: str, *, parent: str = "", files: dict[str, str] | None = None
) -> str:
    """Commit a layer with these files."""
    await snapshots.prepare(f"{name}.key", parent=parent)
    with mounted(await snapshots.mounts(f"{name}.key")) as root:
        for path, text in (files or {}).items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
    await snapshots.commit(f"{name}.key", name)
    return name


def files_of(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


async def test_layers_stack(snapshots: SnapshotsUnderTest, n: Names) -> None:
    await layer(snapshots, n.one, files={"a": "1", "d/b": "1"})
    await layer(snapshots, n.two, parent=n.one, files={"a": "2", "d/c": "2"})
    await snapshots.prepare(n.top, parent=n.two)
    with mounted(await snapshots.mounts(n.top)) as root:
        assert files_of(root) == {"a": "2", "d/b": "1", "d/c": "2"}
        (root / "mine").write_text("3")
    await snapshots.view(n.look, parent=n.two)
    with mounted(await snapshots.mounts(n.look)) as root:
        assert files_of(root) == {"a": "2", "d/b": "1", "d/c": "2"}
    with mounted(await snapshots.mounts(n.top)) as root:
        assert files_of(root)["mine"] == "3"


async def test_stat(snapshots: SnapshotsUnderTest, n: Names) -> None:
    before = time.time_ns()
    await layer(snapshots, n.base, files={"f": "x" * 1000})
    made = await snapshots.prepare(n.top, parent=n.base, labels={"k": "v", "empty": ""})
    assert before <= made.created_at <= time.time_ns()
    assert made == await snapshots.stat(n.top)
    assert made == SnapshotInfo(
        name=n.top,
        kind=SnapshotKind.ACTIVE,
        parent=n.base,
        created_at=made.created_at,
        owner=SnapshotOwner.CLIENT,
        labels={"k": "v", "empty": ""},
    )
    committed = await snapshots.stat(n.base)
    assert (committed.kind, committed.parent, committed.size_bytes) == (SnapshotKind.COMMITTED, None, 1000)
    looked = await snapshots.view(n.look, parent=n.base)
    assert (looked.kind, looked.parent) == (SnapshotKind.VIEW, n.base)
    with pytest.raises(NotFound, match="does not exist"):
        await snapshots.stat(n.other)


async def test_commit_moves_the_name_and_takes_labels_of_its_own(snapshots: SnapshotsUnderTest, n: Names) -> None:
    await snapshots.prepare(n.key, labels={"old": "1"})
    committed = await snapshots.commit(n.key, n.name, labels={"new": "2"})
    assert committed == await snapshots.stat(n.name)
    assert (committed.kind, committed.labels) == (SnapshotKind.COMMITTED, {"new": "2"})
    with pytest.raises(NotFound):
        await snapshots.stat(n.key)
    assert (await snapshots.prepare(n.key, parent=n.name)).parent == n.name


async def test_chain_of_parents_is_kept(snapshots: SnapshotsUnderTest, n: Names) -> None:
    below = ""
    for number in range(4):
        below = await layer(snapshots, f"{n.layer}{number}", parent=below)
    chain = []
    while below:
        chain.append(below)
        below = (await snapshots.stat(below)).parent or ""
    assert chain == [f"{n.layer}{number}" for number in (3, 2, 1, 0)]


async def test_only_what_is_committed_is_a_parent(snapshots: SnapshotsUnderTest, n: Names) -> None:
    await snapshots.prepare(n.active)
    await snapshots.view(n.look)
    for parent, error in ((n.active, FailedPrecondition), (n.look, FailedPrecondition), (n.nothing, NotFound)):
        for make in (snapshots.prepare, snapshots.view):
            with pytest.raises(error):
                await make(n.new, parent=parent)
    assert {info.name for info in await snapshots.list()} == {n.active, n.look}


async def test_names_are_unique_among_all_kinds(snapshots: SnapshotsUnderTest, n: Names) -> None:
    await layer(snapshots, n.layer)
    await snapshots.prepare(n.active)
    await snapshots.view(n.look)
    for taken in (n.layer, n.active, n.look):
        for make in (snapshots.prepare, snapshots.view):
            with pytest.raises(AlreadyExists):
                await make(taken)
        with pytest.raises(AlreadyExists):
            await snapshots.commit(n.active, taken)
    assert (await snapshots.stat(n.active)).kind is SnapshotKind.ACTIVE


async def test_only_what_is_active_is_committed(snapshots: SnapshotsUnderTest, n: Names) -> None:
    await layer(snapshots, n.layer)
    await snapshots.view(n.look)
    for name in (n.layer, n.look):
        with pytest.raises(FailedPrecondition, match="only an active one"):
            await snapshots.commit(name, n.new)
    with pytest.raises(NotFound):
        await snapshots.commit(n.nothing, n.new)


async def test_remove(snapshots: SnapshotsUnderTest, n: Names) -> None:
    await layer(snapshots, n.base, files={"f": "x" * 100_000})
    await layer(snapshots, n.middle, parent=n.base)
    await snapshots.prepare(n.top, parent=n.middle)
    await snapshots.view(n.look, parent=n.middle)
    for name in (n.base, n.middle):
        with pytest.raises(FailedPrecondition, match="in use by the snapshot"):
            await snapshots.remove(name)
    await snapshots.remove(n.top)
    with pytest.raises(FailedPrecondition):
        await snapshots.remove(n.middle)
    await snapshots.remove(n.look)
    await snapshots.remove(n.middle)
    assert await snapshots.remove(n.base) >= 100_000
    for name in (n.base, n.middle, n.top, n.look):
        with pytest.raises(NotFound):
            await snapshots.remove(name)


async def test_labels(snapshots: SnapshotsUnderTest, n: Names) -> None:
    made = await snapshots.prepare(n.top, labels={"a": "1", "b": "2"})
    changed = await snapshots.update(n.top, labels={"b": "3", "c": "ü=\n"}, forget=["a", "never"])
    assert changed.labels == {"b": "3", "c": "ü=\n"}
    assert changed.updated_at >= made.created_at
    assert changed == await snapshots.stat(n.top)
    assert (await snapshots.update(n.top, labels={"b": ""}, forget=["b"])).labels == {"b": "", "c": "ü=\n"}
    many, much = ({str(number): text for number in range(count)} for count, text in ((257, ""), (20, "x" * 4000)))
    for bad in ({"": "x"}, {"a=b": "x"}, {"k": "x" * 4096}, many, much):
        with pytest.raises(InvalidArgument, match="label"):
            await snapshots.update(n.top, labels=bad)
        with pytest.raises(InvalidArgument, match="label"):
            await snapshots.prepare(n.new, labels=bad)
        with pytest.raises(InvalidArgument, match="label"):
            await snapshots.commit(n.top, n.new, labels=bad)
    with pytest.raises(NotFound):
        await snapshots.update(n.nothing, labels={})
    assert [info.name for info in await snapshots.list()] == [n.top]


async def test_names_that_are_refused(snapshots: SnapshotsUnderTest, n: Names) -> None:
    await snapshots.prepare(n.top)
    reserved = ("empty", "unpack-1", f"sha256-{'0' * 64}", "sha512-x", "ab" * 32)
    for name in ("", ".", "..", "../x", "a/b", "-a", ".hidden", "a b", "ä", "x" * 129, "a\0b", "a\n", *reserved):
        for refused in (snapshots.prepare(name), snapshots.view(name), snapshots.commit(n.top, name)):
            with pytest.raises(InvalidArgument, match="the snapshot name"):
                await refused
    assert [info.name for info in await snapshots.list()] == [n.top]


async def test_list_with_filters(snapshots: SnapshotsUnderTest, n: Names) -> None:
    await layer(snapshots, n.base)
    await snapshots.update(n.base, labels={"x": "1"})
    await snapshots.prepare(n.a1, parent=n.base, labels={"x": "1", "y": "2"})
    await snapshots.prepare(n.a2, labels={"x": "2"})
    await snapshots.view(n.look, parent=n.base)

    async def names(**wanted: object) -> list[str]:
        found = await snapshots.list(**wanted)  # type: ignore[arg-type]
        assert [info.name for info in found] == sorted(info.name for info in found)
        return [info.name for info in found]

    assert await names() == [n.a1, n.a2, n.base, n.look]
    assert await names(prefix=n.a) == [n.a1, n.a2]
    assert await names(kind=SnapshotKind.ACTIVE) == [n.a1, n.a2]
    assert await names(kind=SnapshotKind.VIEW) == [n.look]
    assert await names(parent=n.base) == [n.a1, n.look]
    assert await names(labels=["x"]) == [n.a1, n.a2, n.base]
    assert await names(labels=["x=1"]) == [n.a1, n.base]
    assert await names(labels=["x=1", "y=2"]) == [n.a1]
    assert await names(labels=["x=1"], kind=SnapshotKind.COMMITTED) == [n.base]
    assert await names(labels=["x="]) == []
    for info in await snapshots.list():
        assert info == await snapshots.stat(info.name)


async def test_usage(snapshots: SnapshotsUnderTest, n: Names) -> None:
    await snapshots.prepare(n.key)
    empty = await snapshots.usage(n.key)
    with mounted(await snapshots.mounts(n.key)) as root:
        (root / "dir").mkdir()
        (root / "file").write_bytes(b"x" * 200_000)
        (root / "dir/link").hardlink_to(root / "file")
        with (root / "holes").open("wb") as file:
            file.truncate(1 << 30)
    full = await snapshots.usage(n.key)
    assert full.inodes == empty.inodes + 3, "what is linked twice counts once"
    assert 200_000 <= full.size_bytes - empty.size_bytes < 300_000, "holes take nothing"
    await snapshots.commit(n.key, n.base)
    assert await snapshots.usage(n.base) == full == await snapshots.usage(n.base)
    await snapshots.prepare(n.top, parent=n.base)
    await snapshots.view(n.look, parent=n.base)
    for name in (n.top, n.look):
        own = await snapshots.usage(name)
        assert (own.inodes, own.size_bytes) == (1, empty.size_bytes), "what is below does not count"
    with pytest.raises(NotFound):
        await snapshots.usage(n.nothing)


async def test_views_are_read_only(snapshots: SnapshotsUnderTest, n: Names) -> None:
    await layer(snapshots, n.base, files={"f": "x"})
    for name, parent in ((n.look, n.base), (n.bare, "")):
        await snapshots.view(name, parent=parent)
        how = await snapshots.mounts(name)
        assert (how.upper, how.work) == ("", "")
        with mounted(how) as root:
            for path in ("f", "g"):
                with pytest.raises(OSError) as caught:  # noqa: PT011 -- which one is looked at below
                    (root / path).write_text("y")
                assert caught.value.errno == errno.EROFS
    with mounted(await snapshots.mounts(n.base)) as root, pytest.raises(OSError, match="Read-only"):
        (root / "f").unlink()


async def test_root_directory_keeps_its_attributes(snapshots: SnapshotsUnderTest, n: Names) -> None:
    await snapshots.prepare(n.key)
    with mounted(await snapshots.mounts(n.key)) as root:
        assert root.stat().st_mode & 0o7777 == 0o755
        root.chmod(0o1711)
        os.chown(root, 5, 6)
    await snapshots.commit(n.key, n.base)
    await snapshots.prepare(n.top, parent=n.base)
    await snapshots.view(n.look, parent=n.base)
    for name in (n.top, n.look):
        with mounted(await snapshots.mounts(name)) as root:
            found = root.stat()
            assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o1711, 5, 6)


async def test_128_layers_are_mounted(snapshots: SnapshotsUnderTest, n: Names) -> None:
    below = ""
    for number in range(128):
        key, name = f"{n.key}{number}", f"{n.layer}{number}"
        await snapshots.prepare(key, parent=below)
        upper = Path((await snapshots.mounts(key)).upper)
        (upper / str(number)).touch()
        (upper / "last").write_text(str(number))
        await snapshots.commit(key, name)
        below = name
    await snapshots.prepare(n.top, parent=below)
    with mounted(await snapshots.mounts(n.top)) as root:
        assert {path.name for path in root.iterdir()} == {"last", *(str(number) for number in range(128))}
        assert (root / "last").read_text() == "127"
    changes = await snapshots.changes(n.top, base=f"{n.layer}125")
    assert [(change.text, change.change.value) for change in changes] == [
        ("/126", "added"),
        ("/127", "added"),
        ("/last", "modified"),
    ]
