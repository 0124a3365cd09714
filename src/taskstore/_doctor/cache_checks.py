"""Checks of the cache. They read it as it is and never change it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from taskstore._api.store import Store
from taskstore._cache.engine.sqlite import create_cache_engine
from taskstore._cache.schema.names import HEAD, REVISIONS
from taskstore._cache.schema.schema import current_revision
from taskstore._doctor.findings import ERROR, INFO, WARNING, Finding
from taskstore._log.layout import Layout
from taskstore._store.seal import CacheSeal
from taskstore._store.sqlite_errors import DatabaseErrors, reason_of
from taskstore.errors import TaskstoreError

_FIX = "taskstore doctor --fix"
_SHOWN = 5


def check_cache(layout: Layout) -> Iterator[Finding]:
    """Yield what is wrong with the cache of a store."""
    if not os.path.lexists(layout.cache_path):
        meaning = "the next open rebuilds it from the logs"
        yield Finding("cache", INFO, "there is no cache", meaning, _FIX, is_safe=True)
        return
    found = _of_origin(layout) or _of_schema(layout)
    if found is not None:
        yield found
        return
    try:
        # Without a refresh, so that a stale cache is noticed.
        with Store.open(layout.directory, create=False, refresh=False) as store:
            if store.is_stale():
                meaning = (
                    "the next open reads the new lines; with hooks, git does so after a merge or "
                    "a checkout"
                )
                message = "the cache is older than the logs"
                yield Finding("stale", INFO, message, meaning, _FIX, is_safe=True)
                return
            report = store.verify()
    except TaskstoreError as error:
        yield Finding("cache", ERROR, f"{error}", "the store cannot be opened", _FIX, is_safe=True)
        return
    if not report.ok:
        shown = "; ".join(str(difference)[:200] for difference in report.differences[:_SHOWN])
        yield Finding(
            "cache",
            ERROR,
            f"{len(report.differences)} row(s) of the cache differ from the logs: {shown}",
            "queries give wrong answers; the logs are right",
            _FIX,
            is_safe=True,
        )


def _of_origin(layout: Layout) -> Finding | None:
    """Report a cache, or a file that SQLite would read with it, that this clone did not make."""
    if CacheSeal(layout).is_whole():
        return None
    return Finding(
        "cache",
        WARNING,
        f"{layout.cache_path}, or a file beside it, was not made by this clone",
        "it comes from a copied working tree or from the repository; it is not used, and the next "
        "open rebuilds it from the logs",
        _FIX,
        is_safe=True,
    )


def _of_schema(layout: Layout) -> Finding | None:
    engine = create_cache_engine(layout.cache_path, seal=CacheSeal(layout))
    try:
        with engine.connect() as connection:
            revision = current_revision(connection)
    except DatabaseErrors as error:
        message = f"{layout.cache_path} cannot be read: {reason_of(error)}"
        meaning = "the next open rebuilds it from the logs"
        return Finding("cache", WARNING, message, meaning, _FIX, is_safe=True)
    finally:
        engine.dispose()
    if revision == HEAD:
        return None
    if revision is not None and revision not in REVISIONS:
        message = f"the cache has schema {revision!r}, of a newer Taskstore than this one"
        meaning = "this version cannot open the store"
        remedy = f"pip install --upgrade taskstore, or delete {layout.cache_path}"
        return Finding("schema", ERROR, message, meaning, remedy)
    meaning = "the next open upgrades it"
    name = "unknown" if revision is None else repr(revision)
    return Finding("schema", INFO, f"the cache has schema {name}", meaning, _FIX, is_safe=True)
