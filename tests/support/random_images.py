"""Random layers for hypothesis: few names, so that entries meet; odd values, so that every form of a field is used."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from attrs import evolve, frozen
from hypothesis import strategies as st

from tests.support.layer_model import (
    OPAQUE,
    WHITEOUT,
    Ambiguous,
    Kind,
    LayerModel,
    Node,
    Path,
    Refused,
    TarEntry,
    split,
)
from tests.support.tar_writer import Form, write_tar

NAMES: Final = (
    b"a", b"b", b"c", b"lib", b"usr", b".hidden", "grüße".encode(), "日本".encode(), b"\xff\xfe\x80", b"new\nline",
    b"two words", b"-dash", b"back\\slash", b"%n", b".wh", b"l" * 120, b"m" * 255,
)  # fmt: skip
OWNERS: Final = (0, 0, 1, 1000, 65534, (1 << 21) - 1, 1 << 21, 1 << 31, (1 << 32) - 2)
MODES: Final = (0o644, 0o755, 0o000, 0o4755, 0o2755, 0o1777, 0o7777, 0o6711, 0o400)
TIMES: Final = (
    0,
    1,
    1_700_000_000 * 10**9 + 123_456_789,
    -1,
    -(10**9),
    -(2**31) * 10**9,
    2**32 * 10**9,
    4_600_000_000 * 10**9 + 7,
)
"""Within what ext4 can keep, 1901 to 2446, and Ross, to 2116."""
CAPABILITY: Final = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
"""cap_net_bind_service=ep, revision 2."""
XATTRS: Final = (
    (b"user.kept", b"value"), (b"user.empty", b""), (b"user.bytes", b"\0=\n\xff"), (b"security.capability", CAPABILITY),
)  # fmt: skip
FORGED: Final = (
    (b"trusted.overlay.opaque", b"y"), (b"trusted.overlay.redirect", b"/a"), (b"trusted.overlay.metacopy", b""),
    (b"user.overlay.opaque", b"y"), (b"trusted.secret", b"x"),
)  # fmt: skip
"""What an image may not set."""
_RUBBISH: Final = random.Random(1).randbytes(1_100_000)
COMPRESSIONS: Final = ("", "+gzip", "+zstd")


@frozen
class RandomLayer:
    """A layer as entries and as it is written."""

    entries: tuple[tuple[TarEntry, Form], ...]
    compression: str
    large: bool
    """So large that a process of its own unpacks it: by what follows the archive's end, which counts for the digest only."""

    def tar(self) -> bytes:
        return write_tar(self.entries) + (_RUBBISH if self.large else b"")


class RandomImage:
    """Layers, bottom first, and what they amount to. Not an attrs class, so that hypothesis prints it as it prints itself."""

    def __init__(self, layers: tuple[RandomLayer, ...], nodes: dict[Path, Node]) -> None:
        self.layers = layers
        self.nodes = nodes

    def __repr__(self) -> str:
        return "".join(
            f"\nlayer {number} {layer.compression} {'large' if layer.large else ''}"
            + "".join(f"\n  {_line(entry, form)}" for entry, form in layer.entries)
            for number, layer in enumerate(self.layers)
        )


def _line(entry: TarEntry, form: Form) -> str:
    name = b"/".join(entry.path)
    owner = f"{entry.mode:o} {entry.uid}:{entry.gid} @{entry.mtime_ns}"
    return f"{entry.kind.name.lower():10} {name!r} -> {entry.link!r} {owner} {len(entry.data)} bytes {entry.device} {entry.xattrs} {form}"


@frozen(kw_only=True)
class Dialect:
    """What the readers of the images can do."""

    forged: bool = True
    """Attributes that must be ignored; other tools apply them."""
    whiteouts: bool = True
    """Also opaque directories; without, those of what a lower layer has."""
    links_across: bool = True
    """Hard links to files of lower layers."""
    through_links: bool = True
    """Entries below links."""
    implied: bool = True
    """Entries in directories that have none, and the groups that directories hand down."""
    large: bool = True
    """Layers that a process of its own unpacks."""
    empty_xattrs: bool = True
    compressions: Sequence[str] = COMPRESSIONS


def paths(*, most: int = 4) -> st.SearchStrategy[Path]:
    common = st.sampled_from(NAMES[:5])
    return st.lists(st.one_of(common, common, st.sampled_from(NAMES)), min_size=1, max_size=most).map(tuple)


def contents() -> st.SearchStrategy[bytes]:
    sparse = st.integers(0, 3).map(lambda holes: b"head" + bytes(4096 * holes) + b"tail")
    return st.one_of(
        st.just(b""), st.binary(max_size=20), st.sampled_from((b"x" * 511, b"y" * 512, b"z" * 513)), sparse
    )


def targets() -> st.SearchStrategy[bytes]:
    up = st.integers(0, 3).map(lambda count: b"../" * count)
    absolute = st.sampled_from((b"", b"/", b"//"))
    return st.builds(lambda head, dots, path: head + dots + b"/".join(path), absolute, up, paths(most=3))


@st.composite
def entries(draw: st.DrawFn, dialect: Dialect) -> TarEntry:
    kind = draw(st.sampled_from((
        Kind.FILE, Kind.FILE, Kind.DIRECTORY, Kind.DIRECTORY, Kind.SYMLINK, Kind.SYMLINK, Kind.HARD_LINK, Kind.HARD_LINK,
        Kind.CHARACTER, Kind.BLOCK, Kind.FIFO, None, None,
    )))  # fmt: skip
    path = draw(paths())
    if kind is None:
        *above, base = path
        return TarEntry(path=(*above, draw(st.sampled_from((WHITEOUT + base, OPAQUE)))), kind=Kind.FILE)
    if kind is Kind.DIRECTORY and draw(st.integers(0, 9)) == 0:
        path = ()
    values = tuple(one for one in XATTRS if dialect.empty_xattrs or one[1]) + (FORGED if dialect.forged else ())
    xattrs: dict[bytes, bytes] = {}
    if kind in {Kind.FILE, Kind.DIRECTORY}:
        xattrs = dict(draw(st.lists(st.sampled_from(values), max_size=2)))
        if kind is Kind.DIRECTORY:
            xattrs.pop(b"security.capability", None)
    link = b""
    if kind is Kind.SYMLINK:
        link = draw(targets())
    elif kind is Kind.HARD_LINK:
        link = b"/".join(draw(paths()))
    return TarEntry(
        path=path,
        kind=kind,
        mode=draw(st.sampled_from(MODES)),
        uid=draw(st.sampled_from(OWNERS)),
        gid=draw(st.sampled_from(OWNERS)),
        mtime_ns=draw(st.sampled_from(TIMES)),
        data=draw(contents()) if kind is Kind.FILE else b"",
        link=link,
        device=draw(st.sampled_from(((1, 3), (0, 1), (4095, 1048575), (8, 0)))) if kind in {Kind.CHARACTER, Kind.BLOCK} else (0, 0),
        xattrs=xattrs,
    )  # fmt: skip


def forms() -> st.SearchStrategy[Form]:
    return st.builds(Form, gnu=st.booleans(), prefix=st.sampled_from((b"", b"./", b"/")), slash=st.booleans())


@st.composite
def images(draw: st.DrawFn, dialect: Dialect | None = None) -> RandomImage:
    """An image whose every entry means one thing: those that do not are left out."""
    dialect = dialect or Dialect()
    model = LayerModel()
    layers = []
    for number in range(draw(st.integers(1, 4))):
        model.begin_layer()
        kept = []
        for entry, form in draw(st.lists(st.tuples(entries(dialect), forms()), max_size=14)):
            if not _allowed(model, entry, dialect, first=number == 0):
                continue
            written, form_used = _as_written(model, entry, form)
            with suppress(Refused, Ambiguous):
                model.apply(written)
                kept.append((written, form_used))
        layers.append(
            RandomLayer(tuple(kept), draw(st.sampled_from(dialect.compressions)), draw(st.integers(0, 19)) == 19)
        )
    return RandomImage(tuple(layers), model.nodes())


def _as_written(model: LayerModel, entry: TarEntry, form: Form) -> tuple[TarEntry, Form]:
    """What the form can say; a hard link says of its file what the file says."""
    if entry.xattrs or (entry.kind is Kind.HARD_LINK):
        form = evolve(form, gnu=False)
    if form.gnu:
        entry = evolve(entry, mtime_ns=entry.mtime_ns // 10**9 * 10**9)
    if entry.kind is Kind.HARD_LINK:
        with suppress(Refused):
            target = model.find(split(entry.link))
            if target is not None:
                entry = evolve(
                    entry, mode=target.mode, uid=target.uid, gid=target.gid, mtime_ns=target.mtime_ns or 0, xattrs={}
                )
    return entry, form


def _allowed(model: LayerModel, entry: TarEntry, dialect: Dialect, *, first: bool) -> bool:
    if not dialect.whiteouts and entry.path and entry.path[-1].startswith(WHITEOUT):
        *above, base = entry.path
        return base != OPAQUE and model.is_lower((*above, base.removeprefix(WHITEOUT)))
    if not dialect.links_across and entry.kind is Kind.HARD_LINK and not first:
        return False
    if not dialect.implied:
        if entry.path and any(model.find(entry.path[:end]) is None for end in range(1, len(entry.path))):
            return False
        if entry.kind is Kind.DIRECTORY and entry.mode & 0o2000:
            return False
    if not dialect.through_links:
        found = [model.find(entry.path[:end]) for end in range(1, len(entry.path))]
        return all(node is None or node.kind is Kind.DIRECTORY for node in found)
    return True
