"""A registry over real sockets that counts what it sends, and does whatever registries, proxies and networks do wrong.

It serves images (:meth:`FaultyRegistry.serve`) in threads of its own, on 127.0.0.1, and on 127.0.0.2 as the storage to which registries
redirect. What goes wrong is for a plan to say, which is asked about each request; ``tests.support.faults`` has one of random faults.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, Literal

from attrs import define, frozen

from tests.support.images import MANIFEST, BuiltImage

USER: Final = ("ross", "secret-word")
_TLS_HANDSHAKE = 0x16
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)\Z")
_PIECE: Final = 32 << 10

ANOTHER_SIZE: Final = "window of another size"
Fate = Literal["kept", "lost", "spoiled", "refused"]
"""Of bytes that were sent: the client has them for good; it may have lost some on the way; it cannot but throw them away, with all that
it has of the blob; or there was something else than what it had asked for, so that it must ask for the whole."""


@frozen
class Request:
    """What a client sent."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    redirected: bool
    """It came to the storage, not to the registry."""

    @property
    def blob(self) -> str | None:
        return self.path.rpartition("/")[2] if "/blobs/" in self.path else None

    @property
    def manifest(self) -> bool:
        return "/manifests/" in self.path


@define
class Reply:
    """What an honest registry answers."""

    status: int
    headers: dict[str, str]
    body: bytes
    start: int = 0
    """Where in the blob the body begins."""


@define
class Served:
    """One answer about a blob."""

    blob: str
    asked: tuple[int, int]
    """From and up to where the client wanted it."""
    start: int
    sent: int
    fate: Fate
    fault: str
    window: bool
    """The client said up to where it wanted it."""
    interrupted: bool = False
    """The client stopped while, or just after, it was sent."""
    cut: int = 1 << 60
    """From here on the client has asked for it beside this answer, and does not take it from this one."""

    @property
    def had(self) -> tuple[int, int] | None:
        """What the client has of it for good."""
        if self.fate != "kept" or not self.sent or self.interrupted or (self.window and self.start != self.asked[0]):
            return None
        return self.start, min(self.cut, self.start + self.sent)


class Exchange:
    """One request and its answer, which a fault may spoil."""

    def __init__(self, registry: FaultyRegistry, connection: socket.socket, request: Request, reply: Reply) -> None:
        self.registry = registry
        self.connection = connection
        self.request = request
        self.reply = reply
        self.sent = 0
        self.fate: Fate = "kept"

    def head(self, *, length: int | None = -1, status: int | None = None, **more: str) -> None:
        """Send the status line and headers; ``length`` None leaves it out, -1 is the right one."""
        headers = dict(self.reply.headers)
        if length is not None:
            headers["Content-Length"] = str(len(self.reply.body) if length < 0 else length)
        headers |= {key.replace("_", "-"): value for key, value in more.items()}
        lines = [f"HTTP/1.1 {status or self.reply.status} X", *(f"{key}: {value}" for key, value in headers.items())]
        self.raw("\r\n".join([*lines, "", ""]).encode())

    def body(self, count: int | None = None) -> None:
        """Send so much of the right body."""
        data = memoryview(self.reply.body)[self.sent : count]
        while data:
            piece, data = data[:_PIECE], data[_PIECE:]
            self.raw(piece)
            self.sent += len(piece)
            if self.registry.bytes_per_second and data:
                time.sleep(len(piece) / self.registry.bytes_per_second)

    def raw(self, data: bytes | memoryview) -> None:
        self.connection.sendall(data)

    def wait_for_the_client(self, seconds: float) -> None:
        """Until it closes the connection, or so long."""
        self.connection.settimeout(seconds)
        with suppress(OSError):
            while self.connection.recv(4096):
                pass

    def reset(self) -> None:
        """End the connection the hard way."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


Fault = Callable[[Exchange], None]
"""Answers in its own way; the connection is closed behind it."""


@define
class Auth:
    """How the registry wants to be spoken to."""

    scheme: Literal["", "bearer", "basic"] = ""
    realm: str = "http://{host}/token"
    """Of bearer tokens; ``{host}`` is the registry itself."""
    uses: int = 1 << 30
    """How many requests one token is good for."""
    token: Callable[[], tuple[int, bytes]] | None = None
    """What the token service answers instead of a token."""


class FaultyRegistry:
    """See the module. Made by :func:`faulty_registry`."""

    def __init__(self) -> None:
        self.plan: Callable[[Request], tuple[str, Fault] | None] = lambda _request: None
        self.auth = Auth()
        self.bytes_per_second = 0
        """Of each answer; 0 is as fast as it goes."""
        self.served: list[Served] = []
        self.requests: list[Request] = []
        self.leaked: list[str] = []
        """Credentials that came to the storage."""
        self._contents: dict[str, bytes] = {}
        self._manifests: dict[tuple[str, str], bytes] = {}
        self._tokens: dict[str, int] = {}
        self._lock = threading.Lock()
        self._listeners = [socket.create_server((host, 0)) for host in ("127.0.0.1", "127.0.0.2")]
        self.host, self.storage = ("{}:{}".format(*one.getsockname()) for one in self._listeners)
        self._connections: set[socket.socket] = set()
        self._latest: dict[socket.socket, Served | None] = {}
        """What was answered last about a blob, by connection."""

    # -- contents -----------------------------------------------------------------------------------------------------

    def serve(self, repository: str, tag: str, image: BuiltImage) -> str:
        """Have an image; returns its whole reference."""
        self._contents |= image.blobs
        for name in (tag, image.digest):
            self._manifests[repository, name] = image.manifest
        return f"{self.host}/{repository}:{tag}"

    def content(self, blob: str) -> bytes:
        """A blob, whole."""
        return self._contents[blob]

    def blobs(self) -> dict[str, bytes]:
        """All blobs, by digest."""
        return dict(self._contents)

    def forget_requests(self) -> None:
        for log in (self.served, self.requests, self.leaked):
            log.clear()

    def interrupted(self) -> None:
        """The client has stopped in the middle: of each blob, what was sent last may not have got anywhere, and windows are lost if what
        comes before them had not come."""
        streams = {one.blob: one for one in self.served if not one.window}
        for one in (*streams.values(), *(one for one in self.served if one.window)):
            one.interrupted = True

    def again(self) -> list[str]:
        """What was downloaded again although the client had it for good, in words."""
        return [line for blob in {one.blob for one in self.served} for line in self._again(blob)]

    def _again(self, blob: str) -> Iterator[str]:
        had: list[tuple[int, int]] = []
        excused, oddly = False, -1
        windows: list[int] = []
        for one in [one for one in self.served if one.blob == blob]:
            wanted = one.asked[1]
            if one.asked[0] == oddly and not one.window:
                # An end was no use, so it is asked for without, and taken up to where there is a window.
                wanted = min((begin for begin in windows if begin > oddly), default=wanted)
            if one.window:
                windows.append(one.asked[0])
                oddly = one.asked[0] if one.fault == ANOTHER_SIZE else oddly
            overlap = sum(max(0, min(wanted, to) - max(one.asked[0], begin)) for begin, to in had)
            if overlap and not excused:
                yield (
                    f"{overlap} bytes of {blob[:19]} asked for again, bytes {one.asked[0]} to {one.asked[1]} with {had} there; "
                    f"answered {one.fault or 'well'}"
                )
            if overlap or one.fate == "refused" or one.start != one.asked[0]:
                had.clear()
                # A window takes nothing of such an answer, and leaves the client with the wrong bytes that it has from before.
                excused = excused and one.window and not overlap
            if one.had is not None:
                had.append((one.had[0], min(one.had[1], wanted)))
            excused = excused or one.fate in {"spoiled", "refused"}

    # -- serving ------------------------------------------------------------------------------------------------------

    def run(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _peer = listener.accept()
            except OSError:
                return
            with self._lock:
                self._connections.add(connection)
            threading.Thread(target=self._converse, args=(connection, listener), daemon=True).start()

    def close(self) -> None:
        for listener in self._listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _converse(self, connection: socket.socket, listener: socket.socket) -> None:
        redirected = listener is self._listeners[1]
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with suppress(ValueError):
                while (request := _read(connection, redirected)) is not None and self._answer(connection, request):
                    pass
        except OSError:
            # The client has closed it without reading on. What it had of a window is for it to know.
            last = self._latest.get(connection)
            if last is not None and last.window and last.fate == "kept":
                last.fate = "lost"
        finally:
            with self._lock:
                self._connections.discard(connection)
                self._latest.pop(connection, None)
            connection.close()

    def _answer(self, connection: socket.socket, request: Request) -> bool:
        """Whether the connection stays open."""
        self.requests.append(request)
        if redirected_secret := request.redirected and request.headers.get("authorization"):
            self.leaked.append(redirected_secret)
        reply = self._unauthorized(request) or self._reply(request)
        chosen = self.plan(request) if reply.status < 300 and "/v2/" in request.path else None
        exchange = Exchange(self, connection, request, reply)
        served = self._note(request, chosen[0] if chosen else "") if reply.status < 300 else None
        self._latest[connection] = served
        try:
            if chosen is not None:
                chosen[1](exchange)
                return False
            exchange.head()
            if request.method != "HEAD":
                exchange.body()
            return True
        finally:
            if served is not None:
                served.start, served.sent, served.fate = reply.start, exchange.sent, exchange.fate

    def _note(self, request: Request, fault: str) -> Served | None:
        """The line in the log for an answer about a blob: in the order in which they were asked for."""
        blob = request.blob
        if blob is None or request.method != "GET":
            return None
        asked = _asked(request, len(self._contents.get(blob, b"")))
        window = not request.headers.get("range", "-").endswith("-")
        made = Served(blob, asked, asked[0], 0, "kept", fault, window)
        with self._lock:
            streams = [one for one in self.served if one.blob == blob and not one.window]
            if window and streams:
                streams[-1].cut = min(streams[-1].cut, asked[0])
            self.served.append(made)
        return made

    def _reply(self, request: Request) -> Reply:
        if request.path == "/token":
            return self._token()
        match = re.fullmatch(r"/v2/(.+)/(blobs|manifests)/([^/]+)", request.path)
        if match is None:
            return Reply(200 if request.path == "/v2/" else 404, {}, b"")
        repository, kind, name = match.groups()
        if kind == "manifests":
            data = self._manifests.get((repository, name))
            if data is None:
                return Reply(404, {}, b"")
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            return Reply(200, {"Content-Type": MANIFEST, "Docker-Content-Digest": digest}, data)
        data = self._contents.get(name)
        if data is None:
            return Reply(404, {}, b"")
        if "range" not in request.headers:
            return Reply(200, {"Content-Type": "application/octet-stream"}, data)
        start, end = _asked(request, len(data))
        if start >= len(data):
            return Reply(416, {"Content-Range": f"bytes */{len(data)}"}, b"")
        return Reply(206, {"Content-Range": f"bytes {start}-{end - 1}/{len(data)}"}, data[start:end], start)

    # -- who asks -----------------------------------------------------------------------------------------------------

    def _unauthorized(self, request: Request) -> Reply | None:
        if not self.auth.scheme or request.redirected or request.path == "/token":
            return None
        given = request.headers.get("authorization", "")
        if self.auth.scheme == "basic":
            if given == "Basic " + base64.b64encode(":".join(USER).encode()).decode():
                return None
            return Reply(401, {"WWW-Authenticate": 'Basic realm="test"'}, b"")
        with self._lock:
            left = self._tokens.get(given.removeprefix("Bearer "), 0)
            if left > 0:
                self._tokens[given.removeprefix("Bearer ")] = left - 1
                return None
        realm = self.auth.realm.format(host=self.host)
        return Reply(401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="test"'}, b"")

    def _token(self) -> Reply:
        if self.auth.token is not None:
            status, body = self.auth.token()
            return Reply(status, {}, body)
        token = f"t{random.getrandbits(64):x}"
        with self._lock:
            self._tokens[token] = self.auth.uses
        return Reply(200, {}, json.dumps({"token": token, "expires_in": 300}).encode())


@contextmanager
def faulty_registry() -> Iterator[FaultyRegistry]:
    """A registry that serves for the length of the block."""
    registry = FaultyRegistry()
    threads = [threading.Thread(target=registry.run, args=(one,), daemon=True) for one in registry._listeners]
    for thread in threads:
        thread.start()
    try:
        yield registry
    finally:
        registry.close()
        for thread in threads:
            thread.join(5)


def _asked(request: Request, size: int) -> tuple[int, int]:
    match = _RANGE.match(request.headers.get("range", ""))
    if match is None:
        return 0, size
    return int(match[1]), min(int(match[2]) + 1, size) if match[2] else size


def _read(connection: socket.socket, redirected: bool) -> Request | None:
    data = bytearray()
    while b"\r\n\r\n" not in data:
        more = connection.recv(8192)
        if not more or more[0] == _TLS_HANDSHAKE:  # who tries TLS first is to know at once that there is none
            return None
        data += more
    head, _blank, rest = bytes(data).partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _version = first.split(" ")
    headers = {name.lower(): value.strip() for name, _colon, value in (line.partition(":") for line in lines)}
    while len(rest) < int(headers.get("content-length", "0")):
        rest += connection.recv(8192)
    path, _mark, query = target.partition("?")
    return Request(method, path, query, headers, redirected)
