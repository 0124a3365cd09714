"""Fixtures for pytest: temporary stores, and a check that log and cache agree after the test.

If Taskstore is installed, pytest finds this module by itself. `-p no:taskstore.testing` turns it
off. Nothing else of Taskstore is loaded before a fixture is used.
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
    """Return the record types of `taskstore_store`: none, unless you override this fixture."""
    return ()


@pytest.fixture
def taskstore_store(
    taskstore_types: Iterable[type[Any]], taskstore_make: Callable[..., Store]
) -> Store:
    """Yield a temporary store with the record types of `taskstore_types`.

    After the test, the fixture compares the cache with the logs and closes the store.
    """
    return taskstore_make(*taskstore_types)


@pytest.fixture
def taskstore_make(tmp_path: Path) -> Iterator[Callable[..., Store]]:
    """Return a function that takes record types and options of `Store.open`, and makes a store.

    Each call makes another store, in a folder of its own below `tmp_path`. With `path=`, it opens
    that directory. After the test, the fixture compares the caches with the logs and closes the
    stores.
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
    """Return a function that takes a `Store` or an `AsyncStore`, and checks it after the test.

    The teardown reads the logs and fails the test if the cache or a mirrored table differs from
    them. A store that the test has closed is opened again. A store on an application's engine must
    still be open.
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
    # First read what another program has appended: the cache cannot have it yet.
    if not store.read_only and store.is_stale():
        store.sync()
    report = store.verify()
    for one in report.differences:
        yield (
            f"{store.path}: log and cache differ in {one.collection}/{one.id} ({one.kind}): "
            f"the log says {one.log!r}, the cache {one.cache!r}"
        )
    for problem in report.problems:
        # A bad line is not a difference. A mirrored row without its line is one.
        if problem.collection is not None and problem.line is None:
            yield f"{problem.collection}/{problem.id}: {problem.reason} ({problem.path})"
