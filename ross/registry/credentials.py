"""Credentials as Docker keeps them: ``config.json`` with ``auths``, ``credHelpers`` and ``credsStore``.

Read anew for each use, so that a login takes effect at once, whoever logs in. Secrets are never logged, and never part of a message.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from pathlib import Path
from typing import Any, Final, Protocol

import trio
from attrs import field, frozen

from ross.errors import FailedPrecondition
from ross.linux.files import make_directory, write_atomic
from ross.oci.reference import DEFAULT_HOST
from ross.registry.helpers import Helper

_DOCKER_HUB_KEY: Final = "https://index.docker.io/v1/"
_MAX_FILE_BYTES: Final = 1 << 20
_TOKEN_USER: Final = "<token>"  # noqa: S105 -- what a helper says instead of a user name when the secret is an identity token


@frozen(kw_only=True)
class Credentials:
    """What proves to a registry who we are."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    """An OAuth2 refresh token, in the place of a password."""

    @property
    def basic(self) -> str | None:
        """The ``Authorization`` header that says it outright (RFC 7617); None where there is no password to say."""
        if not self.username or self.identity_token:
            return None
        return f"Basic {base64.b64encode(f'{self.username}:{self.password}'.encode()).decode()}"


@frozen(kw_only=True)
class Saved:
    """That there are credentials for a registry; not what they are."""

    host: str
    username: str
    store: str
    """The file, or the helper's program."""
    encrypted: bool
    """A helper keeps them; a file has them as they are."""
    token: bool
    """It is an identity token, not a password."""


class CredentialSource(Protocol):
    """Where an authenticator gets credentials, and leaves those that a registry has given in exchange."""

    async def find(self, host: str) -> Credentials | None:
        """Those for a registry, named as in references."""

    async def save(self, host: str, credentials: Credentials) -> Saved:
        """Keep them, in the place of those that are there."""


class CredentialStore:
    """The credentials of the daemon's user."""

    def __init__(self, path: Path | None = None) -> None:
        """Use ``path``; if absent ``$DOCKER_CONFIG/config.json``, else ``~/.docker/config.json``."""
        directory = os.environ.get("DOCKER_CONFIG")
        self._path = path or (Path(directory) if directory else Path.home() / ".docker") / "config.json"
        self._changing = trio.Lock()

    async def find(self, host: str) -> Credentials | None:
        """Those for a registry, named as in references.

        Raises:
            FailedPrecondition: the file cannot be read, or a credential helper failed.
        """
        document = self._read()
        helper = self._helper(document, host)
        if helper is not None:
            found = await helper.get(_key(host))
            if found is not None:
                username, secret = found
                if username == _TOKEN_USER:
                    return Credentials(identity_token=secret)
                return Credentials(username=username, password=secret)
        auths = self._auths(document)
        for name in _names(host):
            entry = auths.get(name)
            if isinstance(entry, dict) and entry:
                return self._entry(entry, name)
        return None

    async def save(self, host: str, credentials: Credentials) -> Saved:
        """Keep credentials, in the place of those that are there; whatever else the file holds stays.

        Raises:
            FailedPrecondition: the file cannot be read or written, or a credential helper failed.
        """
        async with self._changing:
            document = self._read()
            auths = {name: entry for name, entry in self._auths(document).items() if name not in _names(host)}
            helper = self._helper(document, host)
            if helper is None:
                auths[_key(host)] = _written(credentials)
            else:
                token = credentials.identity_token
                await helper.store(
                    _key(host), _TOKEN_USER if token else credentials.username, token or credentials.password
                )
                auths[_key(host)] = {}  # says that there is something, as Docker does
            await self._write(document | {"auths": auths})
        return Saved(
            host=host,
            username=credentials.username,
            store=str(self._path) if helper is None else helper.name,
            encrypted=helper is not None,
            token=bool(credentials.identity_token),
        )

    async def erase(self, host: str) -> bool:
        """Forget the credentials for a registry. False: there were none.

        Raises:
            FailedPrecondition: the file cannot be read or written, or a credential helper failed.
        """
        async with self._changing:
            document = self._read()
            found = False
            helper = self._helper(document, host)
            if helper is not None and await helper.get(_key(host)) is not None:
                await helper.erase(_key(host))
                found = True
            auths = self._auths(document)
            kept = {name: entry for name, entry in auths.items() if name not in _names(host)}
            if len(kept) < len(auths):
                await self._write(document | {"auths": kept})
                found = found or any(auths[name] for name in auths.keys() - kept.keys())
        return found

    async def list(self) -> tuple[Saved, ...]:
        """For which registries there are credentials, by name.

        Raises:
            FailedPrecondition: the file cannot be read, or a credential helper failed.
        """
        document = self._read()
        found: dict[str, Saved] = {}
        for name, entry in self._auths(document).items():
            known = self._entry(entry, name) if isinstance(entry, dict) and entry else None
            if known is not None:
                host, token = _host(name), bool(known.identity_token)
                found.setdefault(host, self._saved(host, known.username, None, token=token))
        default = document.get("credsStore")
        if isinstance(default, str) and default:
            helper = Helper(default, named_in=self._path)
            for server, username in (await helper.list()).items():
                found[_host(server)] = self._saved(_host(server), username, helper, token=username == _TOKEN_USER)
        for server, name in _mapping(document, "credHelpers").items():
            helper = Helper(str(name), named_in=self._path)
            answer = await helper.get(_key(_host(server)))
            if answer is not None:
                token = answer[0] == _TOKEN_USER
                found[_host(server)] = self._saved(_host(server), answer[0], helper, token=token)
        return tuple(found[host] for host in sorted(found))

    def _saved(self, host: str, username: str, helper: Helper | None, *, token: bool) -> Saved:
        return Saved(
            host=host,
            username="" if username == _TOKEN_USER else username,
            store=str(self._path) if helper is None else helper.name,
            encrypted=helper is not None,
            token=token,
        )

    # -- the file -----------------------------------------------------------------------------------------------------

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

    async def _write(self, document: dict[str, Any]) -> None:
        data = (json.dumps(document, indent="\t", ensure_ascii=False) + "\n").encode()
        try:
            await trio.to_thread.run_sync(_replace, self._path, data)
        except OSError as error:
            raise FailedPrecondition(
                f"the credentials cannot be written to {self._path}: {error.strerror}",
                hint="the daemon's user must be allowed to; DOCKER_CONFIG in its environment names another directory",
            ) from None

    def _auths(self, document: dict[str, Any]) -> dict[str, Any]:
        return _mapping(document, "auths")

    def _helper(self, document: dict[str, Any], host: str) -> Helper | None:
        helpers = _mapping(document, "credHelpers")
        name = helpers.get(host) or helpers.get(_key(host)) or document.get("credsStore")
        return Helper(name, named_in=self._path) if isinstance(name, str) and name else None

    def _entry(self, entry: dict[str, Any], name: str) -> Credentials | None:
        username, password = "", ""
        encoded, user, secret = entry.get("auth"), entry.get("username"), entry.get("password")
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
        elif isinstance(user, str) and isinstance(secret, str):
            username, password = user, secret
        token = entry.get("identitytoken")
        if isinstance(token, str) and token:
            return Credentials(username=username, identity_token=token)
        return Credentials(username=username, password=password) if username else None


def _replace(path: Path, data: bytes) -> None:
    """Write the file where it really is, for whoever it belongs to, so that nobody else can read it."""
    path = path.resolve()
    make_directory(path.parent, mode=0o700)
    try:
        owner = path.stat()
    except FileNotFoundError:
        owner = None
    write_atomic(path, data, mode=0o600)
    if owner is not None and (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
        os.chown(path, owner.st_uid, owner.st_gid)


def _written(credentials: Credentials) -> dict[str, str]:
    pair = f"{credentials.username}:{credentials.password}"
    entry = {"auth": base64.b64encode(pair.encode()).decode()}
    return entry | ({"identitytoken": credentials.identity_token} if credentials.identity_token else {})


def _key(host: str) -> str:
    """Under which Docker keeps a registry."""
    return _DOCKER_HUB_KEY if host == DEFAULT_HOST else host


def _names(host: str) -> tuple[str, ...]:
    """Under which a registry may stand: Docker writes the bare host; old versions and other tools wrote URLs."""
    urls = (f"{scheme}://{host}{path}" for scheme in ("https", "http") for path in ("", "/", "/v2/", "/v1/"))
    return (_key(host), host, *urls)


def _host(name: str) -> str:
    """The registry that stands under a name, as references call it."""
    host = name.partition("://")[2] or name
    host = host.partition("/")[0]
    return DEFAULT_HOST if host in {"index.docker.io", "registry-1.docker.io"} else host


def _mapping(document: dict[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name)
    return value if isinstance(value, dict) else {}
