"""Running what a program of the client library does, on each of the two event loops."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]
"""Runs an async function."""
