"""Which mounts are inside of which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ross.errors import FailedPrecondition
from ross.model.containers import ContainerSpec
from ross.model.mounts import Mount, MountKind
from ross.model.namespaces import NamespaceMode, Namespaces
from ross.model.security import Device, Security
from ross.shim.nested_mounts import nest
from tests.support.rootfs import open_as_ours

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """With links: to where something is mounted, to below it, up from there, and into shared memory."""
    (tmp_path / "srv/real").mkdir(parents=True)
    (tmp_path / "srv/real/sub").symlink_to("../../etc")
    for name, target in (
        ("link", "/srv/real"),
        ("below", "srv/real/deep"),
        ("up", "/srv/real/x/.."),
        ("shm", "/dev/shm"),
    ):
        (tmp_path / name).symlink_to(target)
    return tmp_path


def nested(rootfs: Path, spec: ContainerSpec) -> dict[str, list[tuple[str, str, str]]]:
    """By the target of the outer one: target, place below and neighbour of those inside."""
    with open_as_ours(rootfs) as opened:
        return {
            outer.mount.target: [(inner.mount.target, inner.path, inner.beside.target) for inner in outer.inners]
            for outer in nest(spec, opened)
        }


def binds(*targets: str) -> ContainerSpec:
    return ContainerSpec(mounts=tuple(Mount(source="/x", target=target) for target in targets))


def test_by_names_and_by_links(rootfs: Path) -> None:
    assert nested(rootfs, binds("/a", "/ab", "/b/c")) == {}
    assert nested(rootfs, binds("/a/b", "/a", "/a/b/c")) == {"/a": [("/a/b", "/b", "/a"), ("/a/b/c", "/b/c", "/a/b")]}
    assert nested(rootfs, binds("/srv/real", "/link/x")) == {"/srv/real": [("/link/x", "/x", "/srv/real")]}
    assert nested(rootfs, binds("/link", "/below/x")) == {"/link": [("/below/x", "/deep/x", "/link")]}


def test_links_that_are_covered_are_not_followed(rootfs: Path) -> None:
    assert nested(rootfs, binds("/srv/real", "/srv/real/sub/x")) == {
        "/srv/real": [("/srv/real/sub/x", "/sub/x", "/srv/real")]
    }
    with pytest.raises(FailedPrecondition, match="a link leads up"):
        nested(rootfs, binds("/srv/real", "/up/x"))


def test_one_that_is_covered_by_another_keeps_those_inside(rootfs: Path) -> None:
    (rootfs / "far/away").mkdir(parents=True)
    (rootfs / "far/away/link").symlink_to("/srv")
    assert nested(rootfs, binds("/srv/real", "/srv/real/a", "/far/away/link/real", "/far/away/link/real/b")) == {
        "/srv/real": [("/srv/real/a", "/a", "/srv/real")],
        "/far/away/link/real": [("/far/away/link/real/b", "/b", "/far/away/link/real")],
    }


def test_what_nobody_else_can_change_is_left_to_the_runtime(rootfs: Path) -> None:
    inside = Mount(source="/x", target="/m/x")
    for outer in (Mount(kind=MountKind.TMPFS, target="/m"), Mount(source="/x", target="/m", propagation="rshared")):
        assert nested(rootfs, ContainerSpec(mounts=(outer, inside))) == {}
    image = Mount(kind=MountKind.IMAGE, source="i", target="/m", read_only=True)
    assert nested(rootfs, ContainerSpec(mounts=(image, inside))) == {"/m": [("/m/x", "/x", "/m")]}


def test_devices_and_shared_memory(rootfs: Path) -> None:
    device = Security(devices=(Device(source="/dev/null", target="/link/null"),))
    with pytest.raises(FailedPrecondition, match="would be made in what is mounted"):
        nested(rootfs, ContainerSpec(mounts=binds("/srv/real").mounts, security=device))
    assert nested(rootfs, ContainerSpec(mounts=binds("/m").mounts, security=device)) == {}
    for mode in (NamespaceMode.HOST, NamespaceMode.CONTAINER):
        for target in ("/shm/x", "/dev/shm/x", "/dev/mqueue/x"):
            spec = ContainerSpec(mounts=binds(target).mounts, namespaces=Namespaces(ipc=mode))
            with pytest.raises(FailedPrecondition, match="shares with others"):
                nested(rootfs, spec)
    assert nested(rootfs, binds("/dev/shm/x")) == {}
