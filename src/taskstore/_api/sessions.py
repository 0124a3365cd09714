"""Sessions and transactions: the one way to write, for users and for the store's calls."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session, SessionTransaction

from taskstore._log.mutex import Claim
from taskstore._store.context import StoreContext
from taskstore._store.sqlite_errors import DatabaseErrors, translated
from taskstore._sync.cache_file import CacheFile
from taskstore._sync.refresh import Refresher
from taskstore._unit.changes import Changes
from taskstore._unit.record_capture import expire_records
from taskstore._unit.session_hook import SESSION_EVENTS, SessionHook
from taskstore._unit.transaction import WRITER, TransactionHook
from taskstore._unit.unit import READ_ONLY, Owner, current_owner
from taskstore._unit.work import ConnectionWork, DirectWork, Work

T = TypeVar("T")

_JOINED = "taskstore_joined"


class StoreSession(Session):
    """A session that a store makes.

    All stores share this class and its listeners. Listeners of a class live as long as the
    process, so a class for each store would keep every store in memory.
    """

    def __init__(self, sessions: Sessions, bind: Any, **options: Any) -> None:
        super().__init__(bind, **options)
        self.sessions = sessions


class StoreCall:
    """A call of the store, in a transaction that has no session.

    If a validator or converter of the user calls the store, that call joins it as it would join a
    session.

    Attributes:
        info: The same as `Session.info`.
    """

    __slots__ = ("_work", "info")

    def __init__(self, work: Work) -> None:
        self._work = work
        self.info: dict[str, Any] = {}

    def connection(self) -> Connection:
        """Return the connection of the transaction."""
        return self._work.connection()

    def flush(self) -> None:
        """Do nothing: there are no objects."""

    def expire_all(self) -> None:
        """Do nothing: there are no objects."""


class _Before(NamedTuple):
    """The state of a caller when a call began.

    Attributes:
        owner: The caller.
        depth: How many sessions and calls it was in.
        claim: What held the log lock.
        handled: The exception that it was handling.
    """

    owner: Owner
    depth: int
    claim: Claim | None
    handled: BaseException | None


class Sessions:
    """Makes the store's sessions, and finds the one that the caller is in."""

    def __init__(
        self,
        context: StoreContext,
        transactions: TransactionHook,
        hook: SessionHook,
        refresher: Refresher,
        cache: CacheFile,
    ) -> None:
        self._context = context
        self._transactions = transactions
        self.hook = hook
        self._refresher = refresher
        self._cache = cache
        self._current: dict[Owner, list[Session | StoreCall]] = {}
        self._writers = context.engine.execution_options(**WRITER)
        self._readers = context.engine

    def current(self) -> Session | StoreCall | None:
        """Return the session or call that the caller is in."""
        if not self._current:
            return None
        stack = self._current.get(current_owner())
        return stack[-1] if stack else None

    def run(self, call: Callable[[], T]) -> T:
        """Run a call of the store, and release whatever it still holds.

        It holds something only if an exception came between the end of a block and the release of
        what the block held. An exception may come at any instruction, so a `with` cannot prevent
        that.
        """
        before = self._before()
        try:
            result = call()
            self._settle(before)
            return result
        except BaseException as error:
            # Also if the exception came in the middle of that.
            self._settle(before)
            original = _original(error, before.handled)
            if original is error:
                raise
            raise original from None

    def _before(self) -> _Before:
        owner = current_owner()
        depth = len(self._current.get(owner, ()))
        return _Before(owner, depth, self._context.log_lock.holder, sys.exc_info()[1])

    def _settle(self, before: _Before) -> None:
        lock = self._context.log_lock
        if lock.held and lock.holder is not before.claim:
            lock.release()
        if before.depth == 0:
            self._transactions.abandon(before.owner)
        stack = self._current.get(before.owner)
        if stack is not None:
            del stack[before.depth :]
            if not stack:
                self._current.pop(before.owner, None)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Run a block that commits at its end; inside another block, it is a savepoint."""
        outer = self.current()
        if outer is not None:
            self._check_writable(outer)
            if isinstance(outer, StoreCall):
                with self._nested(outer, read_only=False) as inner, self._joined(inner):
                    yield inner
                    inner.commit()
                return
            with outer.begin_nested():
                yield outer
            return
        before = self._before()
        try:
            with self._opened(self._writers) as session, self._joined(session):
                yield session
                session.commit()
        finally:
            self._settle(before)

    @contextmanager
    def session(self, *, read_only: bool = False) -> Iterator[Session]:
        """Yield a session that its user commits; inside another one, the commit is a savepoint."""
        outer = self.current()
        if outer is not None:
            with self._nested(outer, read_only=read_only) as inner, self._joined(inner):
                yield inner
            return
        bind = self._readers if read_only or self._context.read_only else self._writers
        before = self._before()
        try:
            with self._opened(bind) as session, self._joined(session):
                if bind is self._readers:
                    session.info[READ_ONLY] = True
                yield session
        finally:
            self._settle(before)

    def write(self, collection: str, operation: str, call: Callable[[Work], T]) -> T:
        """Call a function in the write transaction of a call of the store, or the one it joins."""
        if self._context.read_only:
            raise self._context.read_only_error(operation)
        current = self.current()
        if current is not None:
            self._check_writable(current, operation)
            return call(self._work_on(self.settled(current)))
        self._context.check_open()
        self._cache.check()
        try:
            kept = self._cache.kept
            if kept.keep:
                return kept.run(lambda pooled: self._written(pooled, collection, call))
            with self._writers.begin() as connection:
                return self._called(self._work_on(connection), collection, call)
        except DatabaseErrors as error:
            meant = translated(error, self._context)
            if meant is None:
                raise
            raise meant from error

    def _work_on(self, connection: Connection) -> Work:
        return ConnectionWork(connection, self._transactions.locked(connection))

    def _written(self, pooled: Any, collection: str, call: Callable[[Work], T]) -> T:
        work = DirectWork(self._transactions, pooled, self._context.models.record_table)
        try:
            work.begin()
            result = self._called(work, collection, call)
            work.commit()
            return result
        except BaseException:
            work.end()
            raise

    def _called(self, work: Work, collection: str, call: Callable[[Work], T]) -> T:
        with self._joined(StoreCall(work)):
            if self._context.refresh:
                self._refresher.in_transaction(work, [collection])
            return call(work)

    def settled(self, current: Session | StoreCall) -> Connection:
        """Return the connection of a session or call, after collecting what it has written."""
        current.flush()
        connection = current.connection()
        self._transactions.settle(connection)
        return connection

    def expire(self, changes: Changes, collection: str, ids: Sequence[str]) -> None:
        """Expire rows of the joined session that a call wrote without it.

        Expire them again after a rollback to a savepoint: SQLAlchemy then expires only what the
        session itself has changed, and a row may have been read since.
        """
        current = self.current()
        if not isinstance(current, Session) or not ids:
            return
        self._expire(current, collection, ids)
        changes.on_undo(lambda: self._expire(current, collection, ids))

    def _expire(self, session: Session, collection: str, ids: Iterable[str]) -> None:
        expire_records(self._context.models, session, [(collection, id) for id in ids])

    def after_begin(
        self, session: Session, transaction: SessionTransaction, connection: Connection
    ) -> None:
        """Update the cache, first thing in a transaction."""
        if transaction.nested or not self._context.refresh:
            return
        if session.info.get(READ_ONLY):
            # BEGIN alone takes no snapshot: the next read sees what this brings.
            self._refresher.before_read(None)
        elif session.info.get(_JOINED) is None:
            unit = self._transactions.unit(connection)
            self._refresher.in_transaction(ConnectionWork(connection, unit), None)

    @contextmanager
    def _opened(self, bind: Engine) -> Iterator[Session]:
        self._context.check_open()
        if bind is self._writers and self._context.read_only:
            raise self._context.read_only_error("begin a transaction")
        self._cache.check()
        session, handled = StoreSession(self, bind), sys.exc_info()[1]
        try:
            yield session
        except BaseException as raised:
            error = _given_up(session, raised)
            original = _original(error, handled)
            if original is not error:
                raise original from None
            meant = translated(error, self._context) if isinstance(error, DatabaseErrors) else None
            if meant is not None:
                raise meant from error
            if error is raised:
                raise
            raise error from raised
        else:
            session.close()

    @contextmanager
    def _nested(self, outer: Session | StoreCall, *, read_only: bool) -> Iterator[Session]:
        outer.flush()
        inner = StoreSession(self, outer.connection(), join_transaction_mode="create_savepoint")
        inner.info.update({_JOINED: True, READ_ONLY: read_only or outer.info.get(READ_ONLY)})
        try:
            yield inner
        finally:
            inner.close()
            outer.expire_all()

    @contextmanager
    def _joined(self, session: Session | StoreCall) -> Iterator[None]:
        """Make a session or a call the one that the store's calls join in this context."""
        owner = current_owner()
        self._current.setdefault(owner, []).append(session)
        try:
            yield
        finally:
            stack = self._current.get(owner, [])
            if session in stack:
                stack.remove(session)
            if not stack:
                self._current.pop(owner, None)

    def _check_writable(
        self, session: Session | StoreCall, operation: str = "begin a transaction"
    ) -> None:
        if session.info.get(READ_ONLY):
            raise self._context.read_only_error(operation)


def _given_up(session: Session, error: BaseException) -> BaseException:
    """Roll a session back and close it; return the error that ended it, or one raised here."""
    for end in (session.rollback, session.close):
        try:
            # A session whose commit was interrupted refuses both. Its connection is closed later.
            with suppress(InvalidRequestError):
                end()
        except Exception as failed:  # noqa: BLE001 - it is raised instead, or what led to it
            error = failed
    return error


def _original(error: BaseException, handled: BaseException | None) -> BaseException:
    """Return the first exception, if it was meant to end the program or the call.

    SQLAlchemy lets such an exception pass. But if SQLAlchemy itself was interrupted, its cleanup
    may fail and raise another one instead, such as an AssertionError.

    Args:
        error: The exception that was raised in the end.
        handled: The exception that the caller was already handling.
    """
    first: BaseException | None = error
    while isinstance(first, Exception) and first is not handled:
        first = first.__context__
    return error if first is None or first is handled else first


def _dispatched(owner: Callable[[StoreSession], Any], name: str) -> Callable[..., None]:
    """Return a listener on the sessions of all stores that passes an event to the right store."""

    def listener(first: Any, *others: Any) -> None:
        session: StoreSession = getattr(first, "session", first)
        getattr(owner(session), name)(first, *others)

    return listener


for _name in SESSION_EVENTS:
    event.listen(StoreSession, _name, _dispatched(lambda session: session.sessions.hook, _name))
event.listen(
    StoreSession, "after_begin", _dispatched(lambda session: session.sessions, "after_begin")
)
