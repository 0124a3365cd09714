"""Fixtures for pytest: temporary stores, and the check that log and cache are left equal.

Pytest finds this module by itself where Taskstore is installed; `-p no:taskstore.testing` keeps it
out. Nothing of Taskstore is loaded before a fixture is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from taskstore._api.store import Store

__all__ = ["taskstore_check", "taskstore_make", "taskstore_store", "taskstore_types"]


@pytest.fixture
def taskstore_types() -> Iterable[type[Any]]:
    """The record types of `taskstore_store`: none, until a fixture of this name gives others."""
    return ()


@pytest.fixture
def taskstore_store(
    taskstore_types: Iterable[type[Any]], taskstore_make: Callable[..., Store]
) -> Store:
    """A temporary store that knows the record types of `taskstore_types`.

    When the test has ended, its cache is compared with its logs; then it is closed.
    """
    return taskstore_make(*taskstore_types)


@pytest.fixture
def taskstore_make(tmp_path: Path) -> Iterator[Callable[..., Store]]:
    """Call it with record types, and options of `Store.open`, for a temporary store.

    Each call makes another one, in a folder of its own below `tmp_path`; with `path=` it opens a
    directory of yours. When the test has ended, its cache is compared with its logs, and it is
    closed.
    """
    from taskstore._api.store import Store
    from taskstore._log.layout import Layout

    made: list[Store] = []

    def make(*types: type[Any], path: Path | None = None, **options: Any) -> Store:
        if path is None:
            folder = tmp_path / f"taskstore-{len(made) + 1}"
            folder.mkdir()
            path = folder / Layout.NAME
        made.append(Store.open(path, types=types, **options))
        return made[-1]

    yield make
    try:
        _check(made)
    finally:
        for store in made:
            store.close()


@pytest.fixture
def taskstore_check() -> Iterator[Callable[[Any], None]]:
    """Call it with a `Store` or an `AsyncStore` to have it checked when the test has ended.

    The test fails in its teardown if, after a look at the logs, the cache or a mirrored table says
    anything that they do not, or the other way round. One that is closed by then is opened again,
    unless it was on an engine of the application's: that one must still be open.
    """
    noted: list[Store] = []

    def check(store: Any) -> None:
        noted.append(getattr(store, "blocking", store))

    yield check
    _check(noted)


def _check(stores: Iterable[Store]) -> None:
    found = [line for store in stores for line in _differences(store)]
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def _differences(store: Store) -> Iterator[str]:
    if not store._context.closed:
        yield from _compared(store)
    elif store._context.own_engine:
        from taskstore._api.store import Store
        from taskstore.errors import StoreNotFoundError

        try:
            again = Store.open(store.path, create=False, read_only=store.read_only)
        except StoreNotFoundError:
            return
        with again:
            yield from _compared(again)
    else:
        yield (
            f"{store.path}: it was closed before it could be checked; close it in a fixture that "
            "taskstore_check depends on, or compare store.verify().differences with () yourself"
        )


def _compared(store: Store) -> Iterator[str]:
    # What another program has appended is no fault of the cache until it has been looked at.
    if not store.read_only and store.is_stale():
        store.sync()
    report = store.verify()
    for one in report.differences:
        yield (
            f"{store.path}: log and cache differ in {one.collection}/{one.id} ({one.kind}): "
            f"the log says {one.log!r}, the cache {one.cache!r}"
        )
    for problem in report.problems:
        # A bad line is the log's own affair; a mirrored row without its line is not.
        if problem.collection is not None and problem.line is None:
            yield f"{problem.collection}/{problem.id}: {problem.reason} ({problem.path})"
