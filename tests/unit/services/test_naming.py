"""Names and what is told of images: records of names, filters, history."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from ross.cli.parse import parse_image_filter
from ross.errors import InvalidArgument, NotFound
from ross.layout import StateLayout
from ross.linux.files import write_atomic
from ross.model.images import ImageFilter, ImageInfo, Platform
from ross.oci import media_types
from ross.oci.digest import Digest
from ross.oci.image import Descriptor, HistoryItem, ImageConfig, Manifest, RootFS
from ross.oci.reference import Reference
from ross.services.filters import select_images
from ross.services.history import history_of
from ross.services.tags import TagRecord, Tags, is_keeper, keeper

if TYPE_CHECKING:
    from pathlib import Path

INDEX, ONE, TWO, THREE = (Digest.of(text) for text in (b"index", b"one", b"two", b"three"))
A, B = Reference.parse("a:1").with_default_tag(), Reference.parse("b:1")


def test_a_name_is_kept_with_all_of_its_platforms(tmp_path: Path) -> None:
    tags = Tags(StateLayout(root=tmp_path))
    tags.set(A, TagRecord(target=INDEX, manifest=ONE, others=(TWO,)))
    again = Tags(StateLayout(root=tmp_path))
    again.recover()

    assert again.find(A) == TagRecord(target=INDEX, manifest=ONE, others=(TWO,))
    assert again.of(ONE) == again.of(TWO) == (A,)
    assert (again.denote(ONE), again.denote(TWO)) == (True, False)
    assert again.manifests_of(INDEX) == (ONE, TWO)


def test_keepers_are_no_names(tmp_path: Path) -> None:
    layout = StateLayout(root=tmp_path)
    tags = Tags(layout)
    kept = keeper(INDEX)
    tags.set(kept, TagRecord(target=INDEX, manifest=ONE, others=(TWO,)))
    assert (is_keeper(kept), is_keeper(A), is_keeper(Reference.parse("localhost/untagged:1"))) == (True, False, False)
    assert (tags.of(ONE), tags.reach(ONE), tags.reach(TWO), tags.reach(THREE)) == ((), True, True, False)

    tags.set(A, TagRecord(target=INDEX, manifest=TWO))
    tags.let_go((TWO, THREE))
    assert (tags.of(TWO), tags.find(kept)) == ((A,), TagRecord(target=INDEX, manifest=ONE))
    tags.let_go((ONE,))
    assert tags.find(kept) is None
    assert not layout.tags.joinpath("localhost").exists()


def test_what_names_no_image_goes_and_only_what_no_killed_write_left_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layout = StateLayout(root=tmp_path)
    Tags(layout).set(A, TagRecord(target=ONE, manifest=ONE))
    (record,) = (path for path in layout.tags.rglob("*") if path.is_file())
    fresh: list[Path] = []

    def killed(path: Path, _: Path) -> None:
        fresh.append(path)
        raise SystemExit

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(record), "rename", killed)
        patch.setattr(type(record), "unlink", lambda *_, **__: None)
        with pytest.raises(SystemExit):
            write_atomic(record, b"{}")
    junk = record.with_name(":2")
    junk.write_bytes(b"junk")
    again = Tags(layout)
    with caplog.at_level(logging.INFO):
        again.recover()

    assert {one.levelname: str(one.args[0]) for one in caplog.records if isinstance(one.args, tuple)} == {
        "INFO": str(fresh[0]),
        "WARNING": str(junk),
    }
    assert [path for path in layout.tags.rglob("*") if path.is_file()] == [record]
    assert again.find(A) == TagRecord(target=ONE, manifest=ONE)


def test_what_a_change_of_names_leaves_nameless(tmp_path: Path) -> None:
    tags = Tags(StateLayout(root=tmp_path))
    tags.set(A, TagRecord(target=INDEX, manifest=ONE, others=(TWO,)))
    tags.set(B, TagRecord(target=THREE, manifest=THREE, others=(TWO,)))

    assert tags.nameless_after({A: None}) == (ONE,), "another name leads to the second"
    assert set(tags.nameless_after({A: None, B: None})) == {ONE, TWO, THREE}
    changes = tags.without(TWO)
    assert changes == {A: TagRecord(target=INDEX, manifest=ONE), B: TagRecord(target=THREE, manifest=THREE)}
    assert tags.nameless_after(changes) == (TWO,)
    for reference, record in tags.without(ONE).items():
        tags.change(reference, record)
    assert tags.find(A) == TagRecord(target=INDEX, manifest=TWO)
    for reference, record in tags.without(TWO).items():
        tags.change(reference, record)
    assert (tags.find(A), tags.find(B)) == (None, TagRecord(target=THREE, manifest=THREE))


# -- filters ----------------------------------------------------------------------------------------------------------


def info(*names: str, created_at: int = 5, **labels: str) -> ImageInfo:
    return ImageInfo(
        id=ONE, names=names, target=INDEX, manifest=ONE, platform=Platform(os="linux", architecture="x"),
        created_at=created_at, size_bytes=1, unpacked_bytes=1, chain_id=None, layers=(), entrypoint=(), command=(), env=(),
        working_dir="", user="", stop_signal="", exposed_ports=(), volumes=(), labels=labels,
    )  # fmt: skip


ALPINE = info("docker.io/library/alpine:3", "docker.io/library/alpine:edge", created_at=1, stage="test", empty="")
TEAM = info("host.example:5000/team/app:1", created_at=2, stage="live")
NAMELESS = info(created_at=3)
ALL = (ALPINE, TEAM, NAMELESS)


def selected(wanted: ImageFilter) -> list[tuple[str, ...]]:
    found = select_images(ALL, wanted, created_at=lambda name: {"one": 1, "two": 2, "three": 3}[name])
    return [one.names for one in found]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (ImageFilter(), [ALPINE.names, TEAM.names, ()]),
        (ImageFilter(dangling=True), [()]),
        (ImageFilter(named=True), [ALPINE.names, TEAM.names]),
        (ImageFilter(references=("alpine",)), [ALPINE.names]),
        (ImageFilter(references=("alpine:3",)), [ALPINE.names[:1]]),
        (ImageFilter(references=("docker.io/library/alpine:e*",)), [ALPINE.names[1:]]),
        (ImageFilter(references=("*",)), [ALPINE.names]),
        (ImageFilter(references=("*/team/a??",)), [TEAM.names]),
        (ImageFilter(references=("team/app",)), []),
        (ImageFilter(references=("alpine:[0-9]", "*/*/app")), [ALPINE.names[:1], TEAM.names]),
        (ImageFilter(references=("alp[",)), []),
        (ImageFilter(labels=("stage",)), [ALPINE.names, TEAM.names]),
        (ImageFilter(labels=("stage=live",)), [TEAM.names]),
        (ImageFilter(labels=("stage", "empty=")), [ALPINE.names]),
        (ImageFilter(before="two"), [ALPINE.names]),
        (ImageFilter(since="two"), [()]),
        (ImageFilter(since="one", before="three"), [TEAM.names]),
    ],
)
def test_filters_select(wanted: ImageFilter, expected: list[tuple[str, ...]]) -> None:
    assert selected(wanted) == expected


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    long = info(f"docker.io/library/{'a' * 200}:1")
    assert select_images([long], ImageFilter(references=("*a" * 100 + "b",)), created_at=lambda _name: 0) == ()


def test_an_image_to_compare_with_must_exist() -> None:
    def missing(name: str) -> int:
        raise NotFound(name)

    with pytest.raises(NotFound):
        select_images(ALL, ImageFilter(before="nosuch"), created_at=missing)


def test_filters_as_people_type_them() -> None:
    terms = ("dangling=False", "reference=a*", "label=k=v=w", "label=other", "before=x", "since=y@sha256:1")
    assert parse_image_filter(terms, name="name", all=True) == ImageFilter(
        all=True, named=True, references=("name", "a*"), labels=("k=v=w", "other"), before="x", since="y@sha256:1"
    )
    assert parse_image_filter(("dangling=1",)).dangling
    for bad in ("nosuch=x", "dangling", "dangling=maybe", "label=", "=x", ""):
        with pytest.raises(InvalidArgument):
            parse_image_filter((bad,))
    with pytest.raises(InvalidArgument, match="given twice"):
        parse_image_filter(("before=x", "before=y"))


# -- history ----------------------------------------------------------------------------------------------------------


def told(layers: int, *history: HistoryItem) -> list[tuple[str, Digest | None, int]]:
    digests = [Digest.of(b"%d" % number) for number in range(layers)]
    manifest = Manifest(
        schema_version=2,
        config=Descriptor(media_type=media_types.OCI_CONFIG, digest=ONE, size=1),
        layers=tuple(Descriptor(media_type=media_types.OCI_LAYER, digest=digest, size=1) for digest in digests),
    )
    rootfs = RootFS(type="layers", diff_ids=tuple(digests))
    config = ImageConfig(
        architecture="x", os="linux", rootfs=rootfs, created="1970-01-01T00:00:09Z", history=history or None
    )
    steps = history_of(manifest, config, sizes=range(10, 10 + layers), names=["a:1"])
    assert [step.id for step in steps] == [ONE, *[None] * (len(steps) - 1)]
    assert (steps[0].names, steps[0].created_at) == (("a:1",), 9 * 10**9)
    return [(step.created_by, step.layer, step.size_bytes) for step in steps]


def test_history_matches_steps_and_layers_even_where_they_do_not_come_out_even() -> None:
    first, second = Digest.of(b"0"), Digest.of(b"1")
    add, run, env = (HistoryItem(created_by=text, empty_layer=text == "env") for text in ("add", "run", "env"))
    assert told(2, add, env, run) == [("run", second, 11), ("env", None, 0), ("add", first, 10)]
    assert told(1, add, run) == [("run", None, 0), ("add", first, 10)], "a step too many"
    assert told(2, add) == [("", second, 11), ("add", first, 10)], "a layer too many"
    assert told(2) == [("", second, 11), ("", first, 10)], "no history"
    assert told(0) == [("", None, 0)], "no layer either"
