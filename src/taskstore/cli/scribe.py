"""`taskstore scribe`: what applications commit in PostgreSQL, brought into the logs."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from taskstore._log.layout import Layout
from taskstore.cli._errors import Failure, Status
from taskstore.cli._imports import imported
from taskstore.cli._output import json_option, note, warn, write, write_json
from taskstore.cli._store import locate, store_option

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from taskstore._api.store import Store


@click.command("scribe")
@click.argument("mirrors", metavar="MODULE:MIRRORS")
@click.option(
    "--url",
    metavar="URL",
    required=True,
    envvar="TASKSTORE_DATABASE_URL",
    show_envvar=True,
    help="The database, as postgresql+psycopg://user@host/name.",
)
@click.option("--prefix", default="", metavar="TEXT", help="The prefix of our table names.")
@click.option("--once", is_flag=True, help="Write what is waiting, and exit.")
@click.option(
    "--status", is_flag=True, help="Only show what is waiting for the log, and for how long."
)
@click.option(
    "--max-lag",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="With --status: exit with 1 if something has waited longer.",
)
@click.option(
    "--take-over",
    is_flag=True,
    help="Write the logs of this database here from now on, instead of in another clone.",
)
@click.option(
    "--interval",
    metavar="SECONDS",
    type=click.FloatRange(min=0.01),
    default=1.0,
    show_default=True,
    help="How often to look whether git has changed a log.",
)
@json_option
@store_option
def command(
    mirrors: str,
    store_path: Path | None,
    url: str,
    prefix: str,
    max_lag: float,
    interval: float,
    *,
    once: bool,
    status: bool,
    take_over: bool,
    as_json: bool,
) -> None:
    """Bring what applications commit in PostgreSQL into the logs, until SIGTERM or Ctrl-C.

    MODULE is imported, which runs its code; it is looked for in the working directory as well.
    MIRRORS is the list of models that the application gives to Store.open(mirrors=...). What git
    brings is projected into the tables. Several scribes of one directory take turns, so the
    next one goes on at once where another was killed. If the server goes away, the scribe waits
    for it.

    Exit status: 0; 1 with --status if something waits too long, or cannot be written; 2 no such
    module or list; 3 the database or the store cannot be used.

    \b
    Examples:
      taskstore scribe shop.models:MIRRORS --url postgresql+psycopg://shop@/shop
      taskstore scribe shop.models:MIRRORS --status --json
    """
    from sqlalchemy.exc import SQLAlchemyError

    if sum((once, status)) > 1:
        raise click.UsageError("--once and --status exclude each other.")
    targets = _mirrors(mirrors)
    layout = Layout(locate(store_path).absolute())
    engine = _engine(url)
    try:
        if status:
            _show(engine, prefix, max_lag, as_json=as_json)
            return
        if take_over:
            _take_over(engine, prefix, layout)
        _run(engine, prefix, layout, targets, None if once else interval)
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip()
        raise Failure(f"the database cannot be used: {reason}", Status.STORE) from error
    finally:
        engine.dispose()


def _mirrors(name: str) -> list[Any]:
    found = imported(name)
    if not isinstance(found, list | tuple):
        reason = "is not a list: name the one that you pass to Store.open(mirrors=...)"
        raise Failure(f"{name!r} {reason}", Status.USAGE)
    return list(found)


def _engine(url: str) -> Engine:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError

    try:
        # The server may have been started anew since a connection was used last.
        engine = create_engine(url, pool_pre_ping=True)
    except (ArgumentError, ImportError) as error:
        raise Failure(f"{error}", Status.USAGE) from error
    if engine.dialect.name != "postgresql":
        raise Failure("a scribe is for PostgreSQL: SQLite needs none", Status.USAGE)
    return engine


def _show(engine: Engine, prefix: str, max_lag: float, *, as_json: bool) -> None:
    from taskstore._postgres.lag import lag_of

    found = lag_of(engine, prefix)
    if as_json:
        write_json(
            {
                "place": found.place,
                "rows": found.rows,
                "seconds": found.seconds,
                "problems": list(found.problems),
            }
        )
    else:
        write(f"logs: {found.place or 'nobody writes them yet'}")
        write(f"waiting: {found.rows} rows, the oldest for {found.seconds:.1f} s")
        for problem in found.problems:
            write(f"cannot be written: {problem}")
    if found.seconds > max_lag or found.problems:
        click.get_current_context().exit(Status.NO)


def _take_over(engine: Engine, prefix: str, layout: Layout) -> None:
    from taskstore._postgres.lag import take_over

    place = f"{socket.gethostname()}:{layout.directory}"
    take_over(engine, prefix, layout.mark.id, place)
    note(f"the logs of this database are written here from now on: {place}")


def _run(
    engine: Engine, prefix: str, layout: Layout, mirrors: list[Any], interval: float | None
) -> None:
    from taskstore._api.store import Store
    from taskstore._cache.schema.models import DEFAULT, build_models

    models = DEFAULT if not prefix else build_models(prefix=prefix)
    with _stopped() as stopped:
        with Store.open(
            layout.directory, engine=engine, mirrors=mirrors, create=False, models=models
        ) as store:
            if interval is not None:
                note("ready")
                _follow(store, interval, stopped)
        note("everything that was committed is in the logs")


def _follow(store: Store, interval: float, stopped: threading.Event) -> None:
    """Project what git brings, and report failures as they come and go."""
    from taskstore._api.postgres_calls import failure_of

    told = ""
    while not stopped.wait(interval):
        failure = _synced(store) or failure_of(store)
        reason = "" if failure is None else str(getattr(failure, "orig", None) or failure).strip()
        if reason and reason != told:
            warn(f"trying again: {reason}")
        elif told and not reason:
            note("goes on")
        told = reason


def _synced(store: Store) -> BaseException | None:
    from sqlalchemy.exc import SQLAlchemyError

    from taskstore.errors import TaskstoreError

    try:
        if store.is_stale():
            for problem in store.sync().problems:
                warn(str(problem))
    except (SQLAlchemyError, TaskstoreError) as error:
        return error
    return None


@contextmanager
def _stopped() -> Iterator[threading.Event]:
    """An event that SIGTERM sets."""
    stopped = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGTERM, before)
