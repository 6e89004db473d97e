"""What a container's config has in addition where it goes on from a checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import ross.linux
from ross.model.containers import NetworkMode

if TYPE_CHECKING:
    from ross.model.containers import ContainerSpec

_PROGRAM: Final = Path(ross.linux.__file__).with_name("new_network.py")
_SECONDS: Final = 60


def hooks_of(spec: ContainerSpec) -> dict[str, Any]:
    """What the runtime executes when it has made the namespaces anew, and CRIU has nothing in them yet.

    Runtimes have CRIU restore an empty network, since they know of none; even its loopback interface would be down.
    """
    if spec.network is NetworkMode.HOST:
        return {}
    parameters = [f"{key}={value}" for key, value in spec.security.sysctls.items() if key.startswith("net.")]
    argv = [sys.executable, "-I", "-S", str(_PROGRAM), *parameters]
    return {"hooks": {"createRuntime": [{"path": sys.executable, "args": argv, "timeout": _SECONDS}]}}
