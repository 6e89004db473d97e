"""The main job on an embedded default, without the internet: an image of Debian's busybox, a registry, a daemon, a run.

python -m tests.support.demo
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.daemon import Daemon, command
from tests.support.images import busybox_image, push
from tests.support.registry import running_registry


def main() -> int:
    """Returns the exit code of the last step."""
    if os.geteuid() != 0:
        sys.stderr.write("error: running containers needs root\nhint: sudo .venv/bin/python -m tests.support.demo\n")
        return 1
    with tempfile.TemporaryDirectory(prefix="ross-demo-", dir=_place()) as directory:
        return _demo(Path(directory))


def _place() -> str:
    """Where overlays can be written: /var/tmp is on a disk even where /tmp is in memory."""
    return "/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir()


def _demo(directory: Path) -> int:
    with running_registry(directory / "registry") as address:
        reference = push(address, "demo/busybox:1", busybox_image())
        daemon = Daemon(directory)
        daemon.start()
        try:
            for words in (
                ("pull", reference),
                ("images",),
                ("run", "--rm", reference, "sh", "-c", 'echo "Hello from $(hostname), running $(busybox | head -n 1)"'),
                (
                    "run",
                    "-d",
                    "--name",
                    "counter",
                    reference,
                    "sh",
                    "-c",
                    "for i in 1 2 3; do echo $i; sleep 0.2; done; exit 7",
                ),
                ("logs", "-f", "counter"),
                ("wait", "counter"),
                ("ps", "-a"),
                ("rm", "counter"),
            ):
                code = _step(daemon, words)
                if code != 0:
                    sys.stderr.write(f"error: that ended with {code}; the daemon's log:\n{daemon.log}")
                    return code
        finally:
            daemon.clean_up()
            daemon.terminate()
    return 0


def _step(daemon: Daemon, words: tuple[str, ...]) -> int:
    shown = shlex.join(words)
    sys.stdout.write(f"\n$ ross {shown}\n")
    sys.stdout.flush()
    return subprocess.run(command(*words), env=daemon.environment(), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
