"""The calls of a store whose rows are in PostgreSQL.

They replace the calls of `Store`. Calls that such a store does not support yet are refused.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import attrs

from taskstore._api.postgres_base import PostgresBase, check_types, kind_with
from taskstore._api.postgres_past import PastCalls
from taskstore._format.names import check_id
from taskstore._mirror.model.registry import registry
from taskstore._postgres.checks import check_rows_visible
from taskstore._postgres.context import PostgresContext, own_engine
from taskstore._postgres.preparing import prepare_database
from taskstore._postgres.records.sessions import SessionHooks
from taskstore._postgres.scribe import CommitHook, Scribe
from taskstore._postgres.work import Work
from taskstore._query.conditions import Condition, all_of
from taskstore._store.context import StoreContext
from taskstore._sync.refresh import warn_of_clashes
from taskstore._sync.report import SyncReport
from taskstore.errors import InvalidDeclarationError, UnsupportedError

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from taskstore._mirror.model.shape import Mirror
    from taskstore._sync.verification import VerifyReport

Ack = Literal["database", "log"]

_LATER = "use a store on SQLite for it"

REFUSED = {
    "compact": "run `taskstore compact` in the directory",
}
"""What to do instead of calls that such a store does not support, if it is not `_LATER`."""


class PostgresCalls(PastCalls, PostgresBase):
    """The calls that a store on PostgreSQL supports."""

    _context: StoreContext

    def __init__(self, context: StoreContext, ack: Ack, types: Iterable[type[Any]]) -> None:
        """Assemble a store; use `Store.open`."""
        self._context = context
        self._is_closed = False
        self._own = own_engine(context.engine)
        try:
            self._work = Work(self._prepared())
            self._scribe = Scribe(self._work)
            self._assemble(registry(context), self._work.context.outbox, str(context.path))
            check_types(self._catalog, types)
            self._commits = CommitHook(context.engine, self._scribe, context.lock_timeout)
            self._work.begin()
            warn_of_clashes(context)
            self._bring_up(ack)
        except BaseException:
            self._own.dispose()
            raise

    def _prepared(self) -> PostgresContext:
        context = self._context
        outbox = prepare_database(
            self._own, context.models, registry(context), migrate=context.migrate
        )
        with self._own.connect() as connection:
            check_rows_visible(connection, registry(context))
        place = f"{socket.gethostname()}:{context.path}"
        return PostgresContext(context, self._own, outbox, place)

    def _bring_up(self, ack: Ack) -> None:
        if self._context.refresh:
            self._work.drain()
            if self._work.is_stale():
                # As on SQLite, the store opens even if a table has rows but no log: `export` comes
                # next.
                self._work.sync(strict=False)
        self._scribe.start()
        self._ack = ack
        if ack == "log":
            self._commits.install()

    def close(self) -> None:
        """Write what is committed to the log, and close the store. You may close it twice.

        Raises:
            TaskstoreError: The log could not be written. The changes stay in the database.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self._context.closed = True
        for target in list(self._attached):
            self.detach(target)
        self._commits.remove()
        try:
            self._scribe.stop()
        finally:
            self._own.dispose()
            self._context.log_lock.close()
            self._context.gate.close()

    def is_stale(self) -> bool:
        """Return whether any log has lines that the database does not have."""
        self._context.check_open()
        return self._work.is_stale()

    def sync(
        self, *, force: bool = False, prune: bool = False, on_progress: Any = None
    ) -> SyncReport:
        """Update the mirrored tables from the logs; see `Store.sync`."""
        self._context.check_open()
        with self._progress(on_progress):
            return self._work.sync(force=force, prune=prune)

    @contextmanager
    def _progress(self, on_progress: Any) -> Iterator[None]:
        context, before = self._context, self._context.on_progress
        context.on_progress = on_progress or before
        try:
            yield
        finally:
            context.on_progress = before

    def verify(self, *, repair: bool = False) -> VerifyReport:
        """Compare the mirrored tables with the logs. Writers wait meanwhile.

        Args:
            repair: Update rows that differ from the logs.
        """
        self._context.check_open()
        report = self._work.verify()
        if report.ok or not repair:
            return report
        self._work.sync(force=True)
        return attrs.evolve(report, repaired=True)

    def history(self, type: Any, id: str, /) -> Any:
        """Return every version of a record that its log has, oldest first; see `Store.history`."""
        from taskstore._sync.inspection import Inspector

        self._context.check_open()
        codec = self._catalog.codec(type)
        self._work.drain()
        return Inspector(self._context).history(codec, check_id(id, codec.collection))

    def list_tolerant(self, type: Any, /, *filters: Condition) -> Any:
        """Read the log itself; see `Store.list_tolerant`."""
        from taskstore._sync.inspection import Inspector

        self._context.check_open()
        codec = self._catalog.codec(type)
        self._work.drain()
        return Inspector(self._context).records(codec, all_of(filters))

    def export(self, type: Any = None, /, *, refused: bool = False) -> int:
        """Write the rows of a mirrored model that its log does not have; see `Store.export`.

        This includes rows whose lines a sync could not apply, with and without `refused`.
        """
        self._context.check_open()
        mirrors = registry(self._context)
        if type is None:
            return sum(self._work.export(one) for one in mirrors)
        mirror: Mirror | None = mirrors.named(type)
        if mirror is None:
            raise InvalidDeclarationError(
                getattr(type, "__qualname__", repr(type)),
                reason="this store does not mirror it: Store.open(..., mirrors=[...])",
            )
        return self._work.export(mirror)

    def __repr__(self) -> str:
        """Say where the store is."""
        state = ", closed" if self._context.closed else ""
        return f"<Store {str(self._context.path)!r} on PostgreSQL{state}>"


def kind_on_postgres(kind: type[Any]) -> type[Any]:
    """Return a class of stores with the calls for PostgreSQL. It refuses all other calls."""
    return kind_with(PostgresCalls, kind, _refuse)


def hooks_on(store: Any, engine: Engine) -> tuple[CommitHook | None, SessionHooks]:
    """Return the hooks of a store on PostgreSQL for another engine on its database.

    The first makes commits wait for the log. It is None if they do not wait.

    Args:
        store: The store.
        engine: The synchronous side of the application's asyncio engine.
    """
    context: Any = store._context
    hooks = SessionHooks(context.mirrors, context.models, engine)
    if store._ack != "log":
        return None, hooks
    return CommitHook(engine, store._scribe, context.lock_timeout), hooks


def failure_of(store: Any) -> BaseException | None:
    """Return why the scribe of a store on PostgreSQL cannot write; None if it can."""
    found: BaseException | None = store._scribe.failure
    return found


def guard(store: Any, check: Callable[[], None]) -> None:
    """Call a function before a store on PostgreSQL reads or writes logs; it raises to refuse."""
    store._work.context.guard = check


def take_over(store: Any) -> tuple[str, dict[str, int]]:
    """Have a store on PostgreSQL write the logs of its database, in place of another clone's.

    Returns:
        The host and the directory, and how many lines each log here lacked and now has.
    """
    work: Work = store._work
    return work.context.place, work.take_over()


def _refuse(store: Any, call: str) -> NoReturn:
    """Raise UnsupportedError, which says what to use instead."""
    raise UnsupportedError(operation=f"Store.{call}", remedy=REFUSED.get(call, _LATER))
