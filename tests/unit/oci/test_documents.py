"""Documents that somebody made on purpose: ambiguous, endless, absurd. Each is read as one thing by everybody, or refused."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ross.errors import Corrupt, InvalidArgument
from ross.layout import StateLayout
from ross.model.images import BlobProgress, PullPhase
from ross.oci import media_types
from ross.oci.codec import read_record
from ross.oci.digest import Digest
from ross.oci.image import MAX_LAYERS, MAX_SIZE_BYTES, Descriptor, Index, Manifest, parse_config, parse_manifest
from ross.oci.reference import Reference
from ross.services.history import history_of, nanoseconds
from ross.services.tags import TagRecord, Tags
from ross.wire.convert import to_wire
from ross.wire.schema import schema

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
SOME = f"sha256:{'a' * 64}"
DESCRIPTOR: dict[str, Any] = {"mediaType": media_types.OCI_CONFIG, "digest": SOME, "size": 7}
MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": media_types.OCI_MANIFEST,
    "config": DESCRIPTOR,
    "layers": [DESCRIPTOR | {"mediaType": media_types.OCI_LAYER, "annotations": {"a": "b", "A": "B"}}],
    "subject": DESCRIPTOR,
    "annotations": {"key": "value", "KEY": "another"},
}
INDEX: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": media_types.OCI_INDEX,
    "manifests": [
        DESCRIPTOR | {"mediaType": media_types.OCI_MANIFEST, "platform": {"os": "linux", "architecture": "x"}}
    ],
}
CONFIG: dict[str, Any] = {
    "os": "linux",
    "architecture": "amd64",
    "created": "2020-01-01T00:00:00Z",
    "config": {"Env": ["A=b"], "Cmd": ["sh"], "Labels": {"a": "b", "A": "c"}, "ExposedPorts": {"80/tcp": {}}},
    "rootfs": {"type": "layers", "diff_ids": [SOME]},
    "history": [{"created": "2020-01-01T00:00:00Z", "created_by": "x"}, {"empty_layer": True}],
}


def text(document: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps(document | changes).encode()


def test_the_documents_that_are_varied_here_are_good_ones() -> None:
    assert isinstance(parse_manifest(text(MANIFEST), content_type=media_types.OCI_MANIFEST), Manifest)
    assert isinstance(parse_manifest(text(INDEX), content_type=f"{media_types.OCI_INDEX}; charset=utf-8"), Index)
    assert len(parse_config(text(CONFIG), what="it").rootfs.diff_ids) == 1


AMBIGUOUS = [
    pytest.param(text(INDEX, layers=[]), media_types.OCI_INDEX, id="index-with-layers"),
    pytest.param(text(INDEX, config=DESCRIPTOR), media_types.OCI_INDEX, id="index-with-config"),
    pytest.param(text(MANIFEST, manifests=[]), media_types.OCI_MANIFEST, id="manifest-with-manifests"),
    pytest.param(text(MANIFEST, manifests=None), media_types.OCI_MANIFEST, id="manifest-with-null-manifests"),
    pytest.param(text(MANIFEST, fsLayers=[]), media_types.OCI_MANIFEST, id="manifest-with-schema-1"),
    pytest.param(text(MANIFEST), media_types.OCI_INDEX, id="manifest-served-as-index"),
    pytest.param(text(INDEX), media_types.OCI_MANIFEST, id="index-served-as-manifest"),
    pytest.param(text(MANIFEST), media_types.DOCKER_MANIFEST, id="oci-served-as-docker"),
    pytest.param(text(MANIFEST, mediaType=media_types.OCI_INDEX), None, id="manifest-that-says-index"),
    pytest.param(text(INDEX, mediaType=media_types.DOCKER_MANIFEST), None, id="index-that-says-manifest"),
    pytest.param(
        text({key: MANIFEST[key] for key in MANIFEST if key != "mediaType"}), media_types.OCI_INDEX, id="unsaid"
    ),
    pytest.param(
        text({key: INDEX[key] for key in INDEX if key != "mediaType"}), media_types.OCI_MANIFEST, id="unsaid-index"
    ),
    pytest.param(text(MANIFEST, mediaType=[media_types.OCI_MANIFEST]), None, id="media-type-is-a-list"),
    pytest.param(text(MANIFEST)[:-1] + b',"layers":[]}', None, id="layers-twice"),
    pytest.param(text(MANIFEST)[:-1] + b',"mediaType":"x"}', None, id="media-type-twice"),
    pytest.param(text(MANIFEST).replace(b'"size": 7', b'"size": 7, "size": 8', 1), None, id="size-twice"),
    pytest.param(text(MANIFEST).replace(b'"digest":', b'"\\u0064igest": "x", "digest":', 1), None, id="escaped-twin"),
    pytest.param(text(MANIFEST, Layers=[]), None, id="layers-in-another-case"),
    pytest.param(text(INDEX, Config=DESCRIPTOR), None, id="config-in-another-case"),
    pytest.param(text(MANIFEST, MANIFESTS=[]), None, id="manifests-in-another-case"),
    pytest.param(
        text(MANIFEST, config=DESCRIPTOR | {"Digest": f"sha256:{'b' * 64}"}), None, id="digest-in-another-case"
    ),
]


@pytest.mark.parametrize(("data", "content_type"), AMBIGUOUS)
def test_a_document_that_two_readers_could_take_for_two_is_refused(data: bytes, content_type: str | None) -> None:
    """CVE-2021-41190: bytes that are an index to one and a manifest to another, by their header or by what stands in them; and keys
    that stand twice, of which readers take one or the other, in any spelling."""
    with pytest.raises((Corrupt, InvalidArgument)):
        parse_manifest(data, content_type=content_type)


@pytest.mark.parametrize(
    "data",
    [
        text(CONFIG)[:-1] + b',"rootfs":{"type":"layers","diff_ids":[]}}',
        text(CONFIG, RootFS={"type": "layers", "diff_ids": []}),
        text(CONFIG, rootfs=CONFIG["rootfs"] | {"Diff_IDs": []}),
        text(CONFIG, config=CONFIG["config"] | {"cmd": ["evil"]}),
    ],
)
def test_a_config_that_two_readers_could_take_for_two_is_refused(data: bytes) -> None:
    """CVE-2021-41190's family, for image configs: which layers and which command must be beyond doubt."""
    with pytest.raises(Corrupt, match=r"twice|in case only"):
        parse_config(data, what="it")


BAD_DIGESTS = [
    "sha256:../../../../etc/passwd", f"sha256:{'A' * 64}", f"sha256:{'a' * 63}", f"sha256:{'a' * 65}", f"md5:{'a' * 32}",
    f"sha256:{'a' * 63}?", f"sha256:{'a' * 63}#", f"sha256:{'a' * 61}%2f", f"sha256:{'a' * 64}\n", f"sha256:{'a' * 64}\0",
    f"{SOME}/..", f"SHA256:{'a' * 64}", f"sha256+b64:{'a' * 64}", f"sha512:{'a' * 64}", "sha256:", ":", "", "a" * 64,
    "sha256:" + "\N{ARABIC-INDIC DIGIT ONE}" * 64, f" {SOME}", 7, None, [SOME], {"x": SOME},
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_DIGESTS, ids=repr)
def test_what_is_no_digest_is_refused_wherever_it_stands(bad: Any) -> None:
    """CVE-2024-3727: a digest becomes a path and part of a URL; whatever is none ends the reading of its document."""
    wrong = DESCRIPTOR | {"digest": bad}
    for document in (
        MANIFEST | {"config": wrong},
        MANIFEST | {"layers": [DESCRIPTOR, wrong]},
        MANIFEST | {"subject": wrong},
        INDEX | {"manifests": [*INDEX["manifests"], wrong]},
    ):
        with pytest.raises(Corrupt, match="malformed"):
            parse_manifest(text(document))
    with pytest.raises(Corrupt, match="malformed"):
        parse_config(text(CONFIG, rootfs={"type": "layers", "diff_ids": [SOME, bad]}), what="it")
    with pytest.raises(Corrupt):
        read_record(text({"target": SOME, "manifest": bad, "others": []}), TagRecord, what="it")
    if isinstance(bad, str):
        with pytest.raises(InvalidArgument):
            Digest.parse(bad)
        with pytest.raises(InvalidArgument):
            Reference.parse(f"host.example/app@{bad}")


NAMES = st.text(st.sampled_from("aA0._-/:@ \\\n\0%~é") | st.characters(codec="utf-8"), max_size=40) | st.sampled_from([
    "../../etc/passwd", "a/../../b", "/etc/passwd", "a:../../b", "a/b:..", "./a", "a//b", ".", "..", "a:.", "a@../x", "host:5000/..:x",
])  # fmt: skip


@given(NAMES)
@example("localhost/:x")
@example("localhost/@sha256:x")
def test_no_name_leads_out_of_the_place_for_names(name: str) -> None:
    """CVE-2014-9358, CVE-2014-5282: names, tags and ids become paths; all that are accepted stay below, and each has its own."""
    root = Path("/state/tags")
    try:
        reference = Reference.parse(name).with_default_tag()
    except InvalidArgument:
        return
    path = Tags(StateLayout(root=root.parent))._path(reference)
    assert PurePosixPath(path).is_relative_to(root)
    assert not {"..", ".", ""} & set(path.relative_to(root).parts)
    assert "\0" not in str(path)
    assert len(path.relative_to(root).parts) >= 3


# -- every document, varied ---------------------------------------------------------------------------------------------

SCALARS: st.SearchStrategy[Any] = st.sampled_from([
    None, True, False, 0, -1, 1 << 63, 1 << 64, 10**30, -(10**30), 0.5, 1e308, "", "x", "\0", "\ud800", "\udfff\ud800", "a" * 1000, SOME,
    "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "../..", [], {}, [[]], {"": {}},
])  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
RAW = st.sampled_from([
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"0x1", b"9" * 5000, b"-" + b"9" * 400, b"[" * 100_000, b'{"a":' * 100_000, b'"\\ud800"',
    b'"\xff"',
    b"\xed\xa0\x80", b"", b"\0", b"\xef\xbb\xbf{}", b"'x'", b"{,}", b"01", b'"\n"',
])  # fmt: skip


@st.composite
def varied(draw: st.DrawFn, document: dict[str, Any]) -> bytes:
    """A good document with one part of it replaced, by another value or by bytes that may be no JSON."""
    marker = "@@marker@@"
    whole = json.loads(json.dumps(document))
    part: Any = whole
    while True:
        key = draw(st.sampled_from(sorted(part) if isinstance(part, dict) else range(len(part))))
        if not isinstance(part[key], dict | list) or not part[key] or draw(st.booleans()):
            break
        part = part[key]
    part[key] = marker
    new = draw(VALUES.map(lambda value: json.dumps(value).encode()) | RAW)
    return json.dumps(whole).encode().replace(f'"{marker}"'.encode(), new)


def read_or_refused(read: Callable[[], T]) -> T | None:
    """What was read; None if it was refused, in Ross's own words."""
    try:
        return read()
    except (Corrupt, InvalidArgument):
        return None


@settings(max_examples=300, deadline=None)
@given(varied(MANIFEST) | varied(INDEX) | RAW)
def test_no_manifest_breaks_the_reader(data: bytes) -> None:
    """CVE-2021-21285: whatever a manifest or index holds, it is read or refused; and what is read can be told to a client."""
    document = read_or_refused(lambda: parse_manifest(data, content_type=None))
    for descriptor in document.layers if isinstance(document, Manifest) else ():
        tell(descriptor)
        read_or_refused(descriptor.embedded)


def tell(descriptor: Descriptor) -> None:
    progress = BlobProgress(
        digest=descriptor.digest, phase=PullPhase.DONE, current_bytes=descriptor.size * 500, total_bytes=descriptor.size
    )
    schema.BlobProgress.new_message(**to_wire(progress)).to_bytes()


@settings(max_examples=300, deadline=None)
@given(varied(CONFIG) | RAW)
def test_no_config_breaks_the_reader(data: bytes) -> None:
    """CVE-2021-21285: the same for image configs, their times and their history."""
    config = read_or_refused(lambda: parse_config(data, what="it"))
    if config is None:
        return
    manifest = parse_manifest(text(MANIFEST))
    assert isinstance(manifest, Manifest)
    for step in history_of(manifest, config, sizes=[7], names=["x"]):
        schema.History.new_message(**to_wire(step)).to_bytes()
    assert 0 <= nanoseconds(config.created) < 1 << 63


@settings(max_examples=100, deadline=None)
@given(varied({"target": SOME, "manifest": SOME, "others": [SOME]}) | RAW)
def test_no_record_breaks_the_reader(data: bytes) -> None:
    """CVE-2021-21285: nor do Ross's own files, which a damaged disk may have changed."""
    read_or_refused(lambda: read_record(data, TagRecord, what="it"))


def test_absurd_sizes_are_refused() -> None:
    for size in (-1, MAX_SIZE_BYTES + 1, 1 << 63, 10**30):
        with pytest.raises(Corrupt, match="malformed"):
            parse_manifest(text(MANIFEST, config=DESCRIPTOR | {"size": size}))
    assert (MAX_LAYERS + 1) * MAX_SIZE_BYTES < 1 << 63


def test_data_in_a_descriptor_is_the_content_or_refused() -> None:
    def with_data(data: str, **changes: Any) -> Descriptor:
        manifest = parse_manifest(text(MANIFEST, config=good | {"data": data} | changes))
        assert isinstance(manifest, Manifest)
        return manifest.config

    good = DESCRIPTOR | {"digest": str(Digest.of(b"content")), "size": 7}
    assert with_data("Y29udGVudA==").embedded() == b"content"
    assert with_data("").embedded() is None
    for data, changes in (
        ("Y29udGVudA", {}),
        ("Y29udGVuVA==", {}),
        ("!!!!", {}),
        ("é", {}),
        ("Y29udGVudA==", {"size": 8}),
    ):
        with pytest.raises(Corrupt, match="has data in it"):
            with_data(data, **changes).embedded()


# -- how much a config may say ------------------------------------------------------------------------------------------


def test_config_of_many_steps_and_long_labels_is_read() -> None:
    """More than any builder makes: 127 layers, a history of thousands of lines, a bill of materials among the labels."""
    steps = [{"created_by": "RUN " + "x" * 300, "empty_layer": True}] * 4000
    config = parse_config(
        text(CONFIG, history=steps, config={"Labels": {"io.buildpacks.build.metadata": "x" * 2_000_000}}), what="it"
    )
    assert config.history is not None
    assert len(config.history) == 4000


def test_history_without_end_is_refused() -> None:
    """Each step is three bytes there, and hundreds in memory."""
    with pytest.raises(InvalidArgument, match="a history of 1000000 steps"):
        parse_config(text(CONFIG, history=[{}] * 1_000_000), what="it")
