"""The documents and names of archives: read strictly, written the same every time, and never leading anywhere."""

from __future__ import annotations

import json
import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ross.errors import Corrupt, InvalidArgument
from ross.oci import media_types
from ross.oci.archive import (
    LAYOUT,
    check_layout,
    layer_type,
    link_target,
    make_docker,
    make_index,
    make_manifest,
    member_name,
    name_of,
    parse_docker,
    parse_index,
    parse_name,
)
from ross.oci.digest import Digest
from ross.oci.image import Descriptor
from ross.oci.reference import Reference

DIGEST, OTHER = Digest.of(b"one"), Digest.of(b"other")
PARTS = st.lists(st.sampled_from(["a", "b", "..", ".", "", "layer.tar"]), max_size=6).map("/".join)


def described(**annotations: str) -> Descriptor:
    return Descriptor(media_type=media_types.OCI_MANIFEST, digest=DIGEST, size=3, annotations=annotations)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"./a/b", "a/b"),
        (b"a//b/", "a/b"),
        (b"./", ""),
        (b"blobs/sha256/x", "blobs/sha256/x"),
        (b"a..b/..c", "a..b/..c"),
    ],
)
def test_member_names_have_one_form(raw: bytes, name: str) -> None:
    assert member_name(raw) == name


@pytest.mark.parametrize("raw", [b"../x", b"a/../b", b"/etc/passwd", b"a/..", b"\xff"])
def test_member_names_that_lead_out_are_refused(raw: bytes) -> None:
    with pytest.raises(Corrupt):
        member_name(raw)


@given(PARTS, PARTS)
def test_a_link_leads_where_the_system_would_have_it_lead_or_nowhere(name: str, target: str) -> None:
    try:
        plain = member_name(name.encode())
        found = link_target(plain, target.encode())
    except Corrupt:
        return
    expected = posixpath.normpath(posixpath.join(posixpath.dirname(plain), target))
    assert found == ("" if expected == "." else expected)
    assert not found.startswith(("/", ".."))


def test_names_come_from_annotations() -> None:
    full = {"io.containerd.image.name": "docker.io/library/a:1"}
    assert name_of(described(**full)) == Reference.parse("a:1")
    assert name_of(described(**{"org.opencontainers.image.ref.name": "localhost/b:2"})) == Reference.parse(
        "localhost/b:2"
    )
    assert name_of(described(**{"org.opencontainers.image.ref.name": "2"})) is None
    assert name_of(described(**full, **{"org.opencontainers.image.ref.name": "2"})) == Reference.parse("a:1")
    assert name_of(described()) is None


@pytest.mark.parametrize("text", ["../../etc:1", "/abs:1", "UPPER:1", "a:../x", "a\0b", "", "a@sha256:short"])
def test_what_is_no_name_is_refused(text: str) -> None:
    """CVE-2014-9358, CVE-2014-5282: names and ids of an archive were used as paths."""
    with pytest.raises(Corrupt, match="not a name"):
        parse_name(text, target=DIGEST)


def test_a_name_by_digest_must_be_that_of_the_image() -> None:
    assert parse_name(f"a@{DIGEST}", target=DIGEST).digest == DIGEST
    with pytest.raises(Corrupt, match="another digest"):
        parse_name(f"a@{OTHER}", target=DIGEST)


def test_layout_versions() -> None:
    check_layout(LAYOUT)
    with pytest.raises(InvalidArgument, match=r"version '2\.0\.0'"):
        check_layout(b'{"imageLayoutVersion": "2.0.0"}')
    with pytest.raises(InvalidArgument):
        check_layout(b"{}")


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b"[5]",
        b'[{"Config": 5}]',
        b'[{"RepoTags": []}]',
        b'[{"Config": "a", "Config": "b"}]',
        b'[{"Config":"a"}',
        b"\xff",
    ],
)
def test_dockers_document_is_read_strictly(data: bytes) -> None:
    with pytest.raises(Corrupt):
        parse_docker(data)


def test_dockers_document_has_fields_that_nobody_knows() -> None:
    (image,) = parse_docker(b'[{"Config": "c", "RepoTags": null, "Layers": ["l", "l"], "LayerSources": {}}]')
    assert (image.config, image.repo_tags, image.layers) == ("c", None, ("l", "l"))


def test_a_manifest_is_no_index() -> None:
    config = Descriptor(media_type=media_types.OCI_CONFIG, digest=DIGEST, size=3)
    with pytest.raises(Corrupt, match="is a manifest"):
        parse_index(make_manifest(config, []))


def test_written_documents_do_not_depend_on_the_order() -> None:
    one, two = (Descriptor(media_type=media_types.OCI_MANIFEST, digest=digest, size=3) for digest in (DIGEST, OTHER))
    a, b = Reference.parse("a:1"), Reference.parse(f"b@{OTHER}")
    index = make_index([(one, a), (two, b)])
    assert index == make_index([(two, b), (one, a)])
    assert {name_of(entry) for entry in parse_index(index).manifests} == {a, b}
    docker = make_docker({"x": ([b, a], ["l"]), "c": ([], [])})
    assert docker == make_docker({"c": ([], []), "x": ([a, b], ["l"])})
    assert [entry["RepoTags"] for entry in json.loads(docker)] == [None, ["docker.io/library/a:1"]]


def test_layer_types_are_told_by_their_first_bytes() -> None:
    assert layer_type(b"\x1f\x8b\x08") == f"{media_types.OCI_LAYER}+gzip"
    assert layer_type(b"\x28\xb5\x2f\xfd") == f"{media_types.OCI_LAYER}+zstd"
    assert layer_type(b"bin/") == layer_type(b"") == media_types.OCI_LAYER
