"""``ross login``, ``logout`` and ``registry ls``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ross.cli import output
from ross.cli.errors import show
from ross.cli.output import Format
from ross.cli.session import with_engine

if TYPE_CHECKING:
    from ross.client import Engine
    from ross.client.registries import LoggedIn

_MAX_PASSWORD_BYTES = 1 << 16


def login(
    registry: str = "",
    *,
    username: Annotated[str, Parameter(name=["--username", "-u"])] = "",
    password: Annotated[str, Parameter(name=["--password", "-p"])] = "",
    password_stdin: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Log in to a registry: prove a user name and password, and keep them for pulls and pushes.

    They are kept in the config.json of Docker, of the daemon's user, or by the credential helper that it names. What is not given is asked
    for, if there is a terminal.

    Parameters
    ----------
    registry
        Its host, as in the names of images; docker.io if not given.
    username
        The user name.
    password
        The password, or an access token. Other users of this machine can see it here: give it by --password-stdin.
    password_stdin
        Take the password from standard input.
    """
    from ross.errors import InvalidArgument

    if password and password_stdin:
        raise InvalidArgument("--password and --password-stdin exclude each other")
    if password_stdin and not username:
        raise InvalidArgument("--password-stdin needs a user name", hint="give it with --username")
    if password:
        _tell("WARNING! Others can see a password on the command line. Use --password-stdin.")
    if password_stdin:
        password = _read_password()
    elif not username and not password:
        done = _with_kept(registry)
        if done is not None:
            return _report(done)
    username = username or _ask(f"Username for {registry or 'docker.io'}: ")
    password = password or _ask_secretly("Password: ")

    async def body(engine: Engine) -> LoggedIn:
        return await engine.registries.login(registry, username=username, password=password)

    return _report(with_engine(body))


def logout(registry: str = "") -> int:
    """Log out of a registry: forget the user name and password.

    Parameters
    ----------
    registry
        Its host, as in the names of images; docker.io if not given.
    """

    async def body(engine: Engine) -> bool:
        return await engine.registries.logout(registry)

    name = registry or "docker.io"
    found = with_engine(body)
    output.write(f"Removed the login credentials for {name}\n" if found else f"Not logged in to {name}\n")
    return 0


def list_logins(*, format: Format = "table") -> None:  # noqa: A002 -- the flag's name
    """Show to which registries there are logins; never what they are.

    Parameters
    ----------
    format
        table, json or jsonl.
    """

    async def body(engine: Engine) -> None:
        logins = await engine.registries.list()
        if format != "table":
            output.write(output.records(logins, format))
            return
        rows = [(one.registry, one.username or "<token>", one.store) for one in logins]
        output.write(output.table(("REGISTRY", "USERNAME", "STORE"), rows))

    with_engine(body)


def _with_kept(registry: str) -> LoggedIn | None:
    """Try the credentials that are kept. None: there are none, or they are not good any more."""
    from ross.errors import NotFound, Unauthenticated

    async def body(engine: Engine) -> LoggedIn:
        return await engine.registries.login(registry)

    try:
        return with_engine(body)
    except NotFound:
        return None
    except Unauthenticated as error:
        show(f"the credentials that are kept are not good any more: {error.message}")
        return None


def _report(done: LoggedIn) -> int:
    login = done.login
    if not done.proved:
        _tell(f"WARNING! {login.registry} asks for no credentials: whether these are right is not known.")
    if not login.encrypted:
        _tell(
            f"WARNING! The credentials are kept unencrypted in {login.store}; a credential helper would encrypt them."
        )
    output.write("Login Succeeded\n")
    return 0


def _read_password() -> str:
    from ross.errors import InvalidArgument

    data = sys.stdin.buffer.read(_MAX_PASSWORD_BYTES + 1)
    try:
        password = data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise InvalidArgument("the password on standard input is not text") from None
    if not password or len(data) > _MAX_PASSWORD_BYTES:
        raise InvalidArgument("there is no password on standard input, or one that is far too long")
    return password


def _ask(prompt: str) -> str:
    _require_terminal()
    sys.stderr.write(prompt)
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def _ask_secretly(prompt: str) -> str:
    from getpass import getpass

    _require_terminal()
    return getpass(prompt, stream=sys.stderr)


def _require_terminal() -> None:
    from ross.errors import InvalidArgument

    if not sys.stdin.isatty():
        raise InvalidArgument(
            "user name or password is missing, and there is no terminal to ask for it",
            hint="ross login --username USER --password-stdin REGISTRY < FILE",
        )


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
