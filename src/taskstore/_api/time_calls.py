"""The calls of a store that look at the past."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import URL, MetaData, create_engine
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateTable

from taskstore._api.opening import mirrors_of, own_engine_of
from taskstore._api.past_caches import start_from_another
from taskstore._api.sessions import Sessions
from taskstore._cache.engine.bridge import closing
from taskstore._cache.rows.rows import Rows
from taskstore._format.fingerprint import Fingerprint
from taskstore._format.instants import format_rfc3339, parse_instant
from taskstore._format.names import EVOLUTIONS
from taskstore._log import files
from taskstore._log.commit import LogWriter
from taskstore._log.files import access
from taskstore._log.gate import Gate
from taskstore._log.lines import BOM, read_bytes
from taskstore._log.locks import directory_lock
from taskstore._log.snapshots import Snapshot, copy_until, key_of, snapshot
from taskstore._store.catalog import Catalog
from taskstore._store.context import StoreContext
from taskstore._store.seal import CacheSeal
from taskstore._sync.cache_file import CacheFile
from taskstore._sync.refresh import Refresher
from taskstore._sync.sync import Progress
from taskstore.errors import ConfigError, GitError, StoreAccessError, TransactionOpenError

if TYPE_CHECKING:
    from taskstore._api.revisions import RevisionSession

_ATTEMPTS = 10
_VERSION = "1"
"""The format of a copy. A new number makes new copies."""


class TimeCalls:
    """The calls that open the store and the history as they were."""

    _cache: CacheFile
    _catalog: Catalog
    _context: StoreContext
    _refresher: Refresher
    _sessions: Sessions
    _on_sqlite: type[Any] | None = None
    """The class of stores on SQLite; None if this is one."""

    def __init__(self, context: StoreContext) -> None:
        """Assemble a store; use `Store.open`."""
        raise NotImplementedError

    def as_of(
        self,
        when: str | int | datetime,
        /,
        *,
        types: Iterable[type[Any]] = (),
        mirrors: Iterable[Any] = (),
        on_progress: Progress | None = None,
    ) -> Self:
        """Open the store as it was. It is read-only, with all calls that read.

        It has its own cache, which is kept beside the mark of this clone. So a second call for the
        same logs does not read them again. Lines are read in today's shape, with today's
        evolutions and those of the revision. Close it like any other store.

        Args:
            when: A revision in any form that git understands, such as "v1.2", "main~3" or
                "HEAD@{yesterday}", for the logs as they are in this commit. Or a time, as a
                datetime with an offset or in milliseconds since the epoch, for the logs as they
                are now, without records and deletions that have a later `updated_at`. A
                compaction removes older versions from the logs; for these, name a commit before
                it.
            types: Record classes to index in its cache. Others are added when they are first used.
            mirrors: Models of the application, as in `Store.open`. Their tables are created in a
                separate database, and `session` gives a session on it.
            on_progress: Called while logs are read, as in `Store.open`.

        Raises:
            CommitNotFoundError: Git does not know the revision.
            GitObjectMissingError: The clone is partial and lacks a log of the revision.
            GitError: The store is not in a repository, or a git command failed.
            InvalidDeclarationError: Something in `mirrors` cannot be mirrored.
            StoreAccessError: The operating system refused a file.
        """
        self._context.check_open()
        if not isinstance(mirrors, list | tuple | set | frozenset):
            mirrors = list(mirrors)
        if isinstance(when, str):
            copy, name = _at_revision(self._context, when)
        else:
            copy, name = self._at_time(parse_when(when))
        opening = partial(self._open_past, copy, name, types, mirrors, on_progress)
        try:
            return opening()
        except BaseException:
            copy.release()
            raise

    @contextmanager
    def history_session(self, *types: Any) -> Iterator[Session]:
        """Yield a session that can read the history. It cannot write.

        Besides the tables of the cache and of mirrored models, it can select from `RecordVersion`,
        `RecordChange` and `RecordBlame` of `taskstore.models`. They are updated when the block
        begins: from new commits in git, and from today's logs.

        Args:
            types: Record classes or names of the collections to include; none for all.

        Raises:
            GitError: A git command failed, or this is a store of the past.
            StoreAccessError: The operating system refused a file.
            TransactionOpenError: The caller is inside a transaction.
        """
        from taskstore._api.history_session import history_session

        self._see_present("open the history")
        names = [self._catalog.codec(each).collection for each in types] or None
        with history_session(self._context, names) as session:
            yield session

    @contextmanager
    def revisions(
        self,
        named: Mapping[str, str | int | datetime],
        /,
        *,
        mirrors: Iterable[Any] = (),
        on_progress: Progress | None = None,
    ) -> Iterator[RevisionSession]:
        """Yield one session that sees the store now and as it was at some revisions.

        In SQL, the tables of a revision have its name before theirs, as in `old.records`. The
        session cannot write. See `RevisionSession.model` for queries with the ORM.

        Args:
            named: For each revision a name, and what `as_of` takes: at most 8. Names have ASCII
                letters, digits and `_`.
            mirrors: Models of the application to see as they were, as in `as_of`.
            on_progress: Called while logs are read, as in `Store.open`.

        Raises:
            InvalidNameError: A name is not allowed.
            CommitNotFoundError, GitObjectMissingError, GitError: As for `as_of`.
            TransactionOpenError: The caller is inside a transaction.
            UnsupportedError: The store is on PostgreSQL.
            ValueError: There are no revisions, or too many.
        """
        from taskstore._api.revisions import check_names, revisions_session

        check_names(named)
        self._see_present("open revisions")
        mirrors = mirrors if isinstance(mirrors, list | tuple | set | frozenset) else list(mirrors)
        with ExitStack() as stack:
            past: dict[str, StoreContext] = {}
            for name, when in named.items():
                opened: Any = self.as_of(when, mirrors=mirrors, on_progress=on_progress)
                past[name] = stack.enter_context(opened)._context
            yield stack.enter_context(revisions_session(self._context, past))

    def _see_present(self, operation: str) -> None:
        """Make sure that the cache has what the logs have, for a session that joins the past."""
        self._check_present()
        if self._sessions.current() is not None:
            raise TransactionOpenError(operation=operation)
        self._cache.check()
        if self._context.refresh:
            self._sessions.run(
                lambda: self._cache.retried(lambda: self._refresher.before_read(None))
            )

    def _check_present(self) -> None:
        self._context.check_open()
        if self._context.past is not None:
            raise GitError("git", reason=f"{self._context.past} has no history: ask the store")

    def _at_time(self, when_ms: int) -> tuple[Snapshot, str]:
        self._cache.check()
        if self._context.refresh and self._sessions.current() is None:
            self._sessions.run(
                lambda: self._cache.retried(lambda: self._refresher.before_read(None))
            )
        return copy_at(
            self._context, self._fingerprints, lambda: self._refresher.before_read(None), when_ms
        )

    def _fingerprints(self) -> dict[str, Fingerprint]:
        with (
            self._context.engine.connect() as connection,
            closing(connection.connection.cursor()) as cursor,
        ):
            return Rows(cursor, self._context.models).fingerprints()

    def _open_past(
        self,
        copy: Snapshot,
        name: str,
        types: Iterable[type[Any]],
        mirrors: Iterable[Any],
        on_progress: Progress | None,
    ) -> Self:
        now, layout = self._context, copy.layout
        engine = _engine_for(mirrors, copy, now.lock_timeout)
        mirrored = mirrors_of(mirrors, engine, now.models)
        seal = CacheSeal(layout) if engine is None else None
        own = engine is None
        if engine is None:
            start_from_another(copy, now.lock_timeout)
            engine = own_engine_of(layout, now.models, seal=seal, lock_timeout=now.lock_timeout)
        context = StoreContext(
            layout=layout,
            engine=engine,
            models=now.models,
            gate=Gate(layout),
            log_lock=directory_lock(layout),
            writer=LogWriter(layout, lock_timeout=now.lock_timeout),
            clock=now.clock,
            lock_timeout=now.lock_timeout,
            read_only=True,
            own_engine=own,
            refresh=True,
            migrate=True,
            create=False,
            on_progress=on_progress,
            mirrors=mirrored,
            seal=seal,
            past=f"{now.path} as of {name}",
            on_close=_ended(copy, None if own else engine),
        )
        store = (self._on_sqlite or type(self))(context)
        store._start(types)
        return store

    def _start(self, types: Iterable[type[Any]]) -> None:
        raise NotImplementedError


class _LogDiffersError(Exception):
    """A log differs from what the cache has read."""


def parse_when(when: int | datetime) -> int:
    """Return a time in milliseconds since the epoch.

    Raises:
        ValueError: It is not a time, has no offset, or is outside the years 1 to 9999.
    """
    if isinstance(when, datetime):
        if when.tzinfo is None:
            raise ValueError(f"{when!r} has no offset: give a time with a tzinfo, such as UTC")
        return parse_instant(when.isoformat()) // 1000
    return parse_instant(when) // 1000


def _ended(copy: Snapshot, engine: Engine | None) -> Callable[[], None]:
    def end() -> None:
        if engine is not None:
            engine.dispose()
        copy.release()

    return end


def _at_revision(context: StoreContext, revision: str) -> tuple[Snapshot, str]:
    """Return a copy of the logs in a commit, and a name for it."""
    from taskstore._git.objects import blob, logs_at
    from taskstore._git.repository import Repository

    repository = Repository.find(context.path)
    if repository is None:
        reason = f"{context.path} is not in a git repository: give a time in place of a revision"
        raise GitError("git", reason=reason)
    commit = repository.revision(revision)
    blobs = logs_at(repository, commit, context.path)
    folder = repository.name_of(context.path)
    now = _read_now(context, EVOLUTIONS)
    evolved = blobs.pop(EVOLUTIONS, None)
    then = b"" if evolved is None else blob(repository, evolved, f"{folder}/{EVOLUTIONS}.jsonl")
    evolutions = now if now == then else b"\n".join(filter(None, (now, then.removeprefix(BOM))))

    def fill(target: Path) -> None:
        for name, id in blobs.items():
            _put(target / f"{name}.jsonl", blob(repository, id, f"{folder}/{name}.jsonl"))
        _complete(target, evolutions, settings)

    settings = _settings(context)
    parts: dict[str, str | bytes] = {f"log {name}": id for name, id in blobs.items()}
    parts |= {"version": _VERSION, "settings": settings, "evolutions": evolutions}
    key = key_of(parts)
    copy = snapshot(context.layout, key, fill, keep=not context.read_only)
    return copy, revision if revision.startswith(commit) else f"{revision} ({commit[:12]})"


def copy_at(
    context: StoreContext,
    fingerprints: Callable[[], dict[str, Fingerprint]],
    refresh: Callable[[], object],
    when_ms: int,
) -> tuple[Snapshot, str]:
    """Return a copy of today's logs up to a time, and a name for it.

    Args:
        context: The store.
        fingerprints: Returns how far each log is known.
        refresh: Reads the logs that have changed.
        when_ms: The time, in milliseconds since the epoch.

    Raises:
        StoreAccessError: The logs keep changing.
    """
    for _ in range(_ATTEMPTS):
        try:
            return _copy_at(context, fingerprints(), when_ms)
        except _LogDiffersError as changed:
            reason = str(changed)
            refresh()
    raise StoreAccessError(context.path, operation="read", reason=reason)


def _copy_at(
    context: StoreContext, known: dict[str, Fingerprint], when_ms: int
) -> tuple[Snapshot, str]:
    logs = {name: found for name, found in known.items() if name != EVOLUTIONS}
    until_us = when_ms * 1000 + 999
    evolutions, settings = _read_now(context, EVOLUTIONS), _settings(context)

    def fill(target: Path) -> None:
        for name, found in logs.items():
            digest = context.digester.begin()
            source = context.layout.log_path(name)
            with access(source):
                read = copy_until(source, target / f"{name}.jsonl", found.size, until_us, digest)
            if read != found.digest:
                raise _LogDiffersError(f"{source} changes while it is read")
        _complete(target, evolutions, settings)

    parts: dict[str, str | bytes] = {
        f"log {name}": f"{found.size} {found.digest}" for name, found in logs.items()
    }
    parts |= {"version": _VERSION, "settings": settings, "evolutions": evolutions}
    parts["until"] = str(when_ms)
    copy = snapshot(context.layout, key_of(parts), fill, keep=not context.read_only)
    return copy, format_rfc3339(when_ms)


def _read_now(context: StoreContext, collection: str) -> bytes:
    """Return the bytes of a collection's log now, without those of an open transaction."""
    path = context.layout.log_path(collection)
    with access(path):
        try:
            fd = files.open_log(path)
        except FileNotFoundError:
            return b""
        try:
            return b"".join(read_bytes(fd, 0, None))
        finally:
            os.close(fd)


def _settings(context: StoreContext) -> bytes:
    try:
        return context.layout.read_config().encode()
    except ConfigError:
        return b""  # the store itself reports it


def _complete(target: Path, evolutions: bytes, settings: bytes) -> None:
    if evolutions:
        _put(target / f"{EVOLUTIONS}.jsonl", evolutions)
    if settings:
        _put(target / "config.toml", settings)


def _put(path: Path, data: bytes) -> None:
    files.put_whole(path, data, mode=0o600, durable=False)


def _engine_for(mirrors: Iterable[Any], copy: Snapshot, lock_timeout: float) -> Engine | None:
    """Return an engine on a database with the tables of the application's models.

    Raises:
        LockTimeoutError: Another process takes too long to create them.
    """
    if not mirrors:
        return None
    # `mirrors_of` refuses models without one.
    known = [getattr(one, "metadata", None) for one in mirrors]
    found = {id(one): one for one in known if isinstance(one, MetaData)}
    tables = [table for metadata in found.values() for table in metadata.sorted_tables]
    digest = hashlib.sha256()
    for table in tables:
        digest.update(str(CreateTable(table)).encode())
    path = copy.layout.directory / f"models-{digest.hexdigest()[:16]}.db"
    engine = create_engine(URL.create("sqlite", database=str(path)))

    def create() -> None:
        for metadata in found.values():
            metadata.create_all(engine)

    # Another process may open the same copy: it would create a table between look and creation.
    Gate(copy.layout).run(lock_timeout, create)
    return engine
