"""A real image: Debian packages with python3, unpacked by mmdebstrap and cut into layers. Cached between runs."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Final

from tests.support.images import BuiltImage, ImageBuilder

_SUITE: Final = "bookworm"
_PACKAGES: Final = ("python3-minimal",)


def cache_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(base) / "ross-tests"
    path.mkdir(parents=True, exist_ok=True)
    return path


def debian_tar(packages: tuple[str, ...] = _PACKAGES, *, name: str = "python3") -> Path:
    """The root filesystem as a tar; made once."""
    path = cache_directory() / f"{_SUITE}-{name}.tar"
    if path.exists():
        return path
    program = shutil.which("mmdebstrap")
    if program is None:
        raise RuntimeError("mmdebstrap is not installed: apt install mmdebstrap")
    fresh = path.with_suffix(".new")
    subprocess.run(
        [
            program,
            "--quiet",
            "--variant=essential",
            f"--include={','.join(packages)}",
            "--format=tar",
            _SUITE,
            str(fresh),
        ],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    fresh.rename(path)
    return path


def cut(path: Path, count: int) -> list[bytes]:
    """Cut a tar into so many of about the same size, in the order of its entries."""
    share = path.stat().st_size // count + 1
    layers: list[bytes] = []
    with tarfile.open(path) as source:
        buffer = io.BytesIO()
        target = tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 -- closed at each cut
        for member in source:
            target.addfile(member, source.extractfile(member) if member.isreg() else None)
            if buffer.tell() >= share and len(layers) < count - 1:
                target.close()
                layers.append(buffer.getvalue())
                buffer = io.BytesIO()
                target = tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        target.close()
        layers.append(buffer.getvalue())
    return layers


def python_image(*, layers: int = 4) -> BuiltImage:
    """An image with python3 in several layers, of gzip and zstd in turn."""
    builder = ImageBuilder(config={"Cmd": ["python3"]})
    for index, layer in enumerate(cut(debian_tar(), layers)):
        builder.layer(layer, compression="+zstd" if index % 2 else "+gzip")
    return builder.build()
