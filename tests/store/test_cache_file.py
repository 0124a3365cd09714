"""The cache can be lost, garbled or replaced at any moment: it comes back from the log."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from taskstore import SchemaVersionError, Store, where
from taskstore._log.layout import Layout
from taskstore._store.seal import CacheSeal
from tests.store.plans import Plan, append, ids, read_log

pytestmark = pytest.mark.public


def cache(directory: Path) -> Path:
    """The cache file."""
    return directory / "taskstore.db"


def remove(directory: Path) -> None:
    """Remove the cache file and nothing else."""
    cache(directory).unlink()


def remove_all(directory: Path) -> None:
    """Remove the cache file and all that SQLite keeps beside it."""
    for path in directory.glob("taskstore.db*"):
        path.unlink()


def garble(directory: Path) -> None:
    """Write something else over the cache file."""
    cache(directory).write_bytes(b"this is no database " * 1000)


def zero_pages(directory: Path) -> None:
    """Keep the cache file's header and wipe its pages."""
    data = cache(directory).read_bytes()
    cache(directory).write_bytes(data[:100] + bytes(len(data) - 100))


def truncate(directory: Path) -> None:
    """Cut the cache file in the middle of a page."""
    data = cache(directory).read_bytes()
    cache(directory).write_bytes(data[: len(data) // 2 + 100])


def cut_to_header(directory: Path) -> None:
    """Leave of the cache file less than its header."""
    cache(directory).write_bytes(cache(directory).read_bytes()[:50])


def empty(directory: Path) -> None:
    """Leave an empty cache file."""
    cache(directory).write_bytes(b"")


def run_sql(script: str) -> Callable[[Path], None]:
    """Run SQL on the cache in another program."""

    def run(directory: Path) -> None:
        with closing(sqlite3.connect(cache(directory))) as connection:
            connection.executescript(script)

    return run


def noted(change: Callable[[Path], None]) -> Callable[[Path], None]:
    """Make a change count as the store's own, like one of a newer library."""

    def run(directory: Path) -> None:
        change(directory)
        CacheSeal(Layout(directory)).note()

    return run


def noted_sql(script: str) -> Callable[[Path], None]:
    """Run SQL on the cache as if a store had done so."""
    return noted(run_sql(script))


def foreign_database(directory: Path) -> None:
    """Put the database of another program in place of the cache, with a table of the same name."""
    remove_all(directory)
    run_sql("CREATE TABLE records (name TEXT); INSERT INTO records VALUES ('theirs')")(directory)


DAMAGES = {
    "removed": remove,
    "removed with its wal": remove_all,
    "garbled": garble,
    "wiped": zero_pages,
    "truncated": truncate,
    "cut to less than a header": cut_to_header,
    "emptied": empty,
    "another program's": foreign_database,
    "without records": noted_sql("DROP TABLE record_indexes; DROP TABLE records"),
    "without tombstones": noted_sql("DROP TABLE tombstones"),
    "without metadata": noted_sql("DROP TABLE sync_metadata"),
    "without version": noted_sql("DROP TABLE taskstore_version"),
}


def plain(directory: Path) -> None:
    """A store with two records, one of which was deleted once, and a dead one."""
    with Store.open(directory, types=[Plan]) as store:
        store.create_many([Plan("a", status="active"), Plan("b"), Plan("c")])
        store.delete(Plan, "b")
        store.delete(Plan, "c")
        store.create(Plan("b", "again"))


COMMANDS: dict[str, Callable[[Store], Any]] = {
    "list": lambda store: store.list(Plan),
    "get": lambda store: store.get_one(Plan, "a"),
    "count": lambda store: store.count(Plan, where("status") == "active"),
    "iterate": lambda store: list(store.iterate(Plan)),
    "page": lambda store: store.page(Plan),
    "sync": lambda store: store.sync(),
    "forced sync": lambda store: store.sync(force=True),
    "is_stale": lambda store: store.is_stale(),
    "rebuild_indexes": lambda store: store.rebuild_indexes(Plan),
    "update": lambda store: store.update(store.get_one(Plan, "a")),
    "create": lambda store: store.create(Plan("d")) and store.delete(Plan, "d"),
    "save": lambda store: store.save(Plan("a", status="active")),
    "patch": lambda store: store.patch(Plan, "a", title="x"),
    "delete": lambda store: store.delete(Plan, "nobody"),
    "delete_where": lambda store: store.delete_where(Plan, where("status") == "nothing"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_cache_comes_back_at_open(
    directory: Path, damage: Callable[[Path], None]
) -> None:
    """An open finds all records, whatever happened to the cache; the log stays as it was."""
    plain(directory)
    log = read_log(directory)
    damage(directory)
    with Store.open(directory, types=[Plan]) as store:
        assert ["a", "b"] == ids(store)
        assert ["a"] == ids(store, where(Plan.status) == "active")
        assert log == read_log(directory)
        store.create(Plan("d"))
        append(directory, {"id": "c", "title": "ghost", "updated_at": 5})
        assert ["a", "b", "d"] == ids(store)
    with Store.open(directory, types=[Plan], refresh=False) as store:
        assert ["a", "b", "d"] == ids(store)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
@pytest.mark.parametrize("damage", [remove, remove_all], ids=["cache", "cache and wal"])
def test_a_cache_that_is_removed_under_an_open_store_comes_back(
    directory: Path, damage: Callable[[Path], None], command: Callable[[Store], Any]
) -> None:
    """Every command of an open store recovers by itself when the cache was removed."""
    plain(directory)
    with Store.open(directory, types=[Plan]) as store:
        assert 2 == store.count(Plan)
        damage(directory)
        command(store)
        assert ["a", "b"] == ids(store)
        assert cache(directory).exists()
        with Store.open(directory, types=[Plan]) as other:
            assert ["a", "b"] == ids(other)
            other.create(Plan("e"))
        assert ["a", "b", "e"] == ids(store)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_cache_that_loses_a_table_comes_back(
    directory: Path, command: Callable[[Store], Any]
) -> None:
    """Every command of an open store recovers by itself when another program dropped our tables."""
    plain(directory)
    with Store.open(directory, types=[Plan]) as store:
        assert 2 == store.count(Plan)
        run_sql(
            "DROP TABLE record_indexes; DROP TABLE records; DROP TABLE tombstones;"
            "DROP TABLE sync_metadata; DROP TABLE record_index_fields"
        )(directory)
        command(store)
        assert ["a", "b"] == ids(store)


def test_a_store_that_does_not_refresh_survives_the_loss_of_its_cache(directory: Path) -> None:
    """With refresh=False a cache that is removed comes back filled too, and nothing is lost."""
    plain(directory)
    with Store.open(directory, types=[Plan], refresh=False) as store:
        assert ["a", "b"] == ids(store)
        remove_all(directory)
        assert ["a", "b"] == ids(store)
        remove_all(directory)
        store.update(Plan("a", "new"))
        assert ["a", "b"] == ids(store)


def test_the_cache_is_lost_in_a_transaction(directory: Path) -> None:
    """A transaction whose cache is removed under it commits, and its records are in the log."""
    plain(directory)
    with Store.open(directory, types=[Plan]) as store:
        with store.transaction():
            store.create(Plan("d"))
            remove_all(directory)
            store.create(Plan("e"))
        assert ["a", "b", "d", "e"] == ids(store)


def test_a_directory_in_the_caches_place_makes_way(directory: Path) -> None:
    """A directory in place of the cache is renamed, and its contents are kept."""
    Store.open(directory).close()
    append(directory, {"id": "a", "updated_at": 1})
    remove_all(directory)
    cache(directory).mkdir()
    (cache(directory) / "something").write_text("theirs")
    with Store.open(directory) as store:
        assert 1 == store.count("plans")
    [aside] = directory.glob("taskstore.db.*.tmp")
    assert "theirs" == (aside / "something").read_text()


def test_the_cache_of_a_newer_library_is_refused(directory: Path) -> None:
    """A schema that this library does not know is named, with the remedy, and not touched."""
    plain(directory)
    noted(run_sql("UPDATE taskstore_version SET version_num = 'from_the_future'"))(directory)
    remedy = r"from_the_future.*upgrade this library.*also be deleted"
    with pytest.raises(SchemaVersionError, match=remedy) as caught:
        Store.open(directory)
    assert "from_the_future" == caught.value.found
    remove_all(directory)
    with Store.open(directory, types=[Plan]) as store:
        assert ["a", "b"] == ids(store)


def test_other_tables_in_the_cache_are_left_alone(directory: Path) -> None:
    """A table that somebody makes beside ours, with the store's engine, stays with the cache."""
    plain(directory)
    with Store.open(directory) as store, store.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE theirs (x)")
        connection.exec_driver_sql("INSERT INTO theirs VALUES (7)")
    with Store.open(directory, types=[Plan]) as store:
        store.sync(force=True)
    with closing(sqlite3.connect(cache(directory))) as connection:
        assert [(7,)] == connection.execute("SELECT x FROM theirs").fetchall()
