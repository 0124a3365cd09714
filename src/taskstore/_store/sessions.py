"""Sessions and transactions: the one write path, for users and for the store's own calls."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.orm.util import identity_key

from taskstore._store.cache_file import CacheFile
from taskstore._store.changes import Changes
from taskstore._store.context import StoreContext
from taskstore._store.refresh import Refresher
from taskstore._store.session_hook import READ_ONLY, SESSION_EVENTS, SessionHook
from taskstore._store.sqlite_errors import DatabaseErrors, translated
from taskstore._store.transaction import WRITER
from taskstore.errors import StoreReadOnlyError

_JOINED = "taskstore_joined"

Owner = tuple[int, int, Any]
"""A process, a thread, and the asyncio task that runs in it, if one does."""


class StoreSession(Session):
    """A session of a store's own.

    All stores share this class and its listeners: those of a class are kept for as long as the
    process lives, so a class for each store would keep every store that was ever opened.
    """

    def __init__(self, sessions: Sessions, bind: Any, **options: Any) -> None:
        super().__init__(bind, **options)
        self.sessions = sessions


class StoreCall:
    """One of the store's own calls, in a transaction that has no session.

    What it calls in turn, by way of a validator or a converter of the user's, joins it as it would
    join a session.

    Attributes:
        info: as that of a session.
    """

    __slots__ = ("_connection", "info")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.info: dict[str, Any] = {}

    def connection(self) -> Connection:
        """Return the connection of the transaction."""
        return self._connection

    def flush(self) -> None:
        """Do nothing: there are no objects."""

    def expire_all(self) -> None:
        """Do nothing: there are no objects."""


class Sessions:
    """Makes the store's sessions, and knows which one the caller is in."""

    def __init__(
        self, context: StoreContext, hook: SessionHook, refresher: Refresher, cache: CacheFile
    ) -> None:
        self._context = context
        self.hook = hook
        self._refresher = refresher
        self._cache = cache
        self._current: dict[Owner, list[Session | StoreCall]] = {}
        self._writers = context.engine.execution_options(**WRITER)
        self._readers = context.engine

    def current(self) -> Session | StoreCall | None:
        """The session of the `transaction` or `session` block that the caller is in, or a call."""
        if not self._current:
            return None
        stack = self._current.get(_owner())
        return stack[-1] if stack else None

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A block that commits at its end; within another, a savepoint of it."""
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
        with self._opened(self._writers) as session, self._joined(session):
            yield session
            session.commit()

    @contextmanager
    def session(self, *, read_only: bool = False) -> Iterator[Session]:
        """A session that its user commits; within another, one whose commit is a savepoint."""
        outer = self.current()
        if outer is not None:
            with self._nested(outer, read_only=read_only) as inner, self._joined(inner):
                yield inner
            return
        bind = self._readers if read_only or self._context.read_only else self._writers
        with self._opened(bind) as session, self._joined(session):
            if bind is self._readers:
                session.info[READ_ONLY] = True
            yield session

    @contextmanager
    def writing(self, collection: str, operation: str) -> Iterator[Connection]:
        """The write transaction of one of the store's own calls, or the one that it joins."""
        if self._context.read_only:
            raise StoreReadOnlyError(self._context.path, operation=operation)
        current = self.current()
        if current is not None:
            self._check_writable(current, operation)
            current.flush()
            yield current.connection()
            return
        self._context.check_open()
        self._cache.check()
        try:
            with self._writers.begin() as connection, self._joined(StoreCall(connection)):
                if self._context.refresh:
                    self._refresher.in_transaction(connection, [collection])
                yield connection
        except DatabaseErrors as error:
            meant = translated(error, self._context)
            if meant is None:
                raise
            raise meant from error

    def expire(self, changes: Changes, collection: str, ids: Sequence[str]) -> None:
        """Have the joined session read rows again that were written behind its back.

        And once more if that is rolled back to a savepoint: SQLAlchemy then expires only what the
        session itself has changed, and a row may have been read since.
        """
        current = self.current()
        if not isinstance(current, Session) or not ids:
            return
        self._expire(current, collection, ids)
        changes.on_undo(lambda: self._expire(current, collection, ids))

    def _expire(self, session: Session, collection: str, ids: Iterable[str]) -> None:
        known = session.identity_map
        if not known:
            return
        model = self._context.models.StoredRecord
        for id in ids:
            row = known.get(identity_key(model, (collection, id)))
            if row is not None:
                session.expire(row)

    def after_begin(
        self, session: Session, transaction: SessionTransaction, connection: Connection
    ) -> None:
        """Bring the cache up to date, as the first thing in a transaction."""
        if transaction.nested or not self._context.refresh:
            return
        if session.info.get(READ_ONLY):
            # BEGIN alone takes no snapshot: what is read next is what this brings.
            self._refresher.before_read(None)
        elif session.info.get(_JOINED) is None:
            self._refresher.in_transaction(connection, None)

    @contextmanager
    def _opened(self, bind: Engine) -> Iterator[Session]:
        self._context.check_open()
        if bind is self._writers and self._context.read_only:
            raise StoreReadOnlyError(self._context.path, operation="begin a transaction")
        self._cache.check()
        session = StoreSession(self, bind)
        try:
            yield session
        except DatabaseErrors as error:
            session.rollback()
            meant = translated(error, self._context)
            if meant is None:
                raise
            raise meant from error
        except BaseException:
            session.rollback()
            raise
        finally:
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
        """Make a session, or a call, the one that the store's own calls join, here and now."""
        owner = _owner()
        self._current.setdefault(owner, []).append(session)
        try:
            yield
        finally:
            stack = self._current[owner]
            stack.remove(session)
            if not stack:
                del self._current[owner]

    def _check_writable(
        self, session: Session | StoreCall, operation: str = "begin a transaction"
    ) -> None:
        if session.info.get(READ_ONLY):
            raise StoreReadOnlyError(self._context.path, operation=operation)


def _dispatched(owner: Callable[[StoreSession], Any], name: str) -> Callable[..., None]:
    """A listener on all stores' sessions that passes an event on to the session's own store."""

    def listener(first: Any, *others: Any) -> None:
        session: StoreSession = getattr(first, "session", first)
        getattr(owner(session), name)(first, *others)

    return listener


for _name in SESSION_EVENTS:
    event.listen(StoreSession, _name, _dispatched(lambda session: session.sessions.hook, _name))
event.listen(
    StoreSession, "after_begin", _dispatched(lambda session: session.sessions, "after_begin")
)


def _owner() -> Owner:
    asyncio = sys.modules.get("asyncio")
    task = None
    # A store that is used without asyncio does not import it.
    if asyncio is not None and asyncio._get_running_loop() is not None:
        task = asyncio.current_task()
    return os.getpid(), threading.get_ident(), task
