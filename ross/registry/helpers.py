"""Credential helpers: programs called ``docker-credential-NAME`` that keep secrets, by the protocol that Docker has for them.

One word of argument says what to do; what it is about goes through standard input, so that no secret is ever in an argument.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import trio

from ross.errors import FailedPrecondition
from ross.linux.process import run, which

if TYPE_CHECKING:
    from pathlib import Path

    from ross.linux.process import Completed

_SECONDS: Final = 30.0
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_NOT_FOUND: Final = b"credentials not found"


class Helper:
    """One helper of the host, as a configuration names it."""

    def __init__(self, name: str, *, named_in: Path) -> None:
        """Find the program.

        Raises:
            FailedPrecondition: it is not installed, or the name is none.
        """
        program = which(f"docker-credential-{name}") if _NAME.match(name) else None
        if program is None:
            raise FailedPrecondition(
                f"the credential helper {name[:100]!r} named in {named_in} is not installed",
                hint=f"install docker-credential-{name[:64]}, or take it out of the file",
            )
        self._program = program

    @property
    def name(self) -> str:
        """As it is called in messages: the program's own name."""
        return self._program.name

    async def get(self, server: str) -> tuple[str, str] | None:
        """The user name and the secret for a server, if it has them.

        Raises:
            FailedPrecondition: it failed, or answered something else.
        """
        done = await self._call("get", server.encode())
        if done.returncode != 0:
            if _NOT_FOUND in done.stdout or _NOT_FOUND in done.stderr:
                return None
            raise self._failed("get", done, server)
        answer = self._object(done.stdout)
        username, secret = answer.get("Username"), answer.get("Secret")
        if not isinstance(username, str) or not isinstance(secret, str):
            raise self._nonsense()
        return username, secret

    async def store(self, server: str, username: str, secret: str) -> None:
        """Keep a secret, in the place of what it has for the server.

        Raises:
            FailedPrecondition: it failed.
        """
        document = {"ServerURL": server, "Username": username, "Secret": secret}
        done = await self._call("store", json.dumps(document).encode())
        if done.returncode != 0:
            raise self._failed("store", done, server)

    async def erase(self, server: str) -> None:
        """Forget what it has for a server.

        Raises:
            FailedPrecondition: it failed.
        """
        done = await self._call("erase", server.encode())
        if done.returncode != 0 and _NOT_FOUND not in done.stdout + done.stderr:
            raise self._failed("erase", done, server)

    async def list(self) -> dict[str, str]:
        """The user names that it has, by server.

        Raises:
            FailedPrecondition: it failed, or answered something else.
        """
        done = await self._call("list", b"")
        if done.returncode != 0:
            raise self._failed("list", done, "")
        return {server: name for server, name in self._object(done.stdout).items() if isinstance(name, str)}

    async def _call(self, verb: str, message: bytes) -> Completed:
        done = None
        try:
            with trio.move_on_after(_SECONDS):
                done = await run([str(self._program), verb], input=message)
        except OSError as error:
            raise FailedPrecondition(f"the credential helper {self.name} cannot be started: {error.strerror}") from None
        if done is None:
            raise FailedPrecondition(f"the credential helper {self.name} did not answer in {_SECONDS:g} s")
        return done

    def _object(self, output: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(output)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise self._nonsense()
        return answer

    def _nonsense(self) -> FailedPrecondition:
        return FailedPrecondition(f"the credential helper {self.name} gave an answer that is none")

    def _failed(self, verb: str, done: Completed, server: str) -> FailedPrecondition:
        # What it printed is not quoted: it could be a secret.
        by_hand = f"echo {server} | {self.name} {verb}" if server and verb != "store" else f"{self.name} list"
        return FailedPrecondition(
            f"the credential helper {self.name} {done.how} when asked to {verb}",
            hint=f"try it by hand, as the daemon's user: {by_hand}",
        )
