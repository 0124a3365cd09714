"""Creating, changing and deleting records."""

from __future__ import annotations

from typing import Any

import pytest

from taskstore import (
    ConditionFailedError,
    InvalidDeclarationError,
    InvalidFilterError,
    InvalidIdError,
    InvalidRecordError,
    RecordExistsError,
    RecordNotFoundError,
    Store,
    UnknownFieldError,
    evolve,
    indexed,
    record,
    where,
)
from tests.store.plans import Clock, Plan, append, ids, log_lines, read_log

pytestmark = pytest.mark.public


@pytest.fixture
def store(any_store: Store) -> Store:
    """A store on either database."""
    return any_store


@record("frozen", frozen=True)
class Frozen:
    """A record that cannot be changed."""

    id: str
    title: str = ""
    updated_at: int = 0


@record("plain")
class Plain:
    """A record without a version."""

    id: str
    size: int = indexed(default=1)


def test_create_stamps_the_record_in_place(store: Store, clock: Clock) -> None:
    """A record that is created carries the stamp, is what is returned, and is one line."""
    plan = Plan("a", "Ship it")
    assert plan is store.create(plan)
    assert clock.now == plan.updated_at
    expected = b'{"id":"a","title":"Ship it","status":"draft","priority":0,"updated_at":%d}\n'
    assert expected % clock.now == read_log(store.path)
    assert plan == store.get(Plan, "a")


def test_a_frozen_record_is_returned_anew(store: Store, clock: Clock) -> None:
    """What is returned for a frozen record carries the stamp; the one given stays as it was."""
    first = Frozen("a")
    second = store.create(first)
    assert (0, clock.now) == (first.updated_at, second.updated_at)
    third = store.update(evolve(second, title="new"))
    assert clock.now + 1 == third.updated_at
    assert third == store.get(Frozen, "a")


def test_a_record_without_a_version_is_stamped_in_the_log(store: Store, clock: Clock) -> None:
    """A class without `updated_at` makes no claim; its lines are stamped all the same."""
    store.create(Plain("a"))
    store.update(Plain("a", size=2))
    assert [clock.now, clock.now + 1] == [
        row["updated_at"] for row in log_lines(store.path, "plain")
    ]
    assert Plain("a", 2) == store.get(Plain, "a")


def test_create_refuses_a_live_id(store: Store) -> None:
    """A second create of an id raises, and writes nothing."""
    store.create(Plan("a"))
    with pytest.raises(RecordExistsError, match="'a' already exists in collection 'plans'"):
        store.create(Plan("a", "other"))
    assert 1 == len(log_lines(store.path))


def test_a_batch_is_all_or_nothing(store: Store) -> None:
    """If one record of a batch cannot be written, none is, and none keeps a stamp."""
    store.create(Plan("c"))
    plans = [Plan("a"), Plan("b"), Plan("c")]
    with pytest.raises(RecordExistsError):
        store.create_many(plans)
    assert [0, 0, 0] == [plan.updated_at for plan in plans]
    with pytest.raises(InvalidIdError, match="'a' in collection 'plans': the batch repeats it"):
        store.save_many([Plan("a"), Plan("b"), Plan("a")])
    with pytest.raises(InvalidRecordError, match="a batch has one collection"):
        store.create_many([Plan("a"), Frozen("b")])
    assert ["c"] == ids(store)
    assert 1 == len(log_lines(store.path))
    assert [] == store.create_many([])
    assert ["a", "b"] == [plan.id for plan in store.create_many(Plan(id) for id in "ab")]


def test_update_needs_the_record(store: Store) -> None:
    """An update of what was never created, or is dead, raises and names the remedy."""
    with pytest.raises(RecordNotFoundError, match=r"no record 'a' in collection 'plans'.*save\(\)"):
        store.update(Plan("a"))
    store.create(Plan("a"))
    store.delete(Plan, "a")
    with pytest.raises(LookupError):
        store.update(Plan("a"))
    assert 2 == len(log_lines(store.path))


def test_save_creates_or_updates(store: Store) -> None:
    """`save` writes a record whether it exists or not, and nothing where nothing changed."""
    plan = store.save(Plan("a", "one"))
    store.save(evolve(plan, title="two"))
    assert "two" == store.get_one(Plan, "a").title
    store.save_many([store.get_one(Plan, "a"), Plan("b")])
    assert ["a", "a", "b"] == [row["id"] for row in log_lines(store.path)]


def test_a_write_without_a_change_appends_nothing(store: Store) -> None:
    """An update, save or patch to what is stored already writes no line and keeps the version."""
    plan = store.create(Plan("a", "t"))
    log, version = read_log(store.path), plan.updated_at
    for found in (
        store.update(plan),
        store.update(Plan("a", "t")),
        store.save(Plan("a", "t")),
        store.patch(Plan, "a", title="t"),
    ):
        assert version == found.updated_at
    assert log == read_log(store.path)


def test_patch_changes_fields_and_returns_the_record(store: Store, clock: Clock) -> None:
    """A patch changes the named fields only, stamps, and keeps keys that the class lacks."""
    append(store.path, {"id": "a", "title": "t", "extra": [1], "updated_at": clock.now})
    store.sync()
    patched = store.patch(Plan, "a", status="active", priority=3)
    assert Plan("a", "t", "active", 3, clock.now + 1) == patched == store.get(Plan, "a")
    assert [1] == log_lines(store.path)[-1]["extra"]
    assert ["a"] == ids(store, where(Plan.status) == "active")


def test_patch_works_on_dicts(store: Store) -> None:
    """A patch by a collection's name sets keys of the dict."""
    store.create({"id": "a", "n": 1}, collection="things")
    patched = store.patch("things", "a", where("n") < 5, n=2, new=None)
    assert {"n": 2, "new": None} == {key: patched[key] for key in ("n", "new")}
    assert patched == store.get("things", "a")


def test_patch_checks_conditions_under_the_lock(store: Store) -> None:
    """A patch whose conditions are not all met raises with them, and writes nothing."""
    store.create(Plan("a", status="open", priority=1))
    with pytest.raises(
        ConditionFailedError, match="plans/a was left unchanged.*priority > 1"
    ) as caught:
        store.patch(Plan, "a", where(Plan.status) == "open", where("priority") > 1, title="x")
    assert ("plans", "a") == (caught.value.collection, caught.value.id)
    assert 1 == len(log_lines(store.path))


def test_patch_refuses_what_cannot_be(store: Store) -> None:
    """A patch of an unknown record or field, or of the id, raises a typed error."""
    store.create(Plan("a"))
    with pytest.raises(RecordNotFoundError):
        store.patch(Plan, "b", title="x")
    with pytest.raises(UnknownFieldError, match="Plan has no field 'titel'; did you mean 'title'"):
        store.patch(Plan, "a", titel="x")
    with pytest.raises(UnknownFieldError, match="'statsu'"):
        store.patch(Plan, "a", where("statsu") == "x", title="x")
    with pytest.raises(InvalidRecordError, match="an id cannot be changed"):
        store.patch(Plan, "a", id="b")
    wrong: Any = 7
    with pytest.raises(InvalidRecordError, match="plans/a, field 'title'"):
        store.patch(Plan, "a", title=wrong)
    assert 1 == len(log_lines(store.path))


def test_delete_writes_a_tombstone_once(store: Store, clock: Clock) -> None:
    """A delete appends a tombstone and says so; of what is not there it says no and writes none."""
    store.create(Plan("a"))
    assert store.delete(Plan, "a")
    assert not store.delete(Plan, "a")
    assert not store.delete(Plan, "b")
    assert {"id": "a", "updated_at": clock.now + 1, "deleted": True} == log_lines(store.path)[-1]
    assert 2 == len(log_lines(store.path))
    assert store.get(Plan, "a") is None


def test_a_deleted_record_can_be_created_again(store: Store) -> None:
    """After delete and create the new record lives, also once the cache was rebuilt."""
    for number in range(3):
        store.create(Plan("a", str(number)))
        assert store.delete(Plan, "a")
    store.create(Plan("a", "last"))
    store.sync(force=True)
    assert "last" == store.get_one(Plan, "a").title
    stamps = [row["updated_at"] for row in log_lines(store.path)]
    assert sorted(set(stamps)) == stamps


def test_delete_where_needs_a_filter_and_counts(store: Store) -> None:
    """`delete_where` deletes what meets all filters and returns how many these were."""
    store.create_many(
        [Plan(f"p{n}", status="old" if n < 3 else "new", priority=n) for n in range(6)]
    )
    assert 2 == store.delete_where(Plan, where("status") == "old", where(Plan.priority) > 0)
    assert 0 == store.delete_where(Plan, where("status") == "none")
    assert ["p0", "p3", "p4", "p5"] == ids(store)
    nothing: Any = None
    with pytest.raises(InvalidFilterError):
        store.delete_where(Plan, nothing)
    assert 4 == store.delete_where("plans", where("id").is_not(None))
    assert [] == ids(store)
    assert 12 == len(log_lines(store.path))


def test_dict_records_name_their_collection(store: Store, clock: Clock) -> None:
    """Dicts are written with a collection's name, stamped in place, and read back whole."""
    row: dict[str, Any] = {"id": "a", "tags": ["x"], "deep": {"n": None}}
    assert row is store.create(row, collection="things")
    assert clock.now == row["updated_at"]
    assert row == store.get_one("things", "a")
    store.update({"id": "a", "only": 1}, collection="things")
    assert {"id": "a", "only": 1, "updated_at": clock.now + 1} == store.get("things", "a")
    with pytest.raises(InvalidDeclarationError, match="collection"):
        store.create({"id": "b"})
    with pytest.raises(InvalidDeclarationError, match="belongs to collection 'plans'"):
        store.create(Plan("b"), collection="things")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "b", "x": float("nan")}, "things/b, field 'x'"),
        ({"id": "b", "x": object()}, "things/b, field 'x'"),
        ({"id": "b", "x": "\ud800"}, "things/b, field 'x'"),
        ({"id": "b", "deleted": True}, "things/b, field 'deleted'"),
        ({"id": "b", "updated_at": "soon"}, "things/b, field 'updated_at'"),
        ({"id": "b", 7: 1}, "things/b: the key 7 is not a string"),
    ],
    ids=["nan", "object", "surrogate", "deleted", "time", "key"],
)
def test_a_dict_that_cannot_be_stored_names_the_field(
    store: Store, row: dict[str, Any], message: str
) -> None:
    """What JSON or the format cannot carry is refused with collection, id and field."""
    store.create({"id": "a"}, collection="things")
    with pytest.raises(InvalidRecordError, match=message):
        store.create_many([{"id": "c"}, row], collection="things")
    assert ["a"] == [found["id"] for found in store.list("things")]
    assert 1 == len(log_lines(store.path, "things"))


@pytest.mark.parametrize(
    "id", ["a/b", '"', "\\", "a\nb", "\x00", "💥", "../x", "'; DROP TABLE records", "x" * 256]
)
def test_any_character_may_be_in_an_id(store: Store, id: str) -> None:
    """Ids with quotes, slashes, newlines, NUL or emoji are written, found and deleted."""
    if id == "\0" and store.engine.dialect.name == "postgresql":
        assert store.get(Plan, id) is None
        with pytest.raises(InvalidIdError, match="NUL"):
            store.create(Plan(id))
        return
    store.create(Plan(id, "t"))
    assert "t" == store.get_one(Plan, id).title
    assert [id] == ids(store, where("id") == id)
    store.patch(Plan, id, title="u")
    store.sync(force=True)
    assert "u" == store.get_one(Plan, id).title
    assert store.delete(Plan, id)
    assert 3 == len(read_log(store.path).splitlines())


def test_an_id_that_cannot_be_is_refused_with_its_value(store: Store) -> None:
    """An id that is no string, too long, or holds half a surrogate pair raises with the value."""
    wrong: Any
    for wrong in (None, 7, b"x", "x" * 257, "\udc00"):
        with pytest.raises(InvalidIdError) as caught:
            store.create(Plan(wrong))
        assert wrong == caught.value.id
        with pytest.raises(InvalidIdError):
            store.get(Plan, wrong)
    assert b"" == read_log(store.path)


def test_each_collection_has_its_own_ids(store: Store) -> None:
    """The same id in two collections is two records, in two files."""
    store.create(Plan("a", "plan"))
    store.create(Frozen("a", "frozen"))
    store.delete(Plan, "a")
    assert "frozen" == store.get_one(Frozen, "a").title
    assert {"plans.jsonl", "frozen.jsonl"} == {path.name for path in store.path.glob("*.jsonl")}


def test_two_classes_share_a_collection(store: Store) -> None:
    """Two classes may read and write one collection; neither loses the other's keys."""

    @record("plans")
    class Part:
        id: str
        owner: str | None = indexed(default=None)
        updated_at: int = 0

    store.create(Plan("a", "t", "active"))
    store.update(evolve(store.get_one(Part, "a"), owner="me"))
    assert Plan("a", "t", "active", 0, log_lines(store.path)[-1]["updated_at"]) == store.get(
        Plan, "a"
    )
    assert ["a"] == ids(store, where("status") == "active")
    assert 1 == store.count(Part, where("owner") == "me")
