"""Documents at the puller: what is refused before anything is asked for or written, from a registry and from the store alike."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from ross.errors import Corrupt, InvalidArgument, NotFound
from ross.oci.digest import Digest
from ross.services.documents import MAX_INDEX_CHOICES
from tests.support.scripted_registry import (
    OCI,
    Handler,
    Request,
    ScriptedImage,
    Stream,
    descriptor,
    digest_of,
    make_image,
    reply,
    serve_image,
)
from tests.unit.services.test_puller import Setting, pulling_from, serving

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST, INDEX = f"{OCI}.manifest.v1+json", f"{OCI}.index.v1+json"
IMAGE = make_image(b"layer" * 100, architecture="amd64")
OTHER = make_image(b"other" * 100, architecture="arm64")
BAD_DIGESTS = [
    "sha256:../../x",
    f"sha256:{'A' * 64}",
    "sha256:abc",
    f"sha256:{'a' * 65}",
    f"md5:{'a' * 32}",
    f"sha256:{'a' * 62}%2f",
]


def index(*entries: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries} | fields).encode()


def entry(data: bytes, /, media_type: str = MANIFEST, architecture: str = "", **fields: Any) -> dict[str, Any]:
    platform = {"platform": {"os": "linux", "architecture": architecture}} if architecture else {}
    return descriptor(data, media_type) | platform | fields


def serving_documents(top: bytes, *documents: bytes, image: ScriptedImage = IMAGE, kind: str = INDEX) -> Handler:
    """``top`` under the tag, the others by digest, and an image's blobs."""
    by_digest = {digest_of(data): data for data in documents}

    async def handle(request: Request, stream: Stream) -> None:
        name = request.path.rpartition("/")[2]
        if "/manifests/" not in request.path:
            await serve_image(image, request, stream)
        elif name == "1":
            await reply(stream, 200, top, Content_Type=kind)
        elif name in by_digest:
            await reply(stream, 200, by_digest[name])
        else:
            await reply(stream, 404)

    return handle


def targets(setting: Setting) -> list[str]:
    return [request.path for request in setting.server.requests]


@pytest.mark.parametrize("bad", BAD_DIGESTS)
@pytest.mark.parametrize("where", ["config", "layer", "index"])
async def test_a_digest_that_is_none_ends_a_pull_before_any_request_for_it(
    bad: str, where: str, tmp_path: Path
) -> None:
    """CVE-2024-3727: in a manifest or index, what is no digest becomes neither a path nor part of a URL."""
    wrong = descriptor(b"x", f"{OCI}.layer.v1.tar") | {"digest": bad}
    document = json.loads(IMAGE.manifest) | ({"config": wrong} if where == "config" else {"layers": [wrong]})
    top = (
        index(entry(IMAGE.manifest, architecture="amd64"), wrong) if where == "index" else json.dumps(document).encode()
    )
    kind = INDEX if where == "index" else MANIFEST
    async with pulling_from(serving_documents(top, kind=kind), tmp_path) as setting:
        with pytest.raises(Corrupt, match="malformed"):
            await setting.pull()

    assert targets(setting) == ["/v2/app/manifests/1"]
    assert setting.store.blobs() == ()


@pytest.mark.parametrize("bad", BAD_DIGESTS)
async def test_a_diff_id_that_is_no_digest_ends_a_pull_before_its_layers(bad: str, tmp_path: Path) -> None:
    """CVE-2024-3727: a config's diff IDs become the names of snapshots."""
    config = json.dumps({
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [bad]},
    }).encode()
    document = json.loads(IMAGE.manifest) | {"config": descriptor(config, f"{OCI}.config.v1+json")}
    image = ScriptedImage(json.dumps(document).encode(), IMAGE.blobs | {digest_of(config): config}, "", ())
    async with pulling_from(serving(image), tmp_path) as setting:
        with pytest.raises(Corrupt, match="malformed"):
            await setting.pull()

    assert targets(setting) == ["/v2/app/manifests/1", f"/v2/app/blobs/{digest_of(config)}"]


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(index(manifests=[], layers=[], config={}), id="both"),
        pytest.param(index(entry(IMAGE.manifest)), id="index-listed-as-manifest"),
        pytest.param(IMAGE.manifest[:-1] + b',"layers":[]}', id="twins"),
        pytest.param(IMAGE.manifest[:-1] + b',"Layers":[]}', id="twins-but-for-case"),
    ],
)
@pytest.mark.parametrize("cached", [False, True])
async def test_an_ambiguous_manifest_of_an_index_is_refused_also_from_the_store(
    document: bytes, cached: bool, tmp_path: Path
) -> None:
    """CVE-2021-41190: what an index lists as a manifest is read as one or not at all, wherever the bytes come from."""
    top = index(entry(document, MANIFEST, "amd64"))
    async with pulling_from(serving_documents(top, document), tmp_path) as setting:
        if cached:
            await setting.store.write_manifest(Digest.of(document), document)
        with pytest.raises((Corrupt, InvalidArgument)):
            await setting.pull()

    assert (f"/v2/app/manifests/{digest_of(document)}" in targets(setting)) is not cached
    assert setting.store.blobs() == ()


async def test_data_in_descriptors_is_used_in_place_of_a_request(tmp_path: Path) -> None:
    config = IMAGE.blobs[IMAGE.config_digest]
    document = json.loads(IMAGE.manifest)
    document["config"]["data"] = base64.b64encode(config).decode()
    manifest = json.dumps(document).encode()
    top = index(entry(manifest, architecture="amd64", data=base64.b64encode(manifest).decode()))
    async with pulling_from(serving_documents(top), tmp_path) as setting:
        pulled = await setting.pull()
        assert pulled.manifest_descriptor.digest == Digest.of(manifest)

    assert targets(setting) == ["/v2/app/manifests/1", f"/v2/app/blobs/{IMAGE.layer_digests[0]}"]


async def test_data_that_is_something_else_is_refused(tmp_path: Path) -> None:
    top = index(entry(IMAGE.manifest, architecture="amd64", data=base64.b64encode(OTHER.manifest).decode()))
    async with pulling_from(serving_documents(top, IMAGE.manifest), tmp_path) as setting:
        with pytest.raises(Corrupt, match="has data in it"):
            await setting.pull()
    assert targets(setting) == ["/v2/app/manifests/1"]


async def test_an_index_in_an_index_is_looked_into_for_the_platform(tmp_path: Path) -> None:
    """The first has another platform, and unknown fields; the second has ours, beside an artifact and a manifest that is nowhere."""
    arm = index(entry(OTHER.manifest, architecture="arm64"), someThing={"new": [1]})
    artifact = entry(b"signature", artifactType="application/signature")
    ours = index(artifact, entry(b"elsewhere", architecture="s390x"), entry(IMAGE.manifest, architecture="amd64"))
    top = index(entry(arm, INDEX), entry(ours, INDEX))
    async with pulling_from(serving_documents(top, arm, ours, IMAGE.manifest), tmp_path) as setting:
        pulled = await setting.pull()

    assert pulled.manifest_descriptor.digest == Digest.of(IMAGE.manifest)
    assert pulled.target.digest == Digest.of(top)
    kept = {str(info.digest) for info in setting.store.manifests()}
    assert kept == {digest_of(data) for data in (top, arm, ours, IMAGE.manifest)}


async def test_indexes_without_end_or_number_are_left(tmp_path: Path) -> None:
    deep = IMAGE.manifest
    chain = [deep]
    for _level in range(6):
        deep = index(entry(deep, INDEX if len(chain) > 1 else MANIFEST))
        chain.append(deep)
    async with pulling_from(serving_documents(deep, *chain), tmp_path) as setting:
        with pytest.raises(Corrupt, match="deeper than"):
            await setting.pull()
    many = [index(entry(OTHER.manifest, architecture="arm64"), number=number) for number in range(100)]
    async with pulling_from(serving_documents(index(*(entry(one, INDEX) for one in many)), *many), tmp_path) as setting:
        with pytest.raises(NotFound, match="does not exist for linux/amd64"):
            await setting.pull()
        assert len(setting.server.requests) == 1 + MAX_INDEX_CHOICES


async def test_sha512_all_the_way(tmp_path: Path) -> None:
    layer = b"layer" * 50
    long = [str(Digest.of(data, algorithm="sha512")) for data in (layer,)]
    config = json.dumps({
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": long},
    }).encode()
    config_digest = str(Digest.of(config, algorithm="sha512"))
    manifest = json.dumps({
        "schemaVersion": 2,
        "config": descriptor(config, f"{OCI}.config.v1+json") | {"digest": config_digest},
        "layers": [descriptor(layer, f"{OCI}.layer.v1.tar") | {"digest": long[0]}],
    }).encode()
    image = ScriptedImage(manifest, {config_digest: config, long[0]: layer}, config_digest, tuple(long))
    digest = Digest.of(manifest, algorithm="sha512")
    top = index(entry(manifest, architecture="amd64", digest=str(digest)))

    async def handle(request: Request, stream: Stream) -> None:
        if request.path.endswith("/manifests/1"):
            await reply(stream, 200, top, Content_Type=INDEX)
        else:
            await serve_image(image, request, stream)

    async with pulling_from(handle, tmp_path) as setting:
        pulled = await setting.pull()
    assert pulled.manifest_descriptor.digest == digest
    assert {info.digest.algorithm for info in setting.store.blobs()} == {"sha512"}


@pytest.mark.parametrize("artifact_type", ["application/vnd.example.sbom", ""])
async def test_an_artifact_is_told_from_an_image(artifact_type: str, tmp_path: Path) -> None:
    document = json.loads(IMAGE.manifest) | {
        "config": descriptor(b"{}", "application/vnd.oci.empty.v1+json", data="e30="),
        "subject": descriptor(OTHER.manifest, MANIFEST),
    }
    document |= {"artifactType": artifact_type} if artifact_type else {}
    image = ScriptedImage(json.dumps(document).encode(), {}, "", ())
    async with pulling_from(serving(image), tmp_path) as setting:
        with pytest.raises(
            InvalidArgument, match=f"artifact of the type '{artifact_type or 'application/vnd.oci.empty'}"
        ):
            await setting.pull()
    assert targets(setting) == ["/v2/app/manifests/1"]
