"""Showing on standard error how something goes: on a terminal a bar for each layer, or one for a check; elsewhere plain lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ross.model.images import BlobProgress, PullPhase
from ross.model.registries import Notice, NoticeKind
from ross.model.storage import CheckProgress, CheckStage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType
    from rich.progress import Progress, TaskID

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
_STAGES = {
    CheckStage.CONTENT: "Hashing content",
    CheckStage.LAYERS: "Comparing layers",
    CheckStage.REST: "Looking around",
}
_WIDE_COLUMNS = 60
"""A terminal that is narrower has no room for bars."""


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
    if not _draws():
        yield Display(_plain(image, verb), _write)
        return
    with _drawn(_bars("{task.fields[name]}")) as display:
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


@contextmanager
def open_check_display() -> Iterator[Callable[[CheckProgress], None] | None]:
    """What shows how a check goes, for the length of a block: a bar that goes with it. None where nobody looks."""
    if not _draws():
        yield None
        return
    with _drawn(_bars(transient=True)) as display:
        task = display.add_task(_STAGES[CheckStage.CONTENT], total=None)

        def report(progress: CheckProgress) -> None:
            words, total = _STAGES.get(progress.stage, ""), progress.total_bytes or None
            display.update(task, description=words, completed=progress.current_bytes, total=total)

        yield report


def _draws() -> bool:
    """Standard error is a terminal on which a cursor can be moved."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in {"", "dumb", "unknown"}


@contextmanager
def _drawn(display: Progress) -> Iterator[Progress]:
    """Draw for the length of a block. The cursor is there again behind it, even if it is interrupted just as it begins."""
    try:
        with display:
            yield display
    finally:
        display.console.show_cursor(True)


def _bars(*texts: str, transient: bool = False) -> Progress:
    """Rich's display: as wide as the terminal is at each refresh, and in a narrow one without the bars."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    console = Console(stderr=True)

    class Fitting(Progress):
        def get_renderables(self) -> Iterable[RenderableType]:
            wide = console.width >= _WIDE_COLUMNS
            self.columns = (*words, *measures) if wide else words
            return super().get_renderables()

    words = tuple(TextColumn(text) for text in (*texts, "{task.description:15}"))
    measures = (BarColumn(), DownloadColumn())
    return Fitting(*words, *measures, console=console, refresh_per_second=10, transient=transient)


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
