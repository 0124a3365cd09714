"""The cases that the first design was tested with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from taskstore import Filter, FilterOp, InvalidIdError, Store, where
from tests.store.plans import Plan, append, ids, read_log

pytestmark = pytest.mark.public


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Let threads take turns after 10 microseconds, so that they meet in narrow places."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("quick_switches")
@pytest.mark.parametrize("round_", range(10))
def test_ten_threads_that_open_the_store_create_ten_records(directory: Path, round_: int) -> None:
    """Ten threads open a new store at once and create a record each: all ten are there."""
    barrier = Barrier(10)

    def work(number: int) -> None:
        barrier.wait()
        with Store.open(directory, types=[Plan]) as store:
            store.create(Plan(f"plan-{number}"))

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(work, range(10)))
    expected = [f"plan-{number}" for number in range(10)]
    with Store.open(directory, types=[Plan]) as store:
        assert expected == ids(store)
    assert 10 == len(read_log(directory).splitlines())


@pytest.mark.parametrize("form", ["where", "Filter"])
def test_filters_work_after_sync_and_rebuild(directory: Path, form: str) -> None:
    """After `sync` and `rebuild_indexes` a filter finds what another program has written."""
    Store.open(directory).close()
    append(
        directory,
        {"id": "a", "title": "A", "status": "active", "updated_at": 1000},
        {"id": "b", "title": "B", "status": "draft", "updated_at": 1000},
    )
    with Store.open(directory, refresh=False) as store:
        store.sync()
        assert 2 == store.rebuild_indexes(Plan)
        assert 2 == len(store.list(Plan))
        active = Filter("status", FilterOp.EQ, "active")
        condition = active if form == "Filter" else where(Plan.status) == "active"
        assert ["a"] == [plan.id for plan in store.list(Plan, condition)]


def test_an_outside_record_is_seen_at_the_next_open(directory: Path) -> None:
    """A record that another program appended while the store was closed is there at open."""
    with Store.open(directory, types=[Plan]) as store:
        store.create(Plan("a"))
    append(directory, {"id": "b", "title": "outside", "updated_at": 1000})
    with Store.open(directory, types=[Plan]) as store:
        assert "outside" == store.get_one(Plan, "b").title
        assert ["a", "b"] == ids(store)


def test_an_outside_record_is_seen_by_an_open_store(store: Store) -> None:
    """A record that another program appends is found by the next read of an open store."""
    store.create(Plan("a"))
    append(store.path, {"id": "b", "status": "active", "updated_at": 1000})
    assert store.exists(Plan, where(Plan.status) == "active")
    assert ["a", "b"] == ids(store)


def test_a_new_log_makes_a_store_stale_that_does_not_refresh(directory: Path) -> None:
    """A new collection's file makes a store stale that was opened without a refresh."""
    Store.open(directory).close()
    append(directory, {"id": "a", "updated_at": 1000}, collection="others")
    with Store.open(directory, refresh=False) as store:
        assert store.is_stale()
    with Store.open(directory) as store:
        assert not store.is_stale()


@pytest.mark.parametrize("id", ["", " ", "\t\n", "\u3000"])
def test_an_empty_id_is_refused(store: Store, id: str) -> None:
    """An id that is empty or blank is refused by every write and read, with the reason."""
    calls = (
        lambda: store.create(Plan(id)),
        lambda: store.create_many([Plan("a"), Plan(id)]),
        lambda: store.update(Plan(id)),
        lambda: store.save(Plan(id)),
        lambda: store.save_many([Plan(id)]),
        lambda: store.patch(Plan, id, title="x"),
        lambda: store.delete(Plan, id),
        lambda: store.get(Plan, id),
        lambda: store.get_one(Plan, id),
        lambda: store.create({"id": id}, collection="plans"),
    )
    for call in calls:
        with pytest.raises(InvalidIdError, match="cannot be empty") as caught:
            call()
        assert id == caught.value.id
    assert b"" == read_log(store.path)
