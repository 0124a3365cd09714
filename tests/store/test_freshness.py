"""When a log counts as changed: own writes never, other bytes always, whatever the clock says."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from taskstore import Store, where
from tests.store.plans import Plan, append, ids, log_path, read_log, rewrite

pytestmark = pytest.mark.public

SECOND_NS = 1_000_000_000


def action(store: Store, collection: str = "plans") -> str:
    """What a sync has to do for a collection."""
    return store.sync().collections[collection].action


def git(directory: Path, *arguments: str) -> None:
    """Run git in the folder of a store, away from anybody's configuration."""
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        **{
            f"GIT_{who}_{what}": "t@example.org"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        },
    }
    subprocess.run(
        ["git", *arguments], cwd=directory.parent, env=environment, check=True, capture_output=True
    )


def test_own_writes_leave_the_store_fresh(store: Store) -> None:
    """After each of its own writes a store knows its log, and the next sync reads nothing."""
    writes: list[Any] = [
        lambda: store.create(Plan("a")),
        lambda: store.create_many([Plan("b"), Plan("c")]),
        lambda: store.update(Plan("a", "new")),
        lambda: store.save(Plan("d")),
        lambda: store.patch(Plan, "b", title="new"),
        lambda: store.delete(Plan, "a"),
        lambda: store.delete_where(Plan, where("id").in_(["b", "c"])),
    ]
    for write in writes:
        write()
        assert not store.is_stale()
        report = store.sync()
        assert ("fresh", 0) == (report.collections["plans"].action, report.lines)
    with Store.open(store.path, types=[Plan], refresh=False) as other:
        assert not other.is_stale()
        assert ["d"] == ids(other)


def test_own_writes_are_not_read_again_at_the_next_open(directory: Path) -> None:
    """An open after own writes finds the log as it was recorded, and reads none of it."""
    with Store.open(directory, types=[Plan]) as store:
        store.create_many([Plan(f"p{number}") for number in range(20)])
        store.delete(Plan, "p7")
    with Store.open(directory, refresh=False) as store:
        assert "fresh" == action(store)


def test_a_touched_log_is_noted_and_not_read_again(store: Store) -> None:
    """Another mtime with the same bytes makes nothing stale, and the new time is recorded."""
    store.create(Plan("a"))
    for time_ns in (1 * SECOND_NS, 4_000_000_000 * SECOND_NS):
        os.utime(log_path(store.path), ns=(time_ns, time_ns))
        assert not store.is_stale()
        assert ("noted", 0) == (action(store), store.sync().lines)


def test_a_touch_between_closed_and_open_leaves_the_store_fresh(directory: Path) -> None:
    """A touch while the store is closed makes a store opened without a refresh no staler."""
    with Store.open(directory, types=[Plan]) as store:
        store.create(Plan("a"))
    log_path(directory).touch()
    with Store.open(directory, refresh=False) as store:
        assert not store.is_stale()


def test_a_checkout_back_and_forth_is_followed(store: Store) -> None:
    """After a checkout the store says what the branch says; there and back it is fresh again."""
    git(store.path, "init", "-q", "-b", "main")
    store.create(Plan("a", "one"))
    git(store.path, "add", "-A")
    git(store.path, "commit", "-qm", "one")
    git(store.path, "checkout", "-qb", "side")
    store.update(Plan("a", "two"))
    store.create(Plan("b"))
    git(store.path, "commit", "-qam", "two")
    for _ in range(2):
        git(store.path, "checkout", "-q", "main")
        assert store.is_stale()
        assert ("one", ["a"]) == (store.get_one(Plan, "a").title, ids(store))
        git(store.path, "checkout", "-q", "side")
        assert ("two", ["a", "b"]) == (store.get_one(Plan, "a").title, ids(store))
        git(store.path, "checkout", "-q", "main")
        git(store.path, "checkout", "-q", "side")
        assert not store.is_stale()
        assert action(store, "plans") in {"fresh", "noted"}


def test_git_sees_the_log_and_nothing_that_is_local(store: Store) -> None:
    """Git is shown the log, the version and the ignore file; the cache and its like are ignored."""
    git(store.path, "init", "-q")
    store.create_many([Plan("a"), Plan("b")])
    git(store.path, "add", "-A")
    found = subprocess.run(
        ["git", "ls-files"], cwd=store.path.parent, check=True, capture_output=True, text=True
    )
    expected = [".taskstore/.gitignore", ".taskstore/.version", ".taskstore/plans.jsonl"]
    assert expected == found.stdout.splitlines()


@pytest.mark.parametrize("replace", [False, True], ids=["in place", "by rename"])
@pytest.mark.parametrize("mtime", ["same", "older", "newer", "as it comes"])
def test_other_bytes_of_the_same_size_are_seen(store: Store, replace: bool, mtime: str) -> None:
    """A rewrite to the same size is seen by the next read, also with the same or an older mtime."""
    path = log_path(store.path)
    rewrite(store.path, b'{"id":"a","title":"one","updated_at":5}\n')
    assert "one" == store.get_one(Plan, "a").title
    before = path.stat().st_mtime_ns
    data = path.read_bytes().replace(b"one", b"two")
    if replace:
        rewrite(store.path, data)
    else:
        path.write_bytes(data)
    shift = {"same": 0, "older": -3600, "newer": 3600}.get(mtime)
    if shift is not None:
        os.utime(path, ns=(before, before + shift * SECOND_NS))
    assert store.is_stale()
    assert "two" == store.get_one(Plan, "a").title


def test_rewrites_within_one_tick_of_the_clock_are_seen(store: Store) -> None:
    """A hundred rewrites to the same size, as fast as can be, are each seen by the next read."""
    path = log_path(store.path)
    for number in range(100):
        path.write_bytes(b'{"id":"a","title":"%03d","updated_at":5}\n' % number)
        assert f"{number:03d}" == store.get_one(Plan, "a").title


def test_equal_times_prove_nothing_of_a_log_that_had_just_changed(directory: Path) -> None:
    """A log that was read right after a change is compared by its bytes, not by its times alone."""
    path = log_path(directory)
    with Store.open(directory, types=[Plan]) as store:
        for _ in range(50):
            path.write_bytes(b'{"id":"a","title":"one","updated_at":5}\n')
            assert "one" == store.get_one(Plan, "a").title
            path.write_bytes(b'{"id":"a","title":"two","updated_at":5}\n')
            if record_times_of(path):
                break
        else:
            pytest.skip("this machine is too slow to read a log within the tick of its change")
        assert store.is_stale()
        assert "two" == store.get_one(Plan, "a").title


def record_times_of(path: Path) -> bool:
    """Give the cache's record of a log the times of the log, as a clock with long ticks does.

    Says whether the log was read so soon after a change that its times were not relied on.
    """
    stat = path.stat()
    with closing(sqlite3.connect(path.with_name("taskstore.db"))) as connection, connection:
        [racy] = connection.execute("SELECT racy FROM sync_metadata").fetchone()
        times = (stat.st_mtime_ns, stat.st_ctime_ns)
        connection.execute("UPDATE sync_metadata SET mtime_ns = ?, ctime_ns = ?", times)
    return bool(racy)


def test_a_change_right_after_an_own_write_is_seen(store: Store) -> None:
    """A rewrite to the same size within the tick of an own write is seen by the next read."""
    path = log_path(store.path)
    store.create(Plan("a", "000"))
    for number in range(1, 50):
        line = path.read_bytes()
        path.write_bytes(line.replace(b'"%03d"' % (number - 1), b'"%03d"' % number))
        assert f"{number:03d}" == store.get_one(Plan, "a").title
        rewrite(store.path, b"")
        store.save(Plan("a", f"{number:03d}"))


def test_a_file_restored_with_its_old_times_is_seen(store: Store) -> None:
    """A backup put back, with the mtime that it once had, is seen."""
    store.create(Plan("a", "one"))
    path = log_path(store.path)
    before, data = path.stat(), path.read_bytes()
    store.update(Plan("a", "two"))
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "one" == store.get_one(Plan, "a").title


def test_appended_lines_are_read_alone(store: Store) -> None:
    """Of a log that has only grown, a sync reads no more than the new lines."""
    store.create_many([Plan(f"p{number:02}") for number in range(50)])
    append(store.path, {"id": "q", "updated_at": 1}, {"id": "p00", "deleted": True})
    report = store.sync().collections["plans"]
    assert ("tail", 2, 51, 0) == (report.action, report.lines, report.records, report.tombstones)


def test_only_the_changed_collection_is_read(store: Store) -> None:
    """A rewritten log is replayed without a look into the others."""
    for name in ("one", "two"):
        store.create_many([{"id": f"{name}-{n}"} for n in range(3)], collection=name)
    rewrite(store.path, read_log(store.path, "two").splitlines(True)[0], collection="two")
    report = store.sync()
    assert {"one": "fresh", "two": "replayed"} == {item.collection: item.action for item in report}
    assert 1 == report.lines
    assert ["two"] == report.changed


def test_a_removed_log_takes_its_records_along(store: Store) -> None:
    """When a log is removed its records are gone, and those of other collections stay."""
    store.create(Plan("a"))
    store.create({"id": "b"}, collection="others")
    log_path(store.path).unlink()
    assert store.is_stale()
    assert [] == store.list(Plan)
    assert "fresh" == action(store, "others")
    assert not store.is_stale()
    assert ["b"] == [row["id"] for row in store.list("others")]
    store.create(Plan("a", "again"))
    assert "again" == store.get_one(Plan, "a").title


def test_without_refresh_only_a_sync_looks(directory: Path) -> None:
    """A store opened with refresh=False serves what it has until `sync`, then what the log says."""
    with Store.open(directory, types=[Plan]) as store:
        store.create(Plan("a"))
    with Store.open(directory, types=[Plan], refresh=False) as store:
        append(directory, {"id": "b", "updated_at": 1})
        assert ["a"] == ids(store)
        assert store.is_stale()
        store.create(Plan("c"))
        assert store.is_stale()
        store.sync()
        assert ["a", "b", "c"] == ids(store)
        assert not store.is_stale()


def test_a_forced_sync_reads_everything(store: Store) -> None:
    """With `force` every line is read again; progress is told in bytes of each log."""
    store.create_many([Plan("a"), Plan("b")])
    store.delete(Plan, "a")
    told: list[tuple[str, int, int]] = []
    report = store.sync(force=True, on_progress=lambda *facts: told.append(facts))
    found = report.collections["plans"]
    assert ("replayed", 3, 1, 1) == (found.action, found.lines, found.records, found.tombstones)
    size = len(read_log(store.path))
    assert ("plans", size, size) == told[-1]
    assert report.to_dict()["collections"]["plans"]["lines"] == 3


def test_a_sync_without_record_types_indexes(directory: Path) -> None:
    """A store that was told no types indexes what the cache was once taught."""
    with Store.open(directory, types=[Plan]) as store:
        store.create(Plan("a", status="active"))
    append(directory, {"id": "b", "status": "active", "updated_at": 1})
    with Store.open(directory) as plain:
        index = plain.models.RecordIndex
        with plain.session(read_only=True) as session:
            rows = session.query(index).filter_by(field_name="status")
            assert {("a", "active"), ("b", "active")} == {(r.id, r.field_value_str) for r in rows}
        assert 2 == plain.count("plans", where("status") == "active")
