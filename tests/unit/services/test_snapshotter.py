"""The snapshots against a model, across restarts; what a crash leaves of them; whose they are. No root, no mounts."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest
import trio
import trio.lowlevel
from attrs import define, field
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ross.errors import AlreadyExists, FailedPrecondition, NotFound, RossError
from ross.layout import StateLayout
from ross.model.snapshots import SnapshotFilter, SnapshotInfo, SnapshotKind, SnapshotOwner
from ross.services import snapshot_directories, snapshot_mounts
from ross.services.collector import Collector
from ross.services.pins import Pins
from ross.services.snapshots import Snapshots
from ross.services.snapshotter import Snapshotter
from ross.services.store import ContentStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
NAMES = st.sampled_from([f"n{number}" for number in range(6)])
PARENTS = st.one_of(st.just(""), NAMES)
LABELS = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from(["", "1", "2"]), max_size=3)


@define
class Modelled:
    """What a snapshot must be."""

    kind: SnapshotKind
    parent: str
    labels: dict[str, str]
    files: dict[str, str] = field(factory=dict)


def names_below(root: Path) -> set[str]:
    """What there is on the disk, but for the directory that stands in where an overlay needs a second one."""
    return {path.name for path in (root / "snapshots").iterdir()} - {"empty"}


class SnapshotterMachine(RuleBasedStateMachine):
    """Does things to the service and to a dictionary, and compares."""

    @initialize()
    def begin(self) -> None:
        in_memory = Path("/dev/shm")  # where waiting for the disk takes no time
        self.root = Path(tempfile.mkdtemp(dir=in_memory if in_memory.is_dir() else None))
        self.model: dict[str, Modelled] = {}
        self.open()

    def open(self) -> None:
        self.snapshotter = Snapshotter(StateLayout(root=self.root))
        self.service = Snapshots(self.snapshotter)
        trio.run(self.snapshotter.recover)

    def teardown(self) -> None:
        if hasattr(self, "root"):
            shutil.rmtree(self.root)

    def attempt(self, operation: Callable[[], Awaitable[T]], wanted: type[RossError] | None) -> None:
        async def run() -> T:
            return await operation()

        if wanted is None:
            trio.run(run)
        else:
            with pytest.raises(wanted):
                trio.run(run)

    def why_not_made(self, name: str, parent: str) -> type[RossError] | None:
        if name in self.model:
            return AlreadyExists
        if parent and parent not in self.model:
            return NotFound
        return FailedPrecondition if parent and self.model[parent].kind is not SnapshotKind.COMMITTED else None

    @rule(name=NAMES, parent=PARENTS, labels=LABELS, view=st.booleans())
    def make(self, name: str, parent: str, labels: dict[str, str], view: bool) -> None:
        refused = self.why_not_made(name, parent)
        make = self.service.view if view else self.service.prepare
        self.attempt(lambda: make(name, parent=parent, labels=labels), refused)
        if refused is None:
            self.model[name] = Modelled(SnapshotKind.VIEW if view else SnapshotKind.ACTIVE, parent, labels)

    @rule(name=NAMES, committed=NAMES, labels=LABELS)
    def commit(self, name: str, committed: str, labels: dict[str, str]) -> None:
        refused: type[RossError] | None = None
        if name not in self.model:
            refused = NotFound
        elif self.model[name].kind is not SnapshotKind.ACTIVE:
            refused = FailedPrecondition
        elif committed in self.model:
            refused = AlreadyExists
        self.attempt(lambda: self.service.commit(name, committed, labels=labels), refused)
        if refused is None:
            was = self.model.pop(name)
            self.model[committed] = Modelled(SnapshotKind.COMMITTED, was.parent, labels, was.files)

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        refused: type[RossError] | None = NotFound if name not in self.model else None
        if any(one.parent == name for one in self.model.values()):
            refused = FailedPrecondition
        self.attempt(lambda: self.service.remove(name), refused)
        if refused is None:
            del self.model[name]

    @rule(name=NAMES, labels=LABELS, forget=st.lists(st.sampled_from(["a", "b"]), max_size=2))
    def update(self, name: str, labels: dict[str, str], forget: list[str]) -> None:
        self.attempt(
            lambda: self.service.update(name, labels=labels, forget=forget), None if name in self.model else NotFound
        )
        if name in self.model:
            one = self.model[name]
            one.labels = {key: value for key, value in one.labels.items() if key not in forget} | labels

    @rule(name=NAMES, file=st.sampled_from(["x", "y"]), text=st.text("ab", max_size=4))
    def write(self, name: str, file: str, text: str) -> None:
        if name in self.model and self.model[name].kind is SnapshotKind.ACTIVE:
            (self.snapshotter.files(name) / file).write_text(text)
            self.model[name].files[file] = text

    @rule()
    def restart(self) -> None:
        self.open()

    @invariant()
    def is_as_modelled(self) -> None:
        if not hasattr(self, "snapshotter"):
            return
        listed = {info.name: info for info in self.service.list()}
        assert set(listed) == set(self.model)
        assert set(listed) == names_below(self.root)
        assert not (self.root / "trash").exists() or not list((self.root / "trash").iterdir())
        for name, wanted in self.model.items():
            info = listed[name]
            assert (info.kind, info.parent or "", info.labels) == (wanted.kind, wanted.parent, wanted.labels)
            assert info.owner is SnapshotOwner.CLIENT
            files = self.snapshotter.files(name)
            assert {path.name: path.read_text() for path in files.iterdir()} == wanted.files
            if wanted.kind is SnapshotKind.COMMITTED:
                assert info.size_bytes == sum(len(text) for text in wanted.files.values())
            chain, below = [], name
            while below:
                if self.model[below].kind is not SnapshotKind.VIEW or not self.model[below].parent:
                    chain.append(self.snapshotter.files(below))
                below = self.model[below].parent
            assert self.snapshotter.layers(name) == tuple(chain)
        for kind in (SnapshotKind.ACTIVE, SnapshotKind.COMMITTED, SnapshotKind.VIEW):
            wanted_names = sorted(name for name, one in self.model.items() if one.kind is kind)
            assert [info.name for info in self.service.list(SnapshotFilter(kind=kind))] == wanted_names


SnapshotterMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
test_service_is_a_dictionary_with_rules = SnapshotterMachine.TestCase


# -- crashes ----------------------------------------------------------------------------------------------------------


async def recovered(root: Path) -> Snapshotter:
    snapshotter = Snapshotter(StateLayout(root=root))
    await snapshotter.recover()
    return snapshotter


async def test_commit_that_a_crash_has_interrupted_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each of its steps: the snapshot is there, active or committed, and nothing of it is lost."""
    for step in range(5):  # the record, its rename, the directory's, the sync, the end of the work directory
        root = tmp_path / str(step)
        service = Snapshots(await recovered(root))
        await service.prepare("key")
        files = root / "snapshots/key/fs"
        (files / "precious").write_text("x")
        left = step

        class Killed(BaseException):
            """As SIGKILL: nothing that follows is done."""

        def or_killed(function: Callable[..., object], killed: type[BaseException] = Killed) -> Callable[..., object]:
            def call(*arguments: object, **options: object) -> object:
                nonlocal left
                if left == 0:
                    raise killed
                left -= 1
                return function(*arguments, **options)

            return call

        with monkeypatch.context() as patch:
            for name in ("write_atomic", "sync_directory", "remove_tree"):
                patch.setattr(snapshot_directories, name, or_killed(getattr(snapshot_directories, name)))
            patch.setattr(Path, "rename", or_killed(Path.rename))
            with pytest.raises(Killed):
                await service.commit("key", "name")
        again = await recovered(root)
        (info,) = again.list()
        wanted = ("key", SnapshotKind.ACTIVE) if step < 2 else ("name", SnapshotKind.COMMITTED)
        assert (info.name, info.kind) == wanted
        assert (again.files(info.name) / "precious").read_text() == "x"
        parts = {path.name for path in (root / "snapshots" / info.name).iterdir()}
        assert parts == {"metadata.json", "fs"} | ({"work"} if step < 2 else set())


async def test_largest_labels_are_read_again(tmp_path: Path) -> None:
    service = Snapshots(await recovered(tmp_path))
    labels = {f"\x01{number}": "\x02" * 4000 for number in range(16)}
    await service.prepare("key", labels=labels)
    (info,) = (await recovered(tmp_path)).list()
    assert info.labels == labels


async def test_what_is_half_made_goes_at_start_up(tmp_path: Path) -> None:
    first = await recovered(tmp_path)
    await first.prepare("kept", parent=None)
    await first.stage()
    place = tmp_path / "snapshots"
    (place / "no-record").mkdir()
    (place / "no-files").mkdir()
    shutil.copy(place / "kept/metadata.json", place / "no-files")
    shutil.copytree(place / "kept", place / "another-name")
    (place / "kept/.metadata.json.0123.new").touch()
    again = await recovered(tmp_path)
    assert [info.name for info in again.list()] == ["kept"]
    assert names_below(tmp_path) == {"kept"}
    assert {path.name for path in (place / "kept").iterdir()} == {"metadata.json", "fs", "work"}


async def test_what_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshotter = await recovered(tmp_path)
    service = Snapshots(snapshotter)
    await service.prepare("key")

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(snapshot_directories, "write_atomic", full)
        for attempt in (
            service.prepare("new"),
            service.commit("key", "name"),
            service.update("key", labels={"a": "b"}),
        ):
            with pytest.raises(RossError, match="No space left") as caught:
                await attempt
            assert caught.value.code.value == "resourceExhausted"
    assert [(info.name, info.kind, info.labels) for info in service.list()] == [("key", SnapshotKind.ACTIVE, {})]
    assert names_below(tmp_path) == {"key"}
    assert not snapshotter.is_changing("key")
    await service.commit("key", "name")


# -- whose they are ---------------------------------------------------------------------------------------------------


async def test_collector_leaves_what_is_owned_and_what_that_stands_on(tmp_path: Path) -> None:
    snapshotter = await recovered(tmp_path)
    store = ContentStore(StateLayout(root=tmp_path))
    await store.recover()
    service = Snapshots(snapshotter)
    for name, parent in (("sha256-a", None), ("sha256-b", "sha256-a"), ("sha256-c", "sha256-b")):
        staged = await snapshotter.stage()
        await snapshotter.commit(staged.name, name, parent=parent, size_bytes=0)
    await service.prepare("mine", parent="sha256-a")
    await service.prepare("layer-key")
    await service.commit("layer-key", "layer")
    await snapshotter.prepare("c" * 64, parent=None)
    await snapshotter.view("forgotten", parent="sha256-c", owner=SnapshotOwner.NOBODY)
    staged = await snapshotter.stage()

    await Collector(store=store, snapshotter=snapshotter, pins=Pins()).collect()

    assert {info.name for info in snapshotter.list()} == {"sha256-a", "mine", "layer", "c" * 64, staged.name}


async def test_clients_do_not_touch_what_is_not_theirs(tmp_path: Path) -> None:
    snapshotter = await recovered(tmp_path)
    service = Snapshots(snapshotter)
    staged = await snapshotter.stage()
    await snapshotter.commit(staged.name, "sha256-a", parent=None, size_bytes=0)
    await snapshotter.prepare("c" * 64, parent="sha256-a")
    staged = await snapshotter.stage()
    before = service.list()
    for name, why in (
        ("sha256-a", "layer of an image"),
        ("c" * 64, "belongs to the container"),
        (staged.name, "layer"),
    ):
        for attempt in (service.remove(name), service.commit(name, "name")):
            with pytest.raises(FailedPrecondition, match=why):
                await attempt
    with pytest.raises(FailedPrecondition, match="being unpacked"):
        await service.update(staged.name, labels={"a": "b"})
    with pytest.raises(FailedPrecondition, match="nothing can stand on it"):
        await service.prepare("mine", parent="c" * 64)
    assert service.list() == before
    assert (await service.update("sha256-a", labels={"a": "b"})).labels == {"a": "b"}


# -- at the same time -------------------------------------------------------------------------------------------------


async def test_one_of_many_gets_a_name(tmp_path: Path) -> None:
    service = Snapshots(await recovered(tmp_path))
    refused: list[RossError] = []
    made: list[SnapshotInfo] = []

    async def attempt(operation: Callable[[], Awaitable[SnapshotInfo]]) -> None:
        try:
            made.append(await operation())
        except RossError as error:
            refused.append(error)

    async with trio.open_nursery() as nursery:
        for _number in range(10):
            nursery.start_soon(attempt, lambda: service.prepare("one"))
    assert (len(made), {type(error) for error in refused}) == (1, {AlreadyExists})
    for number in range(5):
        await service.prepare(f"key{number}")
    refused.clear()
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(attempt, lambda key=f"key{number}": service.commit(key, "layer"))
    assert (len(made), {type(error) for error in refused}) == (2, {AlreadyExists})


async def test_parent_is_removed_or_built_upon_never_both(tmp_path: Path) -> None:
    service = Snapshots(await recovered(tmp_path))
    done: set[str] = set()

    async def attempt(what: str, operation: Callable[[], Awaitable[object]]) -> None:
        try:
            await operation()
            done.add(what)
        except (FailedPrecondition, NotFound):
            pass

    for _round in range(20):
        done.clear()
        await service.prepare("key")
        await service.commit("key", "layer")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(attempt, "child", lambda: service.prepare("child", parent="layer"))
            nursery.start_soon(attempt, "remove", lambda: service.remove("layer"))
            nursery.start_soon(attempt, "update", lambda: service.update("layer", labels={"a": "b"}))
        assert len(done & {"child", "remove"}) == 1
        assert {info.name for info in service.list()} == ({"layer", "child"} if "child" in done else set())
        assert names_below(tmp_path) == {info.name for info in service.list()}
        for name in ("child", "layer"):
            if name in names_below(tmp_path):
                await service.remove(name)


async def test_cancelled_at_any_time_it_is_done_or_not(tmp_path: Path) -> None:
    """Each operation, cancelled before it begins and after so many steps of the scheduler."""
    service = Snapshots(await recovered(tmp_path))
    place = tmp_path / "snapshots"

    async def cancelled(operation: Callable[[], Awaitable[object]], seconds: float) -> None:
        with trio.move_on_after(seconds):
            await operation()

    async def write(_changes: object) -> None:
        await trio.lowlevel.checkpoint()

    for number in range(12):
        seconds = 0.0004 * number
        await service.prepare("key")
        for file in range(50):
            (place / f"key/fs/{file}").write_text("x")
        await cancelled(lambda: service.usage("key"), seconds)
        await cancelled(lambda: service.diff("key", write=write), seconds)
        await cancelled(lambda: service.commit("key", "layer"), seconds)
        if "layer" not in {info.name for info in service.list()}:
            await service.commit("key", "layer")
        await cancelled(lambda: service.prepare("top", parent="layer"), seconds)
        await cancelled(lambda: service.view("look", parent="layer"), seconds)
        await cancelled(lambda: service.update("layer", labels={"a": "b"}), seconds)
        names = {info.name for info in service.list()}
        assert names == names_below(tmp_path)
        for name in sorted(names, key=lambda name: name == "layer"):
            await cancelled(lambda name=name: service.remove(name), seconds)  # type: ignore[misc]
        for name in [info.name for info in service.list() if info.name != "layer"]:
            await service.remove(name)
        if service.list():
            await service.remove("layer")
        assert names_below(tmp_path) == set()
        assert list((tmp_path / "trash").iterdir()) == []


async def test_removed_while_it_is_read(tmp_path: Path) -> None:
    service = Snapshots(await recovered(tmp_path))
    await service.prepare("key")
    for file in range(600):
        (tmp_path / f"snapshots/key/fs/{file}").touch()

    async def write(_changes: object) -> None:
        if service.list():
            await service.remove("key")

    with pytest.raises(NotFound, match="was removed while it was read"):
        await service.diff("key", write=write)


async def test_more_layers_than_can_be_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Snapshots(await recovered(tmp_path))
    below = ""
    monkeypatch.setattr(snapshot_mounts, "MAX_LAYERS", 3)
    for number in range(4):
        await service.prepare("key", parent=below)
        below = (await service.commit("key", f"layer{number}")).name
    await service.prepare("fits", parent="layer2")
    assert len(service.mounts("fits").lower) == 3
    await service.view("too-many", parent=below)
    with pytest.raises(FailedPrecondition, match="has 4 layers below it, more than the 3 that can be mounted"):
        service.mounts("too-many")


async def test_removal_takes_no_thread_of_others(tmp_path: Path) -> None:
    """Of what is large it takes long: whoever runs or stops something must not wait for a thread meanwhile, nor the other way round."""
    snapshotter = await recovered(tmp_path)
    await snapshotter.prepare("made", parent=None, owner=SnapshotOwner.NOBODY)
    usual = trio.to_thread.current_default_thread_limiter()
    usual.total_tokens = 1
    async with usual:
        with trio.fail_after(60):
            await snapshotter.remove("made")
    assert not list(snapshotter.layout.trash.iterdir())
