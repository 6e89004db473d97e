"""Showing a pull or a push on standard error: a bar for each layer on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ross.model.images import BlobProgress, PullPhase
from ross.model.registries import Notice, NoticeKind

Report = Callable[[BlobProgress], None]

_WORDS = {
    PullPhase.WAITING: "Waiting",
    PullPhase.DOWNLOADING: "Downloading",
    PullPhase.VERIFYING: "Verifying",
    PullPhase.UNPACKING: "Unpacking",
    PullPhase.UPLOADING: "Pushing",
    PullPhase.DONE: "Complete",
    PullPhase.EXISTS: "Already exists",
    PullPhase.MOUNTED: "Mounted",
}
_ENDS = frozenset({PullPhase.DONE, PullPhase.EXISTS, PullPhase.MOUNTED})


class Display:
    """Shows progress, and what registries have to say between."""

    def __init__(self, report: Report, write: Callable[[str], None]) -> None:
        self._report = report
        self._write = write

    def __call__(self, progress: BlobProgress) -> None:
        self._report(progress)

    def notify(self, notice: Notice) -> None:
        """Show a notice."""
        self._write(_line(notice))


@contextmanager
def open_display(image: str, *, verb: str = "Pulling") -> Iterator[Display]:
    """What shows progress, for the length of a block."""
    if not sys.stderr.isatty():
        yield Display(_plain(image, verb), _write)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

    columns = (TextColumn("{task.fields[name]}"), TextColumn("{task.description:15}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=10) as display:
        tasks: dict[str, TaskID] = {}

        def report(progress: BlobProgress) -> None:
            name = progress.digest.short
            if name not in tasks:
                tasks[name] = display.add_task("Waiting", total=progress.total_bytes or 1, name=name)
            completed = progress.total_bytes or 1 if progress.phase in _ENDS else progress.current_bytes
            display.update(tasks[name], description=_WORDS.get(progress.phase, ""), completed=completed)

        def write(line: str) -> None:
            display.console.print(line, markup=False, highlight=False, soft_wrap=True)

        yield Display(report, write)


def warn(notice: Notice) -> None:
    """Show a registry's warning, and nothing else: for who wants to see no progress."""
    if notice.kind is NoticeKind.WARNING:
        _write(_line(notice))


def _line(notice: Notice) -> str:
    prefix = "warning: " if notice.kind is NoticeKind.WARNING else ""
    text = f"{prefix}{notice.registry}: {notice.text}"
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _write(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _plain(image: str, verb: str) -> Report:
    shown: dict[str, PullPhase] = {}
    sys.stderr.write(f"{verb} {image}\n")

    def report(progress: BlobProgress) -> None:
        name = progress.digest.short
        if progress.phase in _ENDS and shown.get(name) != progress.phase:
            shown[name] = progress.phase
            sys.stderr.write(f"{name}: {_WORDS[progress.phase]}\n")

    return report
