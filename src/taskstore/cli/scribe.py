"""`taskstore scribe`: what applications commit in PostgreSQL, brought into the logs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from taskstore._log.layout import Layout
from taskstore.cli._errors import Failure, Status
from taskstore.cli._imports import imported
from taskstore.cli._output import json_option, note, warn, write, write_json
from taskstore.cli._store import complete_revision, locate, store_option
from taskstore.cli.git import repository_of

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from taskstore._api.store import Store
    from taskstore.cli._rounds import Rounds


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
@click.option(
    "--commit",
    is_flag=True,
    help="Commit the logs to git, and nothing else that is staged or changed.",
)
@click.option(
    "--push",
    is_flag=True,
    help="Also take what others have pushed, merge, and push. This implies --commit.",
)
@click.option(
    "--git-interval",
    metavar="SECONDS",
    type=click.FloatRange(min=0.01),
    default=60.0,
    show_default=True,
    help="With --commit or --push: how often.",
)
@click.option(
    "--branch",
    metavar="NAME",
    shell_complete=complete_revision,
    help="The branch that must be checked out. With --commit or --push it is by default the one "
    "that is checked out at the start.",
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
    git_interval: float,
    branch: str | None,
    *,
    once: bool,
    status: bool,
    take_over: bool,
    commit: bool,
    push: bool,
    as_json: bool,
) -> None:
    """Bring what applications commit in PostgreSQL into the logs, until SIGTERM or Ctrl-C.

    MODULE is imported, which runs its code; it is looked for in the working directory as well.
    MIRRORS is the list of models that the application gives to Store.open(mirrors=...). What git
    brings is projected into the tables. Several scribes of one directory take turns, so the
    next one goes on at once where another was killed. If the server goes away, the scribe waits
    for it, and for a remote likewise.

    With --commit, --push or --branch the scribe ends if another branch is checked out, or while
    git is in the middle of a rebase or a merge. It also ends where a person has to merge.

    Exit status: 0; 1 with --status if something waits too long, or cannot be written; 2 no such
    module or list; 3 the database, the store or the checkout cannot be used.

    \b
    Examples:
      taskstore scribe shop.models:MIRRORS --url postgresql+psycopg://shop@/shop
      taskstore scribe shop.models:MIRRORS --push --branch main
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
        rounds = None
        if commit or push:
            rounds = _rounds(layout, branch, git_interval, push=push)
        guard = rounds.check if rounds is not None else _guard(layout, branch)
        run = _Run(engine, prefix, layout, targets, guard, rounds)
        if take_over:
            run.take_over()
        run.once() if once else run.until_stopped(interval)
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


def _rounds(layout: Layout, branch: str | None, interval: float, *, push: bool) -> Rounds:
    from taskstore.cli._rounds import Rounds

    return Rounds.prepared(layout.directory, layout, branch, interval, push=push)


def _guard(layout: Layout, branch: str | None) -> Callable[[], None] | None:
    """Return a check that a branch is checked out; None where any may be."""
    if branch is None:
        return None
    from taskstore._git.branch import Branch

    return Branch.checked_out(repository_of(layout.directory), branch).check


@attrs.frozen
class _Run:
    """A run of the scribe.

    Attributes:
        engine: Of the database.
        prefix: What the names of our tables begin with.
        layout: The store directory.
        mirrors: The models.
        guard: Raises where logs must not be read or written; None for nothing to look at.
        rounds: The work with git; None for none.
    """

    engine: Engine
    prefix: str
    layout: Layout
    mirrors: list[Any]
    guard: Callable[[], None] | None
    rounds: Rounds | None

    def take_over(self) -> None:
        """Write the logs here from now on, with what the clone before has not pushed."""
        from taskstore._api.postgres_calls import take_over

        with self._store(refresh=False) as store:
            place, lacked = take_over(store)
        note(f"the logs of this database are written here from now on: {place}")
        for name, lines in lacked.items():
            note(f"{name}: {lines} lines that only the database had were appended to the log")

    def once(self) -> None:
        """Do what there is to do."""
        with self._store() as store:
            if self.rounds is not None:
                self.rounds.once()
                failure = _synced(store)
                if failure is not None:
                    raise failure
        self._end()

    def until_stopped(self, interval: float) -> None:
        """Work until SIGTERM, and look at the logs at an interval, in seconds."""
        with _stopped() as stopped:
            with self._store() as store:
                note("ready")
                if self.rounds is not None:
                    self.rounds.start()
                try:
                    self._follow(store, interval, stopped)
                finally:
                    if self.rounds is not None:
                        self.rounds.stop()
            self._end()

    @contextmanager
    def _store(self, *, refresh: bool = True) -> Iterator[Store]:
        from taskstore._api.postgres_calls import guard
        from taskstore._api.store import Store
        from taskstore._cache.schema.models import DEFAULT, build_models

        models = DEFAULT if not self.prefix else build_models(prefix=self.prefix)
        with Store.open(
            self.layout.directory,
            engine=self.engine,
            mirrors=self.mirrors,
            create=False,
            models=models,
            refresh=refresh,
        ) as store:
            if self.guard is not None:
                guard(store, self.guard)
            yield store

    def _end(self) -> None:
        note("everything that was committed is in the logs")
        if self.rounds is not None:
            self.rounds.finish()

    def _follow(self, store: Store, interval: float, stopped: threading.Event) -> None:
        """Project what git brings, and report failures as they come and go.

        Raises:
            BranchError, MergeConflictError: Only a person can go on.
        """
        from taskstore._api.postgres_calls import failure_of

        told = ""
        while not stopped.wait(interval):
            failures = [_synced(store), failure_of(store)]
            if self.rounds is not None:
                self.rounds.tell()
                failures.append(self.rounds.failure)
            for failure in failures:
                _raise_final(failure)
            found = next(filter(None, failures), None)
            reason = "" if found is None else str(getattr(found, "orig", None) or found).strip()
            if reason and reason != told:
                warn(f"trying again: {reason}")
            elif told and not reason:
                note("goes on")
            told = reason


def _raise_final(failure: BaseException | None) -> None:
    from taskstore.errors import BranchError, MergeConflictError

    if isinstance(failure, BranchError | MergeConflictError):
        raise failure


def _synced(store: Store) -> Exception | None:
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
