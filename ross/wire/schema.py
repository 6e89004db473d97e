"""The schema, loaded once. ``schema.Engine``, ``schema.Container`` and so on are pycapnp's classes for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import capnp

from ross.errors import Internal

_HERE: Final = Path(__file__).parent
_PLACES: Final = (_HERE / "ross.capnp", _HERE.parent.parent / "schema" / "ross.capnp")
"""In an installed wheel, and in a checkout."""


def _load() -> Any:
    for path in _PLACES:
        if path.is_file():
            # Without its own directory among the imports pycapnp does not find stream.capnp, and ends the process.
            return capnp.load(str(path), imports=[str(Path(capnp.__file__).parent.parent)])
    raise Internal("the schema ross.capnp is missing", hint="reinstall ross-engine")


capnp.remove_import_hook()
schema: Final[Any] = _load()
