"""Images made on the spot: layers as tar, in any compression, with any config, pushed to a registry over its API."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import zstandard
from attrs import define, field, frozen

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
ARCHITECTURE: Final = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
_PACK: Final[dict[str, Callable[[bytes], bytes]]] = {
    "": lambda data: data,
    "+gzip": lambda data: gzip.compress(data, 6, mtime=0),
    "+zstd": lambda data: zstandard.compress(data, 3),
}


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Layer:
    """A layer in the making: files, directories, links, whatever an entry can be."""

    def __init__(self, *, format: int = tarfile.PAX_FORMAT) -> None:  # noqa: A002 -- tarfile calls it so
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w", format=format)  # noqa: SIM115 -- closed by tar()

    def add(self, name: str, data: bytes = b"", *, type: bytes = tarfile.REGTYPE, **fields: Any) -> Layer:  # noqa: A002
        info = tarfile.TarInfo(name)
        info.type = type
        info.size = len(data)
        info.mode = 0o755 if type == tarfile.DIRTYPE else 0o644
        info.mtime = 1_700_000_000
        for key, value in fields.items():
            setattr(info, key, value)
        self._tar.addfile(info, io.BytesIO(data))
        return self

    def directory(self, name: str, **fields: Any) -> Layer:
        return self.add(name, type=tarfile.DIRTYPE, **fields)

    def symlink(self, name: str, target: str) -> Layer:
        return self.add(name, type=tarfile.SYMTYPE, linkname=target)

    def hard_link(self, name: str, target: str) -> Layer:
        return self.add(name, type=tarfile.LNKTYPE, linkname=target)

    def whiteout(self, name: str) -> Layer:
        parent, _slash, base = name.rpartition("/")
        return self.add(f"{parent}/.wh.{base}" if parent else f".wh.{base}")

    def opaque(self, name: str) -> Layer:
        return self.add(f"{name}/.wh..wh..opq")

    def tar(self) -> bytes:
        self._tar.close()
        return self._buffer.getvalue()


@frozen(kw_only=True)
class BuiltImage:
    """Documents and blobs, ready to be pushed."""

    manifest: bytes
    blobs: dict[str, bytes]

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)


@define
class ImageBuilder:
    """Collects layers and makes an image of them."""

    layers: list[tuple[bytes, str]] = field(factory=list)
    config: dict[str, Any] = field(factory=dict)
    overrides: dict[str, Any] = field(factory=dict)

    def layer(self, tar: bytes | Layer, *, compression: str = "+gzip") -> ImageBuilder:
        self.layers.append((tar.tar() if isinstance(tar, Layer) else tar, compression))
        return self

    def build(self) -> BuiltImage:
        blobs: dict[str, bytes] = {}
        descriptors = []
        for tar, compression in self.layers:
            packed = _PACK[compression](tar)
            blobs[digest_of(packed)] = packed
            descriptors.append({"mediaType": LAYER + compression, "digest": digest_of(packed), "size": len(packed)})
        config = {
            "architecture": ARCHITECTURE,
            "os": "linux",
            "created": "2023-11-14T22:13:20Z",
            "config": {
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Cmd": ["/bin/sh"],
                **self.config,
            },
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar, _ in self.layers]},
            **self.overrides,
        }
        encoded = json.dumps(config).encode()
        blobs[digest_of(encoded)] = encoded
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest_of(encoded), "size": len(encoded)},
            "layers": descriptors,
        }
        return BuiltImage(manifest=json.dumps(manifest).encode(), blobs=blobs)


def busybox_layer() -> Layer:
    """A root filesystem of the host's busybox-static: every applet a hard link, users root and nobody."""
    program = shutil.which("busybox")
    if program is None:
        raise RuntimeError("busybox is not installed: apt install busybox-static")
    applets = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    layer = Layer()
    for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "var"):
        layer.directory(name, mode=0o1777 if name == "tmp" else 0o755)
    layer.add("bin/busybox", Path(program).read_bytes(), mode=0o755)
    for applet in applets:
        if applet != "busybox":
            layer.add(f"bin/{applet}", type=tarfile.LNKTYPE, linkname="bin/busybox", mode=0o755)
    layer.add("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    layer.add("etc/group", b"root:x:0:\nnogroup:x:65534:\nstaff:x:50:nobody\n")
    return layer


def busybox_image(**config: Any) -> BuiltImage:
    return ImageBuilder(config=config).layer(busybox_layer()).build()


def push(
    registry: str,
    name: str,
    image: BuiltImage,
    *,
    auth: tuple[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> str:
    """Push to ``http://<registry>``, or https with ``tls``; ``name`` is ``path:tag``. Returns the whole reference."""
    path, _colon, tag = name.rpartition(":")
    base_url = f"{'https' if tls else 'http'}://{registry}/v2/{path}/"
    with httpx.Client(base_url=base_url, timeout=60, auth=auth, verify=tls or True) as client:
        for digest, data in image.blobs.items():
            if client.head(f"blobs/{digest}").status_code == 200:
                continue
            begun = client.post("blobs/uploads/")
            begun.raise_for_status()
            where = httpx.URL(begun.headers["Location"])
            put = client.put(
                where.copy_merge_params({"digest": digest}),
                content=data,
                headers={"Content-Type": "application/octet-stream"},
            )
            put.raise_for_status()
        client.put(f"manifests/{tag}", content=image.manifest, headers={"Content-Type": MANIFEST}).raise_for_status()
    return f"{registry}/{name}"


def push_index(registry: str, name: str, images: Sequence[tuple[dict[str, str], BuiltImage]]) -> str:
    """Push an index of several platforms."""
    path, _colon, tag = name.rpartition(":")
    entries = []
    for platform_, image in images:
        push(registry, f"{path}:{image.digest.partition(':')[2][:12]}", image)
        entries.append({
            "mediaType": MANIFEST,
            "digest": image.digest,
            "size": len(image.manifest),
            "platform": platform_,
        })
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
    with httpx.Client(base_url=f"http://{registry}/v2/{path}/", timeout=60) as client:
        client.put(f"manifests/{tag}", content=index, headers={"Content-Type": INDEX}).raise_for_status()
    return f"{registry}/{name}"
