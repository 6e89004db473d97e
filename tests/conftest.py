"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# Side by side on a busy machine a single example may wait for its turn; what hangs is ended by the tests' own time limit.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")
