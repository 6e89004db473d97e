"""Random images against the reference model: pulled by Ross and mounted, and fetched by skopeo and unpacked by umoci.

python -m tests.support.exact [--examples N] [--seed N]          (as root)
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from ross.oci.digest import chain_ids
from ross.services.snapshot_mounts import mount_snapshot, unmount_snapshot
from ross.services.snapshotter import committed_name
from tests.support.ext4 import ext4_in_memory
from tests.support.faulty_registry import FaultyRegistry, faulty_registry
from tests.support.images import BuiltImage, ImageBuilder
from tests.support.pulling import EngineThread, engine_thread
from tests.support.random_images import Dialect, RandomImage, images
from tests.support.tree import differences, read_tree

if TYPE_CHECKING:
    from collections.abc import Callable

UMOCI = Dialect(
    forged=False,  # umoci applies every attribute, those of the overlay too
    whiteouts=False,  # it makes no directory for one, takes away what the same layer has, and knows opaque ones of its own layer only
    links_across=False,  # in one directory a link to a lower file shares its other names, on an overlay it does not
    through_links=False,  # it replaces a link that is in the way
    implied=False,  # it makes directories as they come, with the group of the one above, whose time changes
    large=False,  # the process of its own is Ross's
    empty_xattrs=False,  # Go's reader takes an empty value for none
    compressions=("", "+gzip"),
)


def build(image: RandomImage) -> BuiltImage:
    builder = ImageBuilder()
    for layer in image.layers:
        builder.layer(layer.tar(), compression=layer.compression)
    return builder.build()


def check_ross(image: RandomImage, thread: EngineThread, registry: FaultyRegistry, mount_point: Path) -> list[str]:
    """Pull the image, mount its snapshot, and return what is not as the model has it."""
    built = build(image)
    registry.serve("exact", "1", built)
    engine = thread.engine
    pulled = thread.run(engine.pull, f"{registry.host}/exact:1")
    top = committed_name(chain_ids(pulled.config.rootfs.diff_ids)[-1])
    thread.run(mount_snapshot, engine.snapshotter, top, mount_point)
    try:
        return differences(image.nodes, read_tree(mount_point))
    finally:
        thread.run(unmount_snapshot, mount_point)
        thread.run(engine.forget, pulled)


def check_umoci(image: RandomImage, directory: Path, registry: FaultyRegistry) -> list[str]:
    """Fetch the image with skopeo, unpack it with umoci, and return what is not as the model has it."""
    source = registry.serve("exact", "1", build(image))
    with tempfile.TemporaryDirectory(dir=directory) as temporary:
        layout, bundle = Path(temporary) / "layout", Path(temporary) / "bundle"
        for argv in (
            ["skopeo", "copy", "--src-tls-verify=false", f"docker://{source}", f"oci:{layout}:1"],
            ["umoci", "unpack", "--keep-dirlinks", "--image", f"{layout}:1", str(bundle)],
        ):
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                return [f"{argv[0]} failed: {done.stderr[-1000:]}"]
        return differences(image.nodes, read_tree(bundle / "rootfs"))


def run_property(
    strategy: Any, check: Callable[[RandomImage], list[str]], *, examples: int, seeded: int, shrink: bool
) -> None:
    """Let hypothesis look for an image for which ``check`` finds something wrong.

    Raises:
        AssertionError: it found one; the smallest is printed if it is to ``shrink`` it, which takes minutes.
    """

    @seed(seeded)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        print_blob=False,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def find(image: RandomImage) -> None:
        wrong = check(image)
        assert not wrong, "\n".join(wrong)

    find()


def run_ross(disk: Path, *, examples: int, seeded: int, shrink: bool = False) -> None:
    """So many images with Ross."""
    with faulty_registry() as registry, engine_thread(disk / "root") as thread:
        mount_point = disk / "mounted"
        run_property(
            images(),
            lambda image: check_ross(image, thread, registry, mount_point),
            examples=examples,
            seeded=seeded,
            shrink=shrink,
        )


def run_umoci(disk: Path, *, examples: int, seeded: int, shrink: bool = False) -> None:
    """So many with skopeo and umoci: the model is held against engines that have nothing to do with it."""
    with faulty_registry() as registry:
        run_property(
            images(UMOCI),
            lambda image: check_umoci(image, disk, registry),
            examples=examples,
            seeded=seeded,
            shrink=shrink,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    sys.stdout.write(f"seed {options.seed}\n")
    with ext4_in_memory() as disk:
        run_ross(disk, examples=options.examples, seeded=options.seed, shrink=True)
        run_umoci(disk, examples=max(options.examples // 10, 1), seeded=options.seed, shrink=True)
    sys.stdout.write(f"{options.examples} images are exact\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
