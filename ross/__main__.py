"""The ``ross`` program, also as ``python -m ross``."""

import gc
import os
import sys


def main() -> None:
    """Run the command line that this process was started with, and end it."""
    _occupy_standard_streams()
    if sys.argv[1:2] != ["daemon"]:  # which would keep the room of what is not collected for as long as it lives
        # A seventh of the time that imports take is for looking through what they have made, of which hardly anything is garbage. While
        # KJ's loop runs, it collects by itself (ross.wire.garbage).
        gc.disable()
    from ross.cli.app import main as run

    run()


def _occupy_standard_streams() -> None:
    """Put the null device where whoever started this has closed a standard stream: what is opened next would be taken for it."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 -- for as long as the process lives


if __name__ == "__main__":
    main()
