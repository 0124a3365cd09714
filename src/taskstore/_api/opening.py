"""Check and prepare the arguments of `Store.open` and `Store.attach`."""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL, Engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from taskstore._cache.engine.sqlite import create_cache_engine, create_memory_engine
from taskstore._cache.schema.models import Models
from taskstore._log.commit import LogWriter
from taskstore._log.gate import Gate, LocalGate
from taskstore._log.layout import Layout
from taskstore._log.locks import directory_lock
from taskstore._mirror.mirrors import Mirrors
from taskstore._records.interface import RecordCodec
from taskstore._store.catalog import Catalog
from taskstore._store.context import StoreContext
from taskstore._store.seal import CacheSeal
from taskstore.errors import (
    InvalidDeclarationError,
    StoreAccessError,
    StoreNotFoundError,
    UnsupportedError,
    UntrackedWriteError,
)

_REMEDY_ASYNC = (
    "the log is written by blocking calls: use AsyncStore.open(..., engine=...) and its attach, or "
    "a synchronous engine whose sessions run in threads (asyncio.to_thread)"
)


_REMEDY_PATH = "give the path of the store's directory, such as '.taskstore'"
_REMEDY_DATABASE = (
    "give the path of the store's directory first, and the application's database as "
    "engine=create_engine(...)"
)
# A scheme has two or more characters: one is a drive on Windows. A Path turns two slashes into one.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_CREDENTIALS = re.compile(r"//[^/@]*@")


def layout_of(path: str | os.PathLike[str]) -> Layout:
    """Return the store directory of a path. It is absolute: the working directory may change."""
    try:
        name = os.fspath(path)
        if not isinstance(name, str):
            raise TypeError("a path is a str or a Path")
        if not name or "\0" in name:
            raise ValueError("it is not the path of a directory")
        if _URL.match(name):
            raise ValueError("it is a URL, and a store is a directory")
        return Layout(Path(os.path.abspath(name)))
    except (OSError, TypeError, ValueError) as error:
        remedy = _REMEDY_DATABASE if _is_database(path) else _REMEDY_PATH
        raise StoreAccessError(
            _shown(path), operation="open", reason=str(error), remedy=remedy
        ) from error


def _shown(value: Any) -> str:
    """Return a value for a message, without the user and the password of a URL."""
    return _CREDENTIALS.sub("//***@", repr(value))


def _is_database(path: Any) -> bool:
    if isinstance(path, str | os.PathLike):
        return _URL.match(str(path)) is not None
    return isinstance(path, Engine | URL | Session) or hasattr(path, "sync_engine")


def own_engine_of(
    layout: Layout, models: Models, *, seal: CacheSeal | None, lock_timeout: float
) -> Engine:
    """Return the store's own engine: on its sealed file, or in memory for a read-only store."""
    if seal is None:
        return create_memory_engine(models)
    # SQLite takes whole milliseconds, 0 to 2**31 - 1.
    timeout = int(min(max(lock_timeout, 0.0) * 1000, 2**31 - 1))
    return create_cache_engine(layout.cache_path, models, busy_timeout_ms=timeout, seal=seal)


def open_context(
    layout: Layout,
    engine: Engine | None,
    mirrors: Any,
    models: Models,
    *,
    read_only: bool,
    create: bool,
    lock_timeout: float,
    migrate: bool,
    **facts: Any,
) -> StoreContext:
    """Return the context of a store, whose directory is prepared.

    Args:
        layout: The directory.
        engine: The application's; None for a cache of the store's own.
        mirrors: The models that it mirrors.
        models: The models of the store's tables.
        read_only: Whether nothing is written.
        create: Whether the directory may be created.
        lock_timeout: How long to wait for another writer, in seconds.
        migrate: Whether the schema of `engine` may be upgraded.
        facts: More attributes of the context.
    """
    mirrored = mirrors_of(mirrors, None if read_only else engine, models)
    prepare(layout, create=create and not read_only, read_only=read_only)
    seal = CacheSeal(layout) if engine is None and not read_only else None
    is_own = engine is None
    if engine is None:
        engine = own_engine_of(layout, models, seal=seal, lock_timeout=lock_timeout)
    return StoreContext(
        layout=layout,
        engine=engine,
        models=models,
        gate=LocalGate(layout.directory) if read_only else Gate(layout),
        log_lock=directory_lock(layout),
        writer=LogWriter(layout, lock_timeout=lock_timeout),
        lock_timeout=lock_timeout,
        read_only=read_only,
        own_engine=is_own,
        migrate=is_own or migrate,
        create=create and not read_only,
        mirrors=mirrored,
        seal=seal,
        **facts,
    )


def prepare(layout: Layout, *, create: bool, read_only: bool) -> None:
    """Make sure that the directory exists and has a supported version."""
    layout.check_place()
    if not _is_directory(layout.directory):
        if not create:
            raise StoreNotFoundError(layout.directory)
        layout.create()
    elif read_only:
        layout.check_version()
    else:
        layout.prepare()


def _is_directory(path: Path) -> bool:
    """Say whether the directory exists; refuse a file in its place.

    It looks only once, because another thread may create the directory between two looks.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StoreAccessError(
            path, operation="open", reason=error.strerror or str(error), errno=error.errno
        ) from error
    if not stat.S_ISDIR(mode):
        raise StoreAccessError(
            path,
            operation="open",
            reason="it is a file, and a store is a directory",
            remedy="give the path of the directory that has the logs",
        )
    return True


def check_timeout(lock_timeout: Any) -> None:
    """Check that a timeout is a number of seconds.

    Raises:
        InvalidDeclarationError: It is NaN, or not a number.
    """
    is_number = isinstance(lock_timeout, int | float) and not isinstance(lock_timeout, bool)
    if not is_number or math.isnan(lock_timeout):
        raise InvalidDeclarationError(
            f"lock_timeout={_shown(lock_timeout)}",
            reason="it takes a number of seconds: lock_timeout=30.0",
        )


def check_engine(engine: Any, *, read_only: bool = False) -> None:
    """Refuse an engine whose transactions cannot be followed, and options that it does not support.

    Raises:
        UntrackedWriteError: Its database or its driver is not supported.
        UnsupportedError: The engine is for PostgreSQL, and an option is not possible there.
    """
    if isinstance(engine, str | URL | Session):
        is_session = isinstance(engine, Session)
        call = "session.get_bind()" if is_session else f"create_engine({_shown(str(engine))})"
        raise UntrackedWriteError(
            statement=f"a store on {_shown(engine)}", remedy=f"engine takes an Engine: give {call}"
        )
    dialect = getattr(engine, "dialect", None)
    if dialect is not None and dialect.is_async:
        raise UntrackedWriteError(statement=f"a store on {engine!r}", remedy=_REMEDY_ASYNC)
    if dialect is not None and dialect.name == "postgresql" and dialect.driver != "psycopg":
        raise UntrackedWriteError(
            statement=f"a store on {engine!r}",
            remedy="use psycopg 3: pip install 'taskstore[postgresql]', and a URL that begins with "
            "postgresql+psycopg://",
        )
    known = dialect is not None and dialect.name in ("sqlite", "postgresql")
    if dialect is None or not known or not isinstance(engine, Engine):
        raise UntrackedWriteError(
            statement=f"a store on {engine!r}",
            remedy="give it an engine for SQLite or PostgreSQL, or none: then it makes a cache of "
            "its own",
        )
    if dialect.name == "postgresql":
        _check_options(engine, read_only=read_only)


def _check_options(engine: Engine, *, read_only: bool) -> None:
    """Refuse options that are not possible on PostgreSQL."""
    if read_only:
        raise UnsupportedError(
            operation="read_only=True", remedy="leave out the engine: the logs are read then"
        )
    # Registers how its column types are logged, before any model is read.
    import taskstore._postgres.codecs  # noqa: F401
    from taskstore._postgres.flush import check_schemas

    check_schemas(engine.get_execution_options())


def check_bind(target: Any, engine: Engine) -> None:
    """Refuse a session or session factory that uses another database."""
    factory = getattr(target, "session_factory", target)
    if hasattr(getattr(factory, "class_", factory), "sync_session_class"):
        raise UntrackedWriteError(statement=f"attach to {target!r}", remedy=_REMEDY_ASYNC)
    is_class = isinstance(target, type) and issubclass(target, Session)
    if not (is_class or isinstance(target, Session | sessionmaker | scoped_session)):
        raise UntrackedWriteError(
            statement=f"attach to {target!r}",
            remedy="give a Session, a class of sessions, a sessionmaker or a scoped_session",
        )
    bind = getattr(factory, "kw", {}).get("bind") or getattr(factory, "bind", None)
    if bind is not None and getattr(bind, "dialect", None) is not engine.dialect:
        raise UntrackedWriteError(
            statement=f"attach to a session that is bound to {bind!r}",
            remedy="bind it to the store's engine (Store.engine), or open the store with "
            "engine=... of the application",
        )


def mirrors_of(targets: Any, engine: Engine | None, models: Models) -> Mirrors:
    """Return the application's models that a store mirrors.

    Raises:
        InvalidDeclarationError: A model cannot be mirrored, or no engine was given.
    """
    if isinstance(targets, list | tuple | set | frozenset) and not targets:
        return Mirrors()
    if engine is None:
        raise InvalidDeclarationError(
            "mirrors",
            reason="the rows are in the application's database: give its engine with engine=..., "
            "and not read_only",
        )
    from taskstore._mirror.model.resolve import resolve  # most stores mirror nothing

    keys = models.MirrorKey.__table__.name
    return Mirrors(tuple(resolve(targets, engine.dialect, models.table_names, keys)))


def codecs_of(types: Any, catalog: Catalog) -> list[RecordCodec[Any]]:
    """Return the record types that a store knows from the start.

    Raises:
        InvalidDeclarationError: The argument is not a collection of record classes.
    """
    if isinstance(types, str | bytes | Mapping | type) or not isinstance(types, Iterable):
        raise InvalidDeclarationError(
            repr(types), reason="types takes a list of record classes: types=[Plan]"
        )
    return [catalog.codec(type_) for type_ in types]
