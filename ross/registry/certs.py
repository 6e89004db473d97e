"""Where the administrator says who serves a registry, and how to connect: ``certs.d/<host>/hosts.toml`` as containerd has it.

A directory without that file may hold plain certificates as Docker has them: ``*.crt`` to trust, ``*.cert`` and ``*.key`` to show. Read
anew each time, so that an edit needs no restart. What is wrong in a file is told, with the file and the key; nothing falls back to asking
a registry in another way than was meant.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
from attrs import evolve, frozen

from ross.errors import FailedPrecondition
from ross.registry.endpoint import DIRECT, EVERYTHING, Capability, Endpoint, Transport
from ross.registry.hosts import DOCKER_HUB, Origin, credential_name, denotes, registry_origin

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

_MAX_FILE_BYTES: Final = 1 << 20
_KEYS: Final = ("capabilities", "ca", "client", "skip_verify", "override_path", "header", "dial_timeout", "proxy")
_ROOT_KEYS: Final = ("server", *_KEYS, "host")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})
"""Headers that say how a message is framed, which is not for a file to say."""
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h))+\Z")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def read_endpoints(
    directories: Sequence[Path], host: str, *, insecure_hosts: Collection[str] = ()
) -> tuple[Endpoint, ...]:
    """Who serves a registry: its mirrors in their order, then the registry itself.

    Args:
        directories: Each a ``certs.d``; the first that has something for the host, or for ``_default``, counts.
        host: As in references, with its port.
        insecure_hosts: Registries to which the administrator lets Ross speak http.

    Raises:
        InvalidArgument: the host's port is none.
        FailedPrecondition: a file cannot be read, or says something that makes no sense.
    """
    itself = Endpoint(origin=registry_origin(host, insecure_hosts=insecure_hosts), name=host)
    for directory in directories:
        for name in dict.fromkeys((_with_port_marked(host), host, "_default")):
            if (directory / name).is_dir():
                return _read_directory(directory / name, host, itself)
    return (itself,)


def _with_port_marked(host: str) -> str:
    """``host_port_``, for filesystems that have no colon in names."""
    name, colon, port = host.rpartition(":")
    return f"{name}_{port}_" if colon and not port.endswith("]") else host


def _read_directory(directory: Path, host: str, itself: Endpoint) -> tuple[Endpoint, ...]:
    file = directory / "hosts.toml"
    try:
        with file.open("rb") as opened:
            text = opened.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return (_secured(itself, _plain_certificates(directory)),)
    except OSError as error:
        raise FailedPrecondition(f"{file} cannot be read: {error.strerror}") from None
    if len(text) > _MAX_FILE_BYTES:
        raise FailedPrecondition(f"{file} is longer than {_MAX_FILE_BYTES} bytes, which is refused")
    try:
        values = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FailedPrecondition(f"{file} is not TOML: {error}") from None
    return tuple(_endpoints(_Table(file, "", values), host, itself))


def _plain_certificates(directory: Path) -> Transport:
    try:
        names = sorted(path.name for path in directory.iterdir())
    except OSError as error:
        raise FailedPrecondition(f"{directory} cannot be read: {error.strerror}") from None
    certificates = [name for name in names if name.endswith(".cert")]
    for key in (name for name in names if name.endswith(".key")):
        if f"{key.removesuffix('.key')}.cert" not in certificates:
            raise FailedPrecondition(
                f"{directory / key} is a key without a certificate, {key.removesuffix('.key')}.cert"
            )
    pairs = []
    for name in certificates:
        key = f"{name.removesuffix('.cert')}.key"
        pairs.append((directory / name, directory / (key if key in names else name)))
    if len(pairs) > 1:
        raise FailedPrecondition(
            f"{directory} has several client certificates: {', '.join(certificates)}", hint="Ross can show one"
        )
    ca = tuple(directory / name for name in names if name.endswith(".crt"))
    return Transport(ca=ca, client=pairs[0] if pairs else None)


def _secured(endpoint: Endpoint, transport: Transport) -> Endpoint:
    """The registry itself, connected to in a way of its own. Who sets certificates up for a registry means TLS, on this machine too."""
    if transport.ca or transport.client or transport.skip_verify:
        origin = endpoint.origin
        port = 443 if origin.scheme == "http" and origin.port == 80 else origin.port
        endpoint = evolve(endpoint, origin=Origin("https", origin.host, port))
    return evolve(endpoint, transport=transport)


@frozen
class _Table:
    """A table of the file, whose complaints name the file and the key."""

    file: Path
    where: str
    values: dict[str, Any]

    def wrong(self, key: str, what: str) -> FailedPrecondition:
        return FailedPrecondition(
            f"{self.file}: {self.where}{key} {what}", hint="the format is that of containerd's hosts.toml"
        )

    def get(self, key: str, kind: type, words: str) -> Any:
        value = self.values.get(key)
        if value is not None and not isinstance(value, kind):
            raise self.wrong(key, f"must be {words}, not {_told(value)}")
        return value

    def check_keys(self, known: Collection[str]) -> None:
        for key in self.values:
            if key not in known:
                raise self.wrong(key, f"is not known; there are {', '.join(known)}")


def _endpoints(root: _Table, host: str, itself: Endpoint) -> Iterator[Endpoint]:
    root.check_keys(_ROOT_KEYS)
    hosts = root.get("host", dict, "a table of tables")
    for url, values in (hosts or {}).items():
        table = _Table(root.file, f'host."{url}".', values if isinstance(values, dict) else {})
        if not isinstance(values, dict):
            raise root.wrong(f'host."{url}"', f"must be a table, not {_told(values)}")
        table.check_keys(_KEYS)
        yield _endpoint(table, f'host."{url}"', url, host)
    server = root.get("server", str, "a URL")
    if server:
        yield _endpoint(root, "server", server, host)
    else:
        bare = evolve(itself, capabilities=_capabilities(root), headers=_headers(root))
        yield _secured(bare, _transport(root))


def _endpoint(table: _Table, key: str, text: str, host: str) -> Endpoint:
    origin, path = _location(table, key, text)
    if not table.get("override_path", bool, "true or false") and not path.endswith("/v2"):
        path += "/v2"
    same = denotes(host, origin)
    return Endpoint(
        origin=origin,
        name=host if same else credential_name(origin),
        path=path,
        capabilities=_capabilities(table),
        namespace="" if same else host,
        headers=_headers(table),
        transport=_transport(table),
    )


def _location(table: _Table, key: str, text: str) -> tuple[Origin, str]:
    try:
        url = httpx.URL(text if "://" in text else f"https://{text}")
    except httpx.InvalidURL:
        url = httpx.URL()
    # The table's own name is told as it is written, unless it holds what may be a password.
    named = _Table(table.file, "", {})
    if url.userinfo:
        raise named.wrong("server" if key == "server" else "host", "must not carry a user name; use: ross login")
    if url.scheme not in {"http", "https"} or not url.host or url.query or url.fragment:
        raise named.wrong(key, "must be the URL of a registry: [http[s]://]host[:port][/path]")
    port = url.port or (80 if url.scheme == "http" else 443)
    # References call it docker.io, and so do files; it is served by another host.
    name = DOCKER_HUB if (url.scheme, url.host, port) == ("https", "docker.io", 443) else url.host
    return Origin(url.scheme, name, port), url.path.rstrip("/")


def _capabilities(table: _Table) -> frozenset[Capability]:
    words = table.get("capabilities", list, "a list of pull, resolve and push")
    if not words:
        return EVERYTHING
    for word in words:
        if not isinstance(word, str) or word.lower() not in {str(one) for one in Capability}:
            raise table.wrong("capabilities", f"must be of pull, resolve and push, not {_told(word)}")
    return frozenset(Capability(word.lower()) for word in words)


def _transport(table: _Table) -> Transport:
    return evolve(
        DIRECT,
        ca=tuple(table.file.parent / path for path in _texts(table, "ca", "a path or a list of paths")),
        client=_client(table),
        skip_verify=bool(table.get("skip_verify", bool, "true or false")),
        dial_seconds=_duration(table),
        proxy=_proxy(table),
    )


def _client(table: _Table) -> tuple[Path, Path] | None:
    words = "a path, a list of paths, or a list of pairs of certificate and key"
    value = table.values.get("client")
    pairs = value if isinstance(value, list) else [] if value is None else [value]
    if len(pairs) > 1:
        raise table.wrong("client", f"has {len(pairs)} certificates; Ross can show one")
    for pair in pairs:
        parts = pair if isinstance(pair, list) else [pair, ""]
        if len(parts) != 2 or not all(isinstance(part, str) for part in parts) or not parts[0]:
            raise table.wrong("client", f"must be {words}")
        certificate = table.file.parent / parts[0]
        return certificate, table.file.parent / parts[1] if parts[1] else certificate
    return None


def _headers(table: _Table) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for name, value in (table.get("header", dict, "a table") or {}).items():
        if not _HEADER_NAME.match(name) or name.lower() in _OURS:
            raise table.wrong(f"header.{name}", "is no header that can be set")
        for one in value if isinstance(value, list) else [value]:
            # Its value may be secret: it is not quoted.
            if not isinstance(one, str) or not one.isascii() or not one.isprintable():
                raise table.wrong(f"header.{name}", "must be printable ASCII text, or a list of such")
            found.append((name, one))
    return tuple(found)


def _duration(table: _Table) -> float | None:
    text = table.get("dial_timeout", str, 'a duration such as "1s"')
    if not text:
        return None
    seconds = sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text))
    if not _DURATION.match(text) or not seconds:
        raise table.wrong("dial_timeout", f'must be a duration such as "1s" or "500ms", not {_told(text)}')
    return seconds


def _proxy(table: _Table) -> str | None:
    text: str | None = table.get("proxy", str, "a URL")
    if not text:
        return None
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in {"http", "https"} or not url.host or url.path not in {"", "/"} or url.query or url.fragment:
        raise table.wrong("proxy", "must be the URL of a proxy: http[s]://host[:port]")
    return text


def _texts(table: _Table, key: str, words: str) -> tuple[str, ...]:
    value = table.values.get(key)
    texts = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(text, str) and text for text in texts):
        raise table.wrong(key, f"must be {words}")
    return tuple(texts)


def _told(value: object) -> str:
    return repr(value)[:60]
