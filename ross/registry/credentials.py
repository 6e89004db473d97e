"""Credentials as Docker keeps them: ``config.json`` with ``auths``, ``credHelpers`` and ``credsStore``.

Read anew for each use, so that a login takes effect at once. Secrets are never logged, and never part of a message.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import re
from pathlib import Path
from typing import Any, Final

import trio
from attrs import field, frozen

from ross.errors import FailedPrecondition
from ross.linux.process import run, which
from ross.oci.reference import DEFAULT_HOST

logger = logging.getLogger(__name__)

_DOCKER_HUB_KEY: Final = "https://index.docker.io/v1/"
_MAX_FILE_BYTES: Final = 1 << 20
_HELPER_SECONDS: Final = 30.0
_HELPER: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_NOT_FOUND: Final = b"credentials not found"
_TOKEN_USER: Final = "<token>"  # noqa: S105 -- what a helper says instead of a user name when the secret is an identity token


@frozen(kw_only=True)
class Credentials:
    """What proves to a registry who we are."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    """An OAuth2 refresh token, in the place of a password."""


class CredentialStore:
    """The credentials of the daemon's user."""

    def __init__(self, path: Path | None = None) -> None:
        """Read ``path``; if absent ``$DOCKER_CONFIG/config.json``, else ``~/.docker/config.json``."""
        directory = os.environ.get("DOCKER_CONFIG")
        self._path = path or (Path(directory) if directory else Path.home() / ".docker") / "config.json"

    async def find(self, host: str) -> Credentials | None:
        """Those for a registry, named as in references.

        Raises:
            FailedPrecondition: the file cannot be read, or a credential helper failed.
        """
        document = self._read()
        key = _DOCKER_HUB_KEY if host == DEFAULT_HOST else host
        helper = _mapping(document, "credHelpers").get(host) or document.get("credsStore")
        if isinstance(helper, str) and helper:
            found = await self._ask(helper, key)
            if found is not None:
                return found
        return self._listed(_mapping(document, "auths"), host, key)

    def _read(self) -> dict[str, Any]:
        try:
            with self._path.open("rb") as file:
                document = json.loads(file.read(_MAX_FILE_BYTES))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise FailedPrecondition(f"the credentials in {self._path} cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError):
            # Not the parser's own words: they could quote what stands there.
            raise FailedPrecondition(
                f"the credentials in {self._path} are not JSON", hint="mend the file, or move it away and log in again"
            ) from None
        if not isinstance(document, dict):
            raise FailedPrecondition(f"the credentials in {self._path} are not a JSON object")
        return document

    def _listed(self, auths: dict[str, Any], host: str, key: str) -> Credentials | None:
        # Docker writes the bare host; old versions and other tools wrote URLs.
        urls = (f"{scheme}://{host}{path}" for scheme in ("https", "http") for path in ("", "/", "/v2/", "/v1/"))
        for name in (key, host, *urls):
            entry = auths.get(name)
            if isinstance(entry, dict) and entry:
                return self._entry(entry, name)
        return None

    def _entry(self, entry: dict[str, Any], name: str) -> Credentials | None:
        token = entry.get("identitytoken")
        if isinstance(token, str) and token:
            return Credentials(identity_token=token)
        encoded = entry.get("auth")
        if isinstance(encoded, str) and encoded:
            try:
                username, colon, password = (
                    base64.b64decode(encoded, validate=True).decode().rstrip("\0").partition(":")
                )
            except (binascii.Error, UnicodeDecodeError):
                colon = ""
            if not colon:
                raise FailedPrecondition(
                    f"the entry {name!r} in {self._path} is malformed", hint="log in to the registry again"
                )
            return Credentials(username=username, password=password)
        user, secret = entry.get("username"), entry.get("password")
        if isinstance(user, str) and isinstance(secret, str) and user:
            return Credentials(username=user, password=secret)
        return None

    async def _ask(self, helper: str, key: str) -> Credentials | None:
        program = which(f"docker-credential-{helper}") if _HELPER.match(helper) else None
        if program is None:
            raise FailedPrecondition(
                f"the credential helper {helper!r} named in {self._path} is not installed",
                hint=f"install docker-credential-{helper}, or take it out of the file",
            )
        done = None
        try:
            with trio.move_on_after(_HELPER_SECONDS):
                done = await run([str(program), "get"], input=key.encode())
        except OSError as error:
            raise FailedPrecondition(
                f"the credential helper {program.name} cannot be started: {error.strerror}"
            ) from None
        if done is None:
            raise FailedPrecondition(f"the credential helper {program.name} did not answer in {_HELPER_SECONDS:g} s")
        if done.returncode != 0:
            if _NOT_FOUND in done.stdout or _NOT_FOUND in done.stderr:
                return None
            raise FailedPrecondition(
                f"the credential helper {program.name} {done.how}",
                hint=f"try it by hand, as the daemon's user: echo {key} | {program.name} get",
            )
        try:
            answer = json.loads(done.stdout)
            username, secret = str(answer["Username"]), str(answer["Secret"])
        except (ValueError, KeyError, TypeError):
            raise FailedPrecondition(f"the credential helper {program.name} gave an answer that is none") from None
        if username == _TOKEN_USER:
            return Credentials(identity_token=secret)
        return Credentials(username=username, password=secret)


def _mapping(document: dict[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name)
    return value if isinstance(value, dict) else {}
