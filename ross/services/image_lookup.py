"""Which image is meant by what people type: a name, an id, a digest, or the beginning of one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ross.errors import InvalidArgument, NotFound, RossError
from ross.oci.digest import ENCODED_LENGTH
from ross.oci.reference import Reference
from ross.services.tags import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ross.oci.digest import Digest
    from ross.services.image import Image
    from ross.services.tags import Tags

_PREFIX: Final = re.compile(rf"(?:(?P<algorithm>{'|'.join(ENCODED_LENGTH)}):)?(?P<encoded>[0-9a-f]{{1,128}})\Z")


def find_image(name: str, images: Mapping[Digest, Image], tags: Tags) -> tuple[Image, Reference | None]:
    """The image, and the name by which it was found if it was by a name.

    As Docker looks it up: a whole id or digest is never a name, nor is what begins as a digest does, whatever was tagged; the beginning of
    an id is one, where there is such a name.

    Args:
        name: What was typed.
        images: All that there are, by the digests of their manifests.
        tags: Their names.

    Raises:
        NotFound: there is none.
        InvalidArgument: the prefix is that of several, or the name is none.
    """
    problem: RossError | None = None
    try:
        reference = canonical(Reference.parse(name))
    except InvalidArgument as error:
        problem = error
    else:
        record = tags.find(reference)
        if record is not None:
            return images[record.manifest].seen_as(record.target), reference
        for image in _in_order(images, tags):  # a name by digest, pulled by tag
            if reference.digest in {image.target, image.digest} and any(
                known.repository == reference.repository for known in tags.of(image.digest)
            ):
                return image, None
    match = _PREFIX.match(name)
    candidates = _by_prefix(match["algorithm"], match["encoded"], images, tags) if match is not None else ()
    if len(candidates) > 1:
        listed = ", ".join(sorted(candidate.manifest.config.digest.short for candidate in candidates))
        raise InvalidArgument(f"{name!r} is the beginning of several ids: {listed}", hint="type more of it")
    if candidates:
        return candidates[0], None
    if problem is not None and match is None:
        raise problem
    raise NotFound(f"no image {name!r} is in the store", hint=f"get it with: ross pull {name}")


def _by_prefix(algorithm: str | None, prefix: str, images: Mapping[Digest, Image], tags: Tags) -> Sequence[Image]:
    def fits(digest: Digest) -> bool:
        return digest.encoded.startswith(prefix) and algorithm in {None, digest.algorithm}

    own = [image for image in images.values() if fits(image.manifest.config.digest) or fits(image.digest)]
    targets = {image.target: image for image in reversed(_in_order(images, tags))}
    return own or [image for target, image in targets.items() if fits(target)]


def _in_order(images: Mapping[Digest, Image], tags: Tags) -> Sequence[Image]:
    """All of them, those that a name denotes before those that it has for other platforms."""
    return sorted(images.values(), key=lambda image: not tags.denote(image.digest))
