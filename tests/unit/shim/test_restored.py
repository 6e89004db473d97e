"""What the config of a container that goes on from a checkpoint has in addition."""

from __future__ import annotations

from pathlib import Path

from ross.model.containers import ContainerSpec, NetworkMode
from ross.model.security import Security
from ross.shim.restored import hooks_of


def test_its_network_is_made_ready_by_a_hook() -> None:
    """With the parameters of the network's only: CRIU restores the others."""
    security = Security(sysctls={"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"})
    (hook,) = hooks_of(ContainerSpec(security=security))["hooks"]["createRuntime"]
    program, *options, script, parameter = hook["args"]
    assert program == hook["path"]
    assert Path(program).is_absolute()
    assert options == ["-I", "-S"]
    assert Path(script).is_file()
    assert parameter == "net.ipv4.ip_forward=1"


def test_the_hosts_network_is_left_alone() -> None:
    assert hooks_of(ContainerSpec(network=NetworkMode.HOST)) == {}
