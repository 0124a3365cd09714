"""The transactions of a store on PostgreSQL, which its calls join."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction

from taskstore._cache.schema.models import Models
from taskstore._mirror.model.registry import Registry
from taskstore._postgres.flush import FlushHook
from taskstore._postgres.records.rows import RacedError, check_transactional, is_autocommit
from taskstore._postgres.scribe import is_committed, mark_begun
from taskstore._unit.listeners import SessionListeners
from taskstore._unit.unit import READ_ONLY, Owner, current_owner
from taskstore.errors import LockTimeoutError, StoreReadOnlyError, UntrackedWriteError

T = TypeVar("T")

_UNDO, _ENDED = "taskstore_undo", "taskstore_ended"
_OUTER, _FACTS = "taskstore_outer", "taskstore_facts"
_IN_THE_WAY = {"40001", "40P01"}
"""SQLSTATEs of a transaction that failed because of another one, and can be repeated."""


class RecordSessions:
    """Makes the store's sessions, and finds the one that the caller is in.

    Args:
        engine: The application's.
        hooks: The listeners for all sessions of the store.
        name: The store's name in messages.
        lock_timeout: How long a call repeats itself if other transactions are in the way, in
            seconds.
        check_open: Raises if the store is closed.
    """

    def __init__(
        self,
        engine: Engine,
        hooks: SessionHooks,
        name: str,
        lock_timeout: float,
        check_open: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._name = name
        self._lock_timeout = lock_timeout
        self._check_open = check_open
        self._current: dict[Owner, list[Session]] = {}
        # A class of its own: its listeners go with the store.
        self._kind: type[Session] = type("StoreSession", (Session,), {})
        hooks.attach(self._kind)
        event.listen(self._kind, "after_soft_rollback", _restore)
        event.listen(self._kind, "after_transaction_end", _pass_on)

    def current(self) -> Session | None:
        """Return the session that the caller is in."""
        stack = self._current.get(current_owner())
        return stack[-1] if stack else None

    def run(self, call: Callable[[], T]) -> T:
        """Run a call of the store."""
        return call()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Run a block that commits at its end; inside another block, it is a savepoint."""
        outer = self.current()
        if outer is not None:
            self._check_writable(outer)
            check_transactional(outer.connection(), "begin a transaction")
            with outer.begin_nested():
                yield outer
            return
        with self._opened(self._engine) as session:
            yield session
            session.commit()

    @contextmanager
    def session(self, *, read_only: bool = False) -> Iterator[Session]:
        """Yield a session that its user commits; inside another one, the commit is a savepoint."""
        outer = self.current()
        if outer is None:
            engine = self._engine
            if read_only:
                engine = engine.execution_options(postgresql_readonly=True)
            with self._opened(engine, read_only=read_only) as session:
                yield session
            return
        outer.flush()
        is_read_only = read_only or bool(outer.info.get(READ_ONLY))
        mode: Any = {"join_transaction_mode": "create_savepoint"}
        try:
            with self._opened(outer.connection(), read_only=is_read_only, **mode) as inner:
                inner.info[_OUTER] = outer
                yield inner
        finally:
            outer.expire_all()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield the connection of the caller's transaction, or one for a single read."""
        current = self.current()
        if current is not None:
            current.flush()
            yield current.connection()
            return
        self._check_open()
        with self._engine.connect() as connection:
            if is_autocommit(connection):
                # Rows are streamed, which needs a transaction.
                connection = connection.execution_options(isolation_level="READ COMMITTED")
            yield connection

    def write(self, work: Callable[[Session], T]) -> T:
        """Run a write in a session, and repeat it if other transactions are in the way.

        Raises:
            LockTimeoutError: They were for longer than `lock_timeout`.
        """
        started = time.monotonic()
        while True:
            try:
                with self.transaction() as session:
                    session.flush()
                    return work(session)
            except (RacedError, DBAPIError) as error:
                if not self._may_repeat(error):
                    raise
                if time.monotonic() - started > self._lock_timeout:
                    raise LockTimeoutError(
                        self._name, timeout=self._lock_timeout, lock="lock of records"
                    ) from error
            time.sleep(random.uniform(0.001, 0.02))  # noqa: S311

    def _may_repeat(self, error: Exception) -> bool:
        if isinstance(error, RacedError):
            return True
        # Within another transaction, that one has failed as a whole.
        state = getattr(getattr(error, "orig", None), "sqlstate", None)
        return self.current() is None and state in _IN_THE_WAY

    @contextmanager
    def _opened(
        self, bind: Engine | Connection, *, read_only: bool = False, **options: Any
    ) -> Iterator[Session]:
        self._check_open()
        session = self._kind(bind, **options)
        session.info[READ_ONLY] = read_only
        owner = current_owner()
        stack = self._current.setdefault(owner, [])
        stack.append(session)
        try:
            yield session
        except BaseException:
            # If a session is only closed, no listener is told of the rollback.
            session.rollback()
            raise
        finally:
            stack.remove(session)
            if not stack:
                self._current.pop(owner, None)
            session.close()

    def _check_writable(self, session: Session) -> None:
        if session.info.get(READ_ONLY):
            raise StoreReadOnlyError(self._name, operation="begin a transaction")


class SessionHooks:
    """The listeners for sessions of the store, and for those that are attached.

    Args:
        mirrors: The mirrored models.
        models: The models of our tables.
        engine: The engine of the sessions.
    """

    def __init__(self, mirrors: Registry, models: Models, engine: Engine) -> None:
        self._parts = (FlushHook(mirrors, engine), RecordGuard(models))

    def attach(self, target: Any) -> None:
        """Listen on a session, a sessionmaker or a scoped session; once, if called twice."""
        for part in self._parts:
            part.attach(target)

    def detach(self, target: Any) -> None:
        """Remove the listeners."""
        for part in self._parts:
            part.detach(target)


class RecordGuard:
    """Refuses writes of sessions to the tables of records: they would not reach the log.

    Args:
        models: The models of our tables.
    """

    def __init__(self, models: Models) -> None:
        self._models = models
        names = ("before_flush", "do_orm_execute")
        self._listeners = SessionListeners({name: getattr(self, name) for name in names})

    def attach(self, target: Any) -> None:
        """Listen on a session, a sessionmaker or a scoped session; once, if called twice."""
        self._listeners.attach(target)

    def detach(self, target: Any) -> None:
        """Remove the listeners."""
        self._listeners.detach(target)

    def before_flush(self, session: Session, *_: Any) -> None:
        """Raise UntrackedWriteError if rows of records are new, changed or deleted."""
        changed: Iterable[Any] = (*session.new, *session.dirty, *session.deleted)
        if any(isinstance(row, self._models.StoredRecord) for row in changed):
            raise _untracked("a flush of StoredRecord")

    def do_orm_execute(self, state: ORMExecuteState) -> None:
        """Raise UntrackedWriteError for a bulk statement."""
        if not state.is_select:
            table = getattr(state.statement, "table", None)
            own: Any = self._models.StoredRecord.__table__
            named = getattr(table, "name", None) in self._models.table_names
            # An application may have a table of the same name in another schema.
            if named and getattr(table, "schema", None) == own.schema:
                raise _untracked(str(state.statement))


def _untracked(statement: str) -> UntrackedWriteError:
    return UntrackedWriteError(
        statement=statement,
        remedy="on PostgreSQL the rows of StoredRecord are for queries: write with Store.save and "
        "Store.delete, which join a transaction of the store",
    )


def on_undo(session: Session, restore: Callable[[], None]) -> None:
    """Call a function if the present savepoint of a session, or its transaction, is rolled back."""
    facts = session.connection().info
    mark_begun(facts)
    session.info[_FACTS] = facts
    _note_undo(session, [restore])


def _note_undo(session: Session, undo: Sequence[Callable[[], None]]) -> None:
    transaction = session.get_nested_transaction() or session.get_transaction()
    session.info.setdefault(_UNDO, {}).setdefault(transaction, []).extend(undo)


def _restore(session: Session, ended: SessionTransaction) -> None:
    last, kept = session.info.pop(_ENDED, (None, ()))
    if last is ended and not is_committed(session.info.get(_FACTS, {})):
        above = session.info.get(_UNDO, {}).get(ended.parent, [])
        for restore in kept:
            if restore in above:
                above.remove(restore)
            restore()


def _pass_on(session: Session, ended: SessionTransaction) -> None:
    """Pass the functions that undo a savepoint's writes to the transaction around it."""
    # A rollback is announced only after this.
    undo = session.info.get(_UNDO, {})
    kept = undo.pop(ended, [])
    session.info[_ENDED] = ended, kept
    if not kept:
        return
    if ended.parent is not None:
        undo.setdefault(ended.parent, []).extend(kept)
    elif _OUTER in session.info:
        _note_undo(session.info[_OUTER], kept)
