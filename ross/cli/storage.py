"""``ross system df``, ``system check``, ``system prune``, ``image prune``, ``container prune``: what occupies the disk, and what can go."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

from ross.cli import output
from ross.cli.output import Format
from ross.cli.session import with_engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ross.client import Engine
    from ross.model.storage import CheckReport, DiskUsage, Pruned, PruneOptions, UsageItem, UsageRow

Force = Annotated[bool, Parameter(name=["--force", "-f"], negative=())]
All = Annotated[bool, Parameter(name=["--all", "-a"], negative=())]
Filter = Annotated[tuple[str, ...], Parameter(name=["--filter"], negative=(), consume_multiple=False)]

_TYPES = {
    "images": "Images",
    "containers": "Containers",
    "snapshots": "Snapshots",
    "downloads": "Downloads",
    "records": "Names and records",
    "trash": "Trash",
    "unknown": "Unknown",
}
_NOTHING = "-"
_FIELDS: Final = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
"""As ``docker system df --format`` has them, with their headings."""


def df(
    *,
    verbose: Annotated[bool, Parameter(name=["--verbose", "-v"], negative=())] = False,
    format: str = "table",  # noqa: A002 -- the flag's name
) -> None:
    """Show what the daemon's files occupy on the disk. The total is that of du.

    Parameters
    ----------
    verbose
        Thing by thing, too.
    format
        table, json, jsonl, or a template such as '{{.Type}} {{.Size}}', with 'table ' before it for columns.
    """
    form = output.parse_format(format)

    async def body(engine: Engine) -> None:
        usage = await engine.storage.usage(items=verbose)
        if not isinstance(form, str):
            rows = [dict(zip(_FIELDS, _row(row), strict=True)) for row in usage.rows]
            output.write(output.rendered(form, rows, _FIELDS))
            return
        if form != "table":
            output.write(output.document(usage, form))
            return
        output.write(_summary(usage))
        if verbose:
            output.write(_details(usage))
        if usage.unmeasured:
            output.write("".join(f"not counted, since it cannot be measured: {path}\n" for path in usage.unmeasured))

    with_engine(body)


def _summary(usage: DiskUsage) -> str:
    rows = [_row(row) for row in usage.rows]
    total = sum(row.size_bytes for row in usage.rows)
    reclaimable = sum(row.reclaimable_bytes for row in usage.rows)
    rows.append(("Total", "", "", output.size(total), _part(reclaimable, total)))
    table = output.table(tuple(_FIELDS.values()), rows)
    return f"{table}\n{usage.root}: {output.size(usage.free_bytes)} free\n"


def _row(row: UsageRow) -> tuple[str, ...]:
    countable = row.kind in {"images", "containers", "downloads"}
    return (
        _TYPES.get(row.kind, row.kind),
        str(row.total) if countable or row.total else _NOTHING,
        str(row.active) if countable else _NOTHING,
        output.size(row.size_bytes),
        _part(row.reclaimable_bytes, row.size_bytes) if countable else _NOTHING,
    )


def _part(part: int, whole: int) -> str:
    return f"{output.size(part)} ({100 * part // whole if whole else 0}%)"


def _details(usage: DiskUsage) -> str:
    images = [item for item in usage.items if item.kind == "image"]
    rest = [item for item in usage.items if item.kind != "image"]
    text = ""
    if images:
        rows = [
            (
                item.name,
                output.size(item.size_bytes),
                output.size(item.shared_bytes),
                output.size(item.size_bytes - item.shared_bytes),
                str(item.users),
            )
            for item in images
        ]
        text += "\nImages:\n\n" + output.table(("IMAGE", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"), rows)
    if rest:
        text += "\nOn the disk:\n\n" + output.table(("TYPE", "NAME", "SIZE", "IMAGES"), map(_item, rest))
    return text


def _item(item: UsageItem) -> tuple[str, ...]:
    counted = item.kind in {"blob", "manifest", "snapshot"}
    return (item.kind, item.name, output.size(item.size_bytes), str(item.users) if counted else _NOTHING)


def prune(*, all: All = False, force: Force = False, filter: Filter = ()) -> None:  # noqa: A002 -- the flags' names
    """Remove containers that do not run, images without a name, what no image and no container needs, and what is left of downloads.

    Parameters
    ----------
    all
        Also images that no container is made of.
    force
        Do not ask.
    filter
        until=TIME, label=KEY[=VALUE] or label!=KEY[=VALUE]: only such containers and images. May be repeated.
    """
    _prune(filter, force=force, all=all, containers=True, images=True)


def prune_images(*, all: All = False, force: Force = False, filter: Filter = ()) -> None:  # noqa: A002 -- the flags' names
    """Remove images without a name, what no image and no container needs, and what is left of downloads.

    Parameters
    ----------
    all
        Also images that no container is made of.
    force
        Do not ask.
    filter
        until=TIME, label=KEY[=VALUE] or label!=KEY[=VALUE]: only such images. May be repeated.
    """
    _prune(filter, force=force, all=all, containers=False, images=True)


def prune_containers(*, force: Force = False, filter: Filter = ()) -> None:  # noqa: A002 -- the flag's name
    """Remove containers that do not run.

    Parameters
    ----------
    force
        Do not ask.
    filter
        until=TIME, label=KEY[=VALUE] or label!=KEY[=VALUE]: only such containers. May be repeated.
    """
    _prune(filter, force=force, all=False, containers=True, images=False)


def _prune(
    terms: Sequence[str],
    *,
    force: bool,
    all: bool,  # noqa: A002 -- as the flag
    containers: bool,
    images: bool,
) -> None:
    options = parse_prune_filter(terms)
    if not force:
        unused = (
            "all images without at least one container" if all else "all images without a name, and what no image needs"
        )
        _confirm([
            *(["all stopped containers"] if containers else []),
            *([unused, "unfinished downloads"] if images else []),
        ])

    async def body(engine: Engine) -> None:
        pruned = await engine.storage.prune(
            containers=containers,
            images=images,
            all=all,
            until=options.until,
            labels=options.labels,
            without_labels=options.without_labels,
        )
        output.write(_report(pruned))

    with_engine(body)


def _report(pruned: Pruned) -> str:
    text = ""
    if pruned.containers:
        text += "Deleted Containers:\n" + "".join(f"{one}\n" for one in pruned.containers) + "\n"
    if pruned.untagged or pruned.deleted:
        text += "Deleted Images:\n" + "".join(f"untagged: {one}\n" for one in pruned.untagged)
        text += "".join(f"deleted: {one}\n" for one in pruned.deleted) + "\n"
    return f"{text}Total reclaimed space: {output.size(pruned.freed_bytes)}\n"


def _confirm(what: Sequence[str]) -> None:
    """Ask; ends the program unless the answer is yes."""
    from ross.cli.errors import FAILED, Exit
    from ross.errors import FailedPrecondition

    listed = "".join(f"  - {one}\n" for one in what)
    sys.stderr.write(f"WARNING! This will remove:\n{listed}\nAre you sure you want to continue? [y/N] ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer:
        raise FailedPrecondition(
            "nobody has answered, so nothing was removed", hint="to remove it all the same: --force"
        )
    if answer.strip().lower() not in {"y", "yes"}:
        sys.stderr.write("nothing was removed\n")
        raise Exit(FAILED)


def parse_prune_filter(terms: Sequence[str]) -> PruneOptions:
    """``until=TIME``, ``label=KEY[=VALUE]`` and ``label!=KEY[=VALUE]``; all must hold at once.

    Raises:
        InvalidArgument: a term is not one of these, or ``until`` stands twice.
    """
    from ross.cli.parse import parse_time
    from ross.errors import InvalidArgument
    from ross.model.storage import PruneOptions

    until, labels, without = 0, [], []
    for term in terms:
        key, _equals, value = term.partition("=")
        if key == "label" and value:
            labels.append(value)
        elif key == "label!" and value:
            without.append(value)
        elif key == "until" and value and not until:
            until = parse_time(value)
        else:
            raise InvalidArgument(
                f"{term!r} is not a filter of prune",
                hint="there are until=TIME (once), label=KEY[=VALUE] and label!=KEY[=VALUE]",
            )
    return PruneOptions(until=until, labels=tuple(labels), without_labels=tuple(without))


def check(
    *,
    repair: Annotated[bool, Parameter(negative=())] = False,
    format: Format = "table",  # noqa: A002 -- the flag's name
) -> int:
    """Hash all content again, and compare all unpacked layers with it. Ends with 1 if something is wrong, and stays so.

    Parameters
    ----------
    repair
        Put right what can be: fetch content again from where it came from, unpack layers again, remove what nobody knows.
    format
        table, json or jsonl.
    """
    from ross.cli.progress import open_check_display

    async def body(engine: Engine) -> int:
        with open_check_display() as progress:
            report = await engine.storage.check(repair=repair, on_progress=progress)
        if format != "table":
            output.write(output.document(report, format))
        else:
            output.write(_findings(report))
        return 1 if _wrong(report) else 0

    return with_engine(body)


def _wrong(report: CheckReport) -> int:
    from ross.model.storage import Severity

    return sum(finding.severity is not Severity.NOTE and not finding.repaired for finding in report.findings)


def _findings(report: CheckReport) -> str:
    text = ""
    for finding in report.findings:
        text += output.line(
            f"{finding.severity.value}: {finding.kind} {finding.name}: {finding.problem}: {finding.detail}"
        )
        if finding.resolution:
            text += output.line(f"  {finding.resolution}")
    repaired = sum(finding.repaired for finding in report.findings)
    text += (
        f"{report.blobs} blobs and {report.manifests} manifests with {output.size(report.size_bytes)}, "
        f"{report.images} images, {report.snapshots} unpacked layers: "
    )
    wrong = _wrong(report)
    text += f"{wrong} wrong" if wrong else "all right"
    return f"{text}, {repaired} repaired\n" if repaired else f"{text}\n"
