"""`taskstore watch`: print changes as they are committed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from taskstore._format.names import check_collection_name
from taskstore._log.layout import Layout
from taskstore.cli._arguments import CollectionName
from taskstore.cli._completion import complete_collection
from taskstore.cli._errors import hint
from taskstore.cli._output import (
    flush,
    json_option,
    moment,
    note,
    to_terminal,
    write_fields,
    write_json_line,
)
from taskstore.cli._store import check_is_file, locate, opened, store_option

if TYPE_CHECKING:
    from taskstore._watch.follow import ChangeEvent, Follower


_LONG = 200


@click.command("watch")
@click.argument("collections", type=CollectionName(), nargs=-1, shell_complete=complete_collection)
@click.option(
    "--since",
    metavar="CURSOR",
    help="Start after a cursor that watch has printed; 0 for the beginning. By default, start at "
    "the end.",
)
@click.option(
    "--consumer",
    "consumer_name",
    metavar="NAME",
    help="Continue after what was printed for this name before, instead of --since. The store "
    "keeps the cursor of each name.",
)
@click.option("--once", is_flag=True, help="Print the changes up to now, and exit.")
@click.option(
    "--interval",
    metavar="SECONDS",
    type=click.FloatRange(min=0.01),
    default=0.2,
    show_default=True,
    help="How often to look.",
)
@json_option
@store_option
def command(
    store_path: Path | None,
    collections: tuple[str, ...],
    since: str | None,
    consumer_name: str | None,
    interval: float,
    *,
    once: bool,
    as_json: bool,
) -> None:
    """Print each change that is committed to COLLECTIONS (all by default), until interrupted.

    A change is a new line of a log: a record or a tombstone. At the end, and with --json after each
    change, the command prints a cursor. Pass it to --since to continue from there. A log
    that was rewritten (by a checkout, a merge or a compaction) is printed as "reset", and then all
    of its lines follow. Lines that are not records are printed as "problem".

    Exit status: 0 with --once; 130 after Ctrl-C.

    \b
    Examples:
      taskstore watch plans
      taskstore watch --since 0 --once --json | jq -r 'select(.event == "delete").id'
      taskstore watch --consumer mailer --once --json
    """
    from taskstore._watch.cursor import Cursor
    from taskstore._watch.follow import Follower

    layout = Layout(locate(store_path))
    known, _ = layout.collections()
    for name in collections:
        if check_collection_name(name) not in known:
            check_is_file(layout, name)
            note(f"no collection {name!r} yet{hint(name, known)}")
    if since is not None and consumer_name is not None:
        raise click.UsageError("Give either --since or --consumer.")
    with ExitStack() as stack:
        done: Callable[[ChangeEvent], None] = lambda event: None  # noqa: E731
        if consumer_name is not None:
            store = stack.enter_context(opened(layout.directory, write=True))
            consumer = store.consumer(consumer_name, collections=collections)
            since, done = consumer.cursor, consumer.acknowledge
        cursor = None if since is None else Cursor.parse(since)
        follower = Follower(layout, cursor, collections=frozenset(collections))
        try:
            _follow(follower, interval, done, once=once, as_json=as_json)
        finally:
            follower.close()
            if not as_json:
                note(f"cursor: {follower.cursor}")


def _follow(
    follower: Follower,
    interval: float,
    done: Callable[[ChangeEvent], None],
    *,
    once: bool,
    as_json: bool,
) -> None:
    people = to_terminal()
    while True:
        last = None
        for event in follower.poll():
            last = event
            if as_json:
                write_json_line(event_facts(event))
            else:
                write_fields(_parts(event, people=people))
        flush()
        if last is not None:
            done(last)
        if once:
            return
        time.sleep(interval)


def event_facts(event: ChangeEvent) -> dict[str, Any]:
    """Return an event as a JSON object."""
    facts: dict[str, Any] = {"event": event.kind, "collection": event.collection}
    if event.kind in ("change", "delete"):
        facts |= {"id": event.id, "updated_at": event.updated_at, "record": event.record}
    else:
        facts |= {"reason": event.reason}
    return {**facts, "cursor": event.cursor}


def _parts(event: ChangeEvent, *, people: bool) -> list[str]:
    if event.record is None:
        parts = [event.kind, event.collection, str(event.reason)]
    else:
        when = moment(event.updated_at) if people else str(event.updated_at or "")
        parts = [event.kind, f"{event.collection}/{event.id}", when]
    if event.kind == "change":
        data = json.dumps(event.record, ensure_ascii=False)
        parts.append(f"{data[: _LONG - 3]}..." if people and len(data) > _LONG else data)
    return parts
