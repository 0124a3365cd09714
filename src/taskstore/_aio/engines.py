"""An application's asyncio engine, and a second engine for the store's calls.

The store's calls run in threads, where an asyncio engine cannot be used. They have a synchronous
engine on the same database. Hooks follow what the application's sessions write; on SQLite they
share the store's locks, log writer and state.
"""

from __future__ import annotations

from typing import Any, Protocol

import attrs
from sqlalchemy import URL, create_engine, event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)

from taskstore._api.store import Store
from taskstore._cache.engine.bridge import away
from taskstore._unit.session_hook import SessionHook
from taskstore._unit.transaction import TransactionHook
from taskstore.errors import UntrackedWriteError

_SHARED_PRAGMAS = ("busy_timeout", "foreign_keys", "recursive_triggers", "synchronous")
"""The pragmas that an application sets, and that our connections must set too."""

_CLASS = "sync_session_class"


async def engine_beside(engine: AsyncEngine) -> Engine:
    """Return a synchronous engine on the database of an asyncio one.

    Raises:
        UntrackedWriteError: Its driver is not supported, its database is in memory, or a
            synchronous driver cannot reach it.
    """
    if engine.dialect.name == "postgresql":
        from taskstore._postgres.beside import postgres_beside  # most databases are SQLite's

        return await postgres_beside(engine)
    if engine.dialect.name != "sqlite" or engine.dialect.driver != "aiosqlite":
        raise UntrackedWriteError(
            statement=f"a store on {engine!r}",
            remedy="give it an engine for sqlite+aiosqlite or postgresql+asyncpg, or none",
        )
    async with engine.connect() as connection:
        path, pragmas = await connection.run_sync(_look)
    if not path:
        raise UntrackedWriteError(
            statement=f"a store on {engine!r}, whose database is in memory",
            remedy="give it an engine on a file: the store's own calls use it in threads",
        )
    # The content of JSON columns must not depend on the engine that writes them.
    dialect: Any = engine.dialect
    second = create_engine(
        URL.create("sqlite", database=path),
        json_serializer=dialect._json_serializer,
        json_deserializer=dialect._json_deserializer,
    )

    @event.listens_for(second, "connect")
    def connect(driver: Any, record: Any) -> None:
        for name, value in pragmas.items():
            driver.execute(f"PRAGMA {name} = {value}")

    return second


def _look(connection: Connection) -> tuple[str, dict[str, int]]:
    """Return the file of a database, and the settings of its connections."""
    return away(connection, _looked)


def _looked(driver: Any) -> tuple[str, dict[str, int]]:
    files = {name: path for _, name, path in driver.execute("PRAGMA database_list")}
    pragmas = {
        name: int(driver.execute(f"PRAGMA {name}").fetchone()[0]) for name in _SHARED_PRAGMAS
    }
    return files["main"], pragmas


@attrs.define(eq=False)
class _Attached:
    """The hook of a target, and how to undo it.

    Attributes:
        target: The argument of `attach`.
        factory: The factory whose class of sessions was replaced, if it is one.
        before: The class that the factory had, if any.
        hooked: The object that the hook listens on.
    """

    target: Any
    factory: async_sessionmaker[Any] | None
    before: Any
    hooked: Any


class _Transactions(Protocol):
    def install(self) -> None: ...

    def remove(self) -> None: ...


class _Hook(Protocol):
    def attach(self, target: Any, /) -> None: ...

    def detach(self, target: Any, /) -> None: ...


def hooks_for(store: Store, engine: AsyncEngine) -> AsyncEngineHooks:
    """Return the hooks of a store on the asyncio engine of its application."""
    if engine.dialect.name == "postgresql":
        from taskstore._api.postgres_calls import hooks_on  # as above

        return AsyncEngineHooks(engine, *hooks_on(store, engine.sync_engine))
    transactions = TransactionHook(store._context, engine.sync_engine)
    return AsyncEngineHooks(engine, transactions, SessionHook(store._context, transactions))


class AsyncEngineHooks:
    """The hooks of one store on an asyncio engine and its sessions.

    Args:
        engine: The application's.
        transactions: Follows its transactions; None if nothing has to.
        hook: Follows the sessions that are attached.
    """

    def __init__(
        self, engine: AsyncEngine, transactions: _Transactions | None, hook: _Hook
    ) -> None:
        self._engine = engine
        self._transactions = transactions
        self._hook = hook
        self._attached: list[_Attached] = []

    def install(self) -> None:
        """Follow the engine's transactions."""
        if self._transactions is not None:
            self._transactions.install()

    def remove(self) -> None:
        """Remove all hooks."""
        for known in list(self._attached):
            self.detach(known.target)
        if self._transactions is not None:
            self._transactions.remove()

    def attach(self, target: Any) -> None:
        """Hook an asyncio session or a factory of such sessions. You may call it twice.

        Raises:
            UntrackedWriteError: It is bound to another engine, or cannot be hooked.
        """
        if any(known.target is target for known in self._attached):
            return
        self._check(target)
        if isinstance(target, AsyncSession):
            self._hook.attach(target.sync_session)
            self._attached.append(_Attached(target, None, None, target.sync_session))
            return
        factory = _factory_of(target)
        before = factory.kw.get(_CLASS)
        base = before or factory.class_.sync_session_class
        # Listeners on the existing class would see sessions of other applications.
        hooked = type(f"Attached{base.__name__}", (base,), {})
        self._hook.attach(hooked)
        factory.configure(**{_CLASS: hooked})
        self._attached.append(_Attached(target, factory, before, hooked))

    def detach(self, target: Any) -> None:
        """Remove the hook, and restore a factory's class of sessions."""
        for known in self._attached:
            if known.target is target:
                self._attached.remove(known)
                self._hook.detach(known.hooked)
                _restore(known)
                return

    def _check(self, target: Any) -> None:
        factory = _factory_of(target)
        if factory is None and not isinstance(target, AsyncSession):
            raise UntrackedWriteError(
                statement=f"attach to {target!r}",
                remedy="give an AsyncSession, an async_sessionmaker or an async_scoped_session",
            )
        bind = target.bind if factory is None else factory.kw.get("bind")
        sync = getattr(bind, "sync_engine", None) or getattr(bind, "engine", None)
        dialect = getattr(sync, "dialect", None)
        if bind is not None and dialect is not self._engine.sync_engine.dialect:
            raise UntrackedWriteError(
                statement=f"attach to a session that is bound to {bind!r}",
                remedy="bind it to the asyncio engine that was given to AsyncStore.open",
            )


def is_for_asyncio(target: Any) -> bool:
    """Return whether something is a session of asyncio, a class of them, or a factory."""
    kinds = (AsyncSession, async_sessionmaker, async_scoped_session)
    return isinstance(target, kinds) or (
        isinstance(target, type) and issubclass(target, AsyncSession)
    )


def _factory_of(target: Any) -> Any:
    found = target.session_factory if isinstance(target, async_scoped_session) else target
    return found if isinstance(found, async_sessionmaker) else None


def _restore(known: _Attached) -> None:
    # Somebody else may have configured it since.
    if known.factory is None or known.factory.kw.get(_CLASS) is not known.hooked:
        return
    if known.before is None:
        del known.factory.kw[_CLASS]
    else:
        known.factory.configure(**{_CLASS: known.before})
