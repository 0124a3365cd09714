"""`taskstore compact`: logs without old versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import click

from taskstore.cli._arguments import CollectionName
from taskstore.cli._completion import complete_collection
from taskstore.cli._errors import reporting
from taskstore.cli._output import json_option, size, to_terminal, write_json, write_table
from taskstore.cli._progress import progress
from taskstore.cli._store import check_collection, uses_store

if TYPE_CHECKING:
    from taskstore._api.store import Store
    from taskstore._api.upkeep_calls import CompactReport


_DAY_MS = 24 * 60 * 60 * 1000


@click.command("compact")
@click.argument("collections", type=CollectionName(), nargs=-1, shell_complete=complete_collection)
@click.option("--all", "all_", is_flag=True, help="Compact every collection.")
@click.option(
    "--keep-tombstones",
    metavar="DAYS",
    type=click.FloatRange(min=0),
    default=90,
    show_default=True,
    help="How long tombstones are kept: until no branch or clone can bring older lines.",
)
@click.option(
    "--rewrite",
    is_flag=True,
    help="Write lines of older revisions in today's shape. Programs that have not been upgraded "
    "do not serve these records.",
)
@json_option
@uses_store(write=True)
def command(
    store: Store,
    collections: tuple[str, ...],
    keep_tombstones: float,
    *,
    rewrite: bool,
    all_: bool,
    as_json: bool,
) -> None:
    """Rewrite the logs of COLLECTIONS with the newest line of each record only.

    Lines that stay keep their order and, without --rewrite, their bytes. Lines that are not records
    stay too. After that, `history` shows only the newest versions; git still has the others.

    \b
    Examples:
      taskstore compact plans
      taskstore compact --all --keep-tombstones 365
      taskstore compact plans --rewrite
    """
    from taskstore._log.layout import Layout

    if bool(collections) == all_:
        raise click.UsageError("Give either collections or --all.")
    names = Layout(store.path).collections()[0] if all_ else dict.fromkeys(collections)
    for name in names:
        check_collection(store, name)
    reports = []
    for name in names:
        with progress(f"Compacting {name}") as update:
            reports.append(
                store.compact(
                    name,
                    keep_tombstones_ms=round(keep_tombstones * _DAY_MS),
                    rewrite=rewrite,
                    on_progress=lambda _, done, total, update=update: update(done, total),  # type: ignore[misc]
                )
            )
    with reporting("the logs were compacted"):
        _show(reports, as_json=as_json)


def _show(reports: list[CompactReport], *, as_json: bool) -> None:
    if as_json:
        write_json([attrs.asdict(report) for report in reports])
        return
    people = to_terminal()
    write_table(
        ("collection", "lines before", "after", "bytes before", "after", "tombstones dropped"),
        [
            (
                report.collection,
                report.lines_before,
                report.lines_after,
                size(report.bytes_before) if people else report.bytes_before,
                size(report.bytes_after) if people else report.bytes_after,
                report.tombstones_dropped,
            )
            for report in reports
        ],
        numbers=["lines before", "after", "bytes before", "tombstones dropped"],
    )
