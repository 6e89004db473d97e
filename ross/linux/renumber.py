"""Executed by itself, ``python -I -S renumber.py 70,71 PROGRAM ARGUMENT...``: becomes the program, with these descriptors as its 3, 4, ...

The numbers that a child inherits are those of its parent (subprocess, ``pass_fds``), where low ones are in use.
"""

import os
import sys


def main(argv: list[str]) -> None:
    """Renumber, and execute."""
    for number, fd in enumerate(map(int, argv[0].split(",")), 3):
        os.dup2(fd, number)
        os.close(fd)
    os.execv(argv[1], argv[1:])  # noqa: S606 -- the program that was asked for


if __name__ == "__main__":
    main(sys.argv[1:])
