"""What a carried `updated_at` means: no claim, current, older, newer; and what is stamped."""

from __future__ import annotations

import datetime
from typing import Any

import attrs
import pytest

from taskstore import InvalidRecordError, StaleRecordError, Store, evolve, record
from tests.store.plans import Clock, Plan, append, log_lines

pytestmark = pytest.mark.public


@record("plans")
class Text:
    """The same collection, with its version as RFC 3339 text."""

    id: str
    title: str = ""
    updated_at: str = ""


@record("plans")
class Moment:
    """The same collection, with its version as a datetime."""

    id: str
    title: str = ""
    updated_at: datetime.datetime | None = None


FORMS = [Plan, Text, Moment]
STORED = [1_700_000_000_123, "2023-11-14T22:13:20.123Z", "2023-11-14T22:13:20.123456789Z"]


@pytest.mark.parametrize("stored", STORED, ids=["ms", "text", "fine text"])
@pytest.mark.parametrize("form", FORMS)
def test_a_record_that_was_overtaken_is_refused(store: Store, form: Any, stored: Any) -> None:
    """An update of an older version raises with both versions, whatever form they have."""
    append(store.path, {"id": "a", "title": "one", "updated_at": stored})
    mine, theirs = store.get_one(form, "a"), store.get_one(form, "a")
    store.update(attrs.evolve(theirs, title="two"))
    for write in (store.update, store.save):
        with pytest.raises(StaleRecordError, match=r"plans/a.*read the record again") as caught:
            write(attrs.evolve(mine, title="three"))
        assert log_lines(store.path)[-1]["updated_at"] == caught.value.stored
    assert "two" == store.get_one(form, "a").title
    assert 2 == len(log_lines(store.path))


@pytest.mark.parametrize("stored", STORED, ids=["ms", "text", "fine text"])
@pytest.mark.parametrize("form", FORMS)
def test_read_change_update_works_again_and_again(store: Store, form: Any, stored: Any) -> None:
    """After an update the record carries the new stamp, so that it can be updated again."""
    append(store.path, {"id": "a", "title": "0", "updated_at": stored})
    found = store.get_one(form, "a")
    for number in range(1, 4):
        found.title = str(number)
        assert found is store.update(found)
        assert store.get_one(form, "a") == found
    stamps = [row["updated_at"] for row in log_lines(store.path)]
    assert {type(stored)} == set(map(type, stamps))
    assert sorted(set(stamps)) == stamps


@pytest.mark.parametrize(
    "version",
    [
        1_700_000_000_123,
        "2023-11-14T22:13:20.123Z",
        "2023-11-14t23:13:20.123+01:00",
        datetime.datetime(2023, 11, 14, 22, 13, 20, 123_000, datetime.UTC),
    ],
    ids=["ms", "text", "offset", "datetime"],
)
def test_if_updated_at_names_the_version_to_be_replaced(store: Store, version: Any) -> None:
    """`if_updated_at` accepts the stored version in any form, and once only."""
    append(store.path, {"id": "a", "title": "one", "updated_at": 1_700_000_000_123})
    store.update(Plan("a", "two"), if_updated_at=version)
    assert "two" == store.get_one(Plan, "a").title
    with pytest.raises(StaleRecordError) as caught:
        store.update(Plan("a", "three"), if_updated_at=version)
    assert log_lines(store.path)[-1]["updated_at"] == caught.value.stored
    assert "two" == store.get_one(Plan, "a").title


@pytest.mark.parametrize(
    "version",
    [1_700_000_000_124, 1, "2023-11-14T22:13:20.122Z", "2030-01-01T00:00:00Z"],
)
def test_if_updated_at_of_another_version_is_refused(store: Store, version: Any) -> None:
    """`if_updated_at` older or newer than what is stored raises, and writes nothing."""
    append(store.path, {"id": "a", "title": "one", "updated_at": 1_700_000_000_123})
    with pytest.raises(StaleRecordError) as caught:
        store.update(Plan("a", "two"), if_updated_at=version)
    assert (version, 1_700_000_000_123) == (caught.value.carried, caught.value.stored)
    assert 1 == len(log_lines(store.path))


def test_if_updated_at_zero_is_the_version_of_a_line_without_a_time(store: Store) -> None:
    """`if_updated_at=0` is met by a record that has no time yet, and by no other."""
    append(store.path, {"id": "a", "title": "one"})
    store.update(Plan("a", "two"), if_updated_at=0)
    with pytest.raises(StaleRecordError):
        store.update(Plan("a", "three"), if_updated_at=0)
    assert "two" == store.get_one(Plan, "a").title


@pytest.mark.parametrize("version", ["soon", 1.5, True, 10**20, []], ids=repr)
def test_a_version_that_is_none_is_refused(store: Store, version: Any) -> None:
    """What cannot be an instant is refused as a version, with the field's name."""
    store.create(Plan("a"))
    with pytest.raises(InvalidRecordError, match="if_updated_at"):
        store.update(Plan("a", "x"), if_updated_at=version)
    with pytest.raises(InvalidRecordError, match="updated_at"):
        store.update({"id": "a", "updated_at": version}, collection="plans")
    assert 1 == len(log_lines(store.path))


@pytest.mark.parametrize("empty", [0, None, ""], ids=repr)
def test_no_version_is_no_claim(store: Store, empty: Any) -> None:
    """A record whose version is 0, None or empty overwrites what is stored."""
    store.create(Plan("a", "one"))
    store.update({"id": "a", "title": "two", "updated_at": empty}, collection="plans")
    assert "two" == store.get_one(Plan, "a").title


def test_a_newer_version_is_kept(store: Store, clock: Clock) -> None:
    """A carried version that is newer than the stored one stands in the line as it is."""
    plan = store.create(Plan("a"))
    later = clock.now + 5_000
    store.update(evolve(plan, title="new", updated_at=later))
    assert later == log_lines(store.path)[-1]["updated_at"]
    assert later == store.create(Plan("b", updated_at=later)).updated_at
    store.save({"id": "c", "updated_at": "2024-02-03T04:05:06.7+08:00"}, collection="plans")
    assert "2024-02-03T04:05:06.7+08:00" == log_lines(store.path)[-1]["updated_at"]


def test_a_record_of_the_future_loses_against_the_next_local_write(store: Store) -> None:
    """Whatever time a line carries, the next local write and delete come after it."""
    future = 4_102_444_800_000
    append(store.path, {"id": "a", "title": "2100", "updated_at": future})
    append(store.path, {"id": "b", "updated_at": "2100-01-01T00:00:00Z"})
    store.update(Plan("a", "now"))
    assert "now" == store.get_one(Plan, "a").title
    assert future + 1 == log_lines(store.path)[-1]["updated_at"]
    assert store.delete(Plan, "a")
    assert store.delete(Plan, "b")
    assert "2100-01-01T00:00:00.001Z" == log_lines(store.path)[-1]["updated_at"]
    store.sync(force=True)
    assert [] == store.list(Plan)
    store.create(Plan("a", "again"))
    assert future + 3 == log_lines(store.path)[-1]["updated_at"]


@pytest.mark.parametrize("last", ["9999-12-31T23:59:59.999999Z", 253402300799999])
def test_the_last_local_word_wins_at_the_last_moment(store: Store, last: int | str) -> None:
    """A stored time that cannot be surpassed is repeated: of equals the later line wins."""
    append(store.path, {"id": "a", "title": "", "updated_at": last})
    store.update(Plan("a", "x"))
    assert "x" == store.get_one(Plan, "a").title
    assert store.delete(Plan, "a")
    assert [last] * 3 == [line["updated_at"] for line in log_lines(store.path)]
    store.sync(force=True)
    assert store.get(Plan, "a") is None
    store.create(Plan("a", "again"))
    store.sync(force=True)
    assert "again" == store.get_one(Plan, "a").title


def test_a_clock_that_went_back_does_not_lose_a_write(store: Store, clock: Clock) -> None:
    """When the clock is set back the next write is stamped after the one before all the same."""
    plan = store.create(Plan("a", "one"))
    clock.now -= 3_600_000
    plan.title = "two"
    store.update(plan)
    store.sync(force=True)
    assert "two" == store.get_one(Plan, "a").title
    assert clock.now + 3_600_001 == plan.updated_at


def test_create_over_a_newer_tombstone_is_refused_only_with_a_claim(store: Store) -> None:
    """A record that claims a version older than its tombstone is refused; without one it lives."""
    plan = store.create(Plan("a"))
    old = evolve(plan)
    store.delete(Plan, "a")
    with pytest.raises(StaleRecordError):
        store.create(old)
    store.create(evolve(old, updated_at=0))
    assert store.get(Plan, "a") is not None


def test_a_rollback_takes_the_stamp_back(store: Store) -> None:
    """After a rollback, of a savepoint or of all, a record carries the version it had before."""
    plan = store.create(Plan("a", "one"))
    row: dict[str, Any] = {"id": "r"}
    new, version = Plan("b"), plan.updated_at
    with pytest.raises(RuntimeError), store.transaction():
        plan.title = "two"
        store.update(plan)
        inner = plan.updated_at
        with pytest.raises(KeyError), store.transaction():
            plan.title = "three"
            store.update(plan)
            raise KeyError
        assert version < inner == plan.updated_at
        store.create(new)
        store.create(row, collection="rows")
        raise RuntimeError
    assert (version, 0, {"id": "r"}) == (plan.updated_at, new.updated_at, row)
    store.update(plan)
    store.create(new)
    store.create(row, collection="rows")
    assert "three" == store.get_one(Plan, "a").title
