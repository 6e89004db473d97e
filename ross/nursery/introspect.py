"""What runs right now: Trio's task tree, with the place where each task waits."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

import trio
from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator


@frozen(kw_only=True)
class TaskNode:
    """One task. A child stands behind its parent, one deeper."""

    name: str
    depth: int
    waiting_at: str
    """``file:line function`` of the innermost frame of the package asked for; empty where it has none."""


def task_tree(package: str, *, root: trio.lowlevel.Task | None = None) -> tuple[TaskNode, ...]:
    """The live tasks below ``root``, parents before children, in the order in which their nurseries hold them.

    Args:
        package: The top-level package whose frames are shown.
        root: Where to begin; the main task of the running program if absent.
    """
    if root is None:
        root = _main_task()
    return tuple(_walk(root, 0, package)) if root is not None else ()


def _main_task() -> trio.lowlevel.Task | None:
    root = trio.lowlevel.current_root_task()
    if root is None:
        return None
    # Trio's own tasks live in the outer nurseries of its first task; the innermost one holds the program's.
    for nursery in reversed(root.child_nurseries):
        for task in nursery.child_tasks:
            return task
    return root


def _walk(task: trio.lowlevel.Task, depth: int, package: str) -> Iterator[TaskNode]:
    yield TaskNode(name=_short(task.name), depth=depth, waiting_at=_waiting_at(task, package))
    for nursery in task.child_nurseries:
        for child in sorted(nursery.child_tasks, key=lambda one: one._counter):  # noqa: SLF001 -- Trio keeps them in a set; this is their age
            yield from _walk(child, depth + 1, package)


def _short(name: str) -> str:
    return name.replace(".<locals>", "")


def _waiting_at(task: trio.lowlevel.Task, package: str) -> str:
    found = ""
    for frame, line in task.iter_await_frames():
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] == package:
            parts = PurePath(frame.f_code.co_filename).parts
            place = "/".join(parts[len(parts) - 1 - parts[::-1].index(package) :]) if package in parts else parts[-1]
            found = f"{place}:{line} {frame.f_code.co_qualname.replace('.<locals>', '')}"
    return found
