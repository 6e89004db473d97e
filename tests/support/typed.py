"""Rows of tables about ``run``: flags as a user types them, an image that has something to look up, and what came of it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

from tests.support.images import BuiltImage, ImageBuilder, Layer, busybox_layer

if TYPE_CHECKING:
    from tests.support.daemon import Daemon

REFUSED: Final = 125
PASSWD: Final = b"""1000:x:0:0::/root:/bin/sh
root:x:0:0::/root:/bin/sh
alice:x:1000:1000::/home/alice:/bin/sh
bob:x:1001:50::/home/bob:/bin/sh
"""
GROUP: Final = b"root:x:0:\nstaff:x:50:alice,bob\nwheel:x:10:alice\nalice:x:1000:\n7:x:0:\n"


def furnished(**config: Any) -> BuiltImage:
    """An image with busybox, users, a directory that belongs to one, and links."""
    layer = Layer().add("etc/passwd", PASSWD).add("etc/group", GROUP).directory("own", uid=1000, gid=1000, mode=0o700)
    layer.symlink("link", "own").symlink("up", "../../..").symlink("astray", "/nowhere/deep").symlink(
        "circle", "circle"
    )
    return ImageBuilder(config=config).layer(busybox_layer()).layer(layer).build()


def run(daemon: Daemon, box: str, flags: str, *command: str) -> tuple[int, str]:
    """The exit code and the output of a container; flags are as a user types them."""
    done = daemon.ross("run", "--rm", "-q", *shlex.split(flags), box, *command)
    assert "Traceback" not in done.stderr
    assert done.returncode != REFUSED or done.stderr.startswith("error: "), done.stderr
    return done.returncode, done.stdout


def refused(daemon: Daemon, box: str, flags: str) -> str:
    """What is said to flags that are refused."""
    done = daemon.ross("run", "--rm", *shlex.split(flags), box, "true")
    assert done.returncode == REFUSED, done
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    return done.stderr
