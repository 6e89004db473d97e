"""A process that applies layers, so that unpacking has processors and an interpreter lock of its own.

Started by :class:`~ross.linux.archive.workers.Workers`, and spoken to over a socket: lines of JSON both ways, one layer at a time. With the
request come two descriptors, the layer's blob, which may still be on its way, and the directory to apply it to. It ends with its socket.

    <- {"algorithm", "size_bytes", "limits"}  + blob, directory
    <- {"available"}                          as the blob comes in
    -> {"packed"}                             how much of it was read
    -> {"applied", "digest"}  or  {"code", "message", "hint", "trace"}
"""

from __future__ import annotations

import json
import os
import queue
import socket
import threading
import traceback
from typing import Any

from attrs import asdict

from ross.errors import ErrorCode, RossError
from ross.linux.archive.applied import Applied
from ross.linux.archive.apply import apply_layer
from ross.linux.archive.inflate import ArrivingFile, LayerBytes
from ross.linux.archive.limits import ArchiveLimits
from ross.linux.syscalls import keep_memory_private

_LINE_BYTES = 1 << 16


def main(number: int) -> None:
    """Serve the socket with this descriptor until its other end is closed."""
    keep_memory_private()  # somebody's files are in it
    os.umask(0)  # what is made here has the mode that it is made with
    with socket.socket(fileno=number) as link:
        _Worker(link).serve()


class _Worker:
    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._jobs: queue.Queue[tuple[dict[str, Any], list[int]]] = queue.Queue()
        self._blob: ArrivingFile | None = None

    def serve(self) -> None:
        threading.Thread(target=self._receive, name="receive", daemon=True).start()
        while True:
            request, fds = self._jobs.get()
            answer = self._answer(request, fds)
            try:
                self._send(answer)
            except OSError:  # nobody is there any more; `_receive` is just being told so, too
                os._exit(0)

    def _receive(self) -> None:
        """Requests and arrivals, in the order in which they come; the end of the socket is the end of all."""
        try:
            self._take_messages()
        finally:
            # Also if it was reset, which is how a socket ends whose other side died without having read our reports.
            os._exit(0)

    def _take_messages(self) -> None:
        pending, fds = b"", []
        while True:
            data, received, _flags, _address = socket.recv_fds(self._link, _LINE_BYTES, 8)
            if not data:
                return
            fds += received
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "algorithm" in message:
                    self._blob = ArrivingFile(fds[0], size_bytes=message["size_bytes"])
                    self._jobs.put((message, fds))
                    fds = []
                elif self._blob is not None:
                    self._blob.advance(message["available"])

    def _answer(self, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        try:
            return self._apply(request, fds)
        except RossError as error:
            return {"code": error.code, "message": error.message, "hint": error.hint}
        except Exception as error:  # noqa: BLE001 -- told to the daemon, which says it once
            return {
                "code": ErrorCode.INTERNAL,
                "message": f"unpacking failed: {error}",
                "trace": traceback.format_exc(),
            }
        finally:
            for fd in fds:
                os.close(fd)

    def _apply(self, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        blob, (_blob_fd, root_fd) = self._blob, fds
        assert blob is not None  # noqa: S101 -- made with the request
        limits = ArchiveLimits(**request["limits"])
        algorithm: str = request["algorithm"]
        with LayerBytes(blob, limits=limits, algorithm=algorithm, progress=self._report) as source:
            applied = apply_layer(source, root_fd, limits=limits)
            return {"applied": pack_applied(applied), "digest": source.hexdigest()}

    def _report(self, packed: int) -> None:
        self._send({"packed": packed})

    def _send(self, message: dict[str, Any]) -> None:
        self._link.sendall(json.dumps(message, ensure_ascii=False).encode() + b"\n")


def pack_applied(applied: Applied) -> dict[str, Any]:
    """As JSON has it: paths, which are bytes, as Latin-1."""
    plain = asdict(applied)
    plain["implied"] = [path.decode("latin-1") for path in applied.implied]
    plain["whiteouts"] = [path.decode("latin-1") for path in applied.whiteouts]
    plain["pending_links"] = [
        [path.decode("latin-1"), target.decode("latin-1")] for path, target in applied.pending_links.items()
    ]
    return plain


def unpack_applied(plain: dict[str, Any]) -> Applied:
    """The reverse of :func:`pack_applied`."""
    return Applied(
        entries=plain["entries"],
        size_bytes=plain["size_bytes"],
        root_carried=plain["root_carried"],
        implied={path.encode("latin-1") for path in plain["implied"]},
        pending_links={path.encode("latin-1"): target.encode("latin-1") for path, target in plain["pending_links"]},
        whiteouts={path.encode("latin-1") for path in plain["whiteouts"]},
        root_opaque=plain["root_opaque"],
    )
