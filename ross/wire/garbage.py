"""Python's cyclic garbage collector, kept on the thread of KJ's loop. Imports nothing of Ross.

Python collects in whichever thread happens to allocate when it is time. An object of KJ that is let go of in any thread but its own, or
when its loop has ended, ends the process (kj/async.c++: "No event loop is running on this thread"). An exception that somebody keeps is
enough for a cycle: by its traceback it holds what its frames hold.
"""

from __future__ import annotations

import ctypes
import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECONDS: Final = 1.0
_TRIM_SECONDS: Final = 3.0


@contextmanager
def collecting_here() -> Iterator[None]:
    """Collect nothing by itself for the length of the block, and everything of it at its end."""
    enabled = gc.isenabled()
    gc.disable()
    gc.freeze()  # what there was before holds nothing of the loop: it is not looked through at the end
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()
        if enabled:
            gc.enable()


async def collect_for_ever() -> None:
    """Collect when it is time, as Python would, in this thread; and give memory back that a burst of work has left."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    used, trimmed = True, trio.current_time()  # imports leave a burst's worth too
    while True:
        await trio.sleep(_SECONDS)
        if used and trim is not None and trio.current_time() > trimmed + _TRIM_SECONDS:
            trim(0)  # a millisecond or two; the allocator would keep a tenth of a daemon for what may never come again
            used, trimmed = False, trio.current_time()
        due = [
            generation
            for generation, (count, threshold) in enumerate(zip(gc.get_count(), gc.get_threshold(), strict=True))
            if threshold and count > threshold
        ]
        if due:
            gc.collect(due[-1])
            used = True
