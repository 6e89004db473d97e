"""Why a registry does not take what is pushed to it: the error for its answer, with its own words where it has some."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from ross.errors import Corrupt, Denied, FailedPrecondition, NotFound, RossError, Unavailable
from ross.registry.http import read_bounded

if TYPE_CHECKING:
    import httpx

    from ross.oci.digest import Digest
    from ross.oci.reference import Reference

_MAX_ERROR_BYTES: Final = 16 << 10


def check_digest(response: httpx.Response, digest: Digest, repository: Reference) -> None:
    """See that the registry has taken something for what it is.

    Raises:
        Corrupt: it says another digest.
    """
    announced = response.headers.get("Docker-Content-Digest")
    if announced is not None and announced.partition(":")[0] == digest.algorithm and announced != str(digest):
        raise Corrupt(f"the registry {repository.host} took {digest} for {announced[:140]!r}")


async def refusal(response: httpx.Response, repository: Reference, *, digest: Digest | None = None) -> RossError:
    """The error for a status that ends a push, with the registry's own words where it has some."""
    status, host = response.status_code, repository.host
    code, said = await _said(response)
    words = f": {said}" if said else ""
    if code == "DIGEST_INVALID":
        what = f"the blob {digest}" if digest is not None else "the manifest"
        return Corrupt(
            f"the registry {host} does not find in {what} what the digest promises{words}",
            hint="the blob in the store may be damaged: remove the image and pull it again",
        )
    if status in {401, 403} or code == "DENIED":
        return Denied(
            f"the registry {host} does not let us push to {repository.path}{words}",
            hint=f"do the credentials allow it? log in again: ross login {host}",
        )
    if status == 404:
        return NotFound(f"the registry {host} has no repository {repository.path}, and makes none{words}")
    if status == 405 or code == "UNSUPPORTED":
        return FailedPrecondition(
            f"the registry {host} takes no pushes{words}", hint="it may be a mirror, or read-only"
        )
    if status == 413:
        return FailedPrecondition(f"the registry {host}, or a proxy before it, refuses so large a request{words}")
    if status in {400, 409, 412, 422}:
        return FailedPrecondition(f"the registry {host} refuses the push to {repository.path}{words}")
    return Unavailable(f"the registry {host} answered with status {status}{words}")


async def _said(response: httpx.Response) -> tuple[str, str]:
    """The code and the message of an error as registries give it (distribution-spec, "Error Codes")."""
    try:
        document: Any = json.loads(await read_bounded(response, _MAX_ERROR_BYTES, what="an error"))
        error = document["errors"][0]
        code, message = str(error.get("code", ""))[:40], " ".join(str(error.get("message", "")).split())[:200]
    except (Corrupt, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return "", ""
    return code, message
