"""A credential helper that keeps what it is given in a file, as Docker's protocol has it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_PROGRAM = """#!{python} -IS
import json, pathlib, sys
store = pathlib.Path({store!r})
known = json.loads(store.read_text())
verb, message = sys.argv[1], sys.stdin.read()
with open({log!r}, "a") as log:
    log.write(" ".join(sys.argv[1:]) + chr(10))
if verb == "store":
    entry = json.loads(message)
    known[entry["ServerURL"]] = [entry["Username"], entry["Secret"]]
elif verb == "list":
    print(json.dumps({{server: pair[0] for server, pair in known.items()}}))
elif message not in known:
    print("credentials not found in native keychain")
    sys.exit(1)
elif verb == "get":
    print(json.dumps({{"ServerURL": message, "Username": known[message][0], "Secret": known[message][1]}}))
else:
    del known[message]
store.write_text(json.dumps(known))
"""


class CredentialHelper:
    """The program, called ``docker-credential-NAME``, in a directory that is put into PATH."""

    def __init__(self, directory: Path, name: str) -> None:
        directory.mkdir(exist_ok=True)
        self._store = directory / f"{name}.json"
        self._store.write_text("{}")
        self._log = directory / f"{name}.log"
        self._log.touch()
        program = directory / f"docker-credential-{name}"
        program.write_text(_PROGRAM.format(python=sys.executable, store=str(self._store), log=str(self._log)))
        program.chmod(0o755)

    @property
    def known(self) -> dict[str, Any]:
        """User name and secret, by server."""
        found: dict[str, Any] = json.loads(self._store.read_text())
        return found

    @property
    def arguments(self) -> list[str]:
        """What it was called with."""
        return self._log.read_text().splitlines()
