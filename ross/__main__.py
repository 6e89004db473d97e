"""The ``ross`` program, also as ``python -m ross``."""

import gc
import sys


def main() -> None:
    """Run the command line that this process was started with, and end it."""
    if sys.argv[1:2] != ["daemon"]:  # which would keep the room of what is not collected for as long as it lives
        # A seventh of the time that imports take is for looking through what they have made, of which hardly anything is garbage. While
        # KJ's loop runs, it collects by itself (ross.wire.garbage).
        gc.disable()
    from ross.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
