"""What an import does with records that are there already."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskstore import Store
from taskstore._exchange.formats import Item
from taskstore._exchange.importing import ImportPlan, ImportRefusedError, import_records
from taskstore._format.instants import format_rfc3339, parse_instant

STORED = {"id": "a", "x": 1, "keep": True, "updated_at": 1_000}


@pytest.fixture
def store(directory: Path) -> Iterator[Store]:
    """A store with one record."""
    with Store.open(directory, clock=lambda: 9_000) as store:
        store.create(dict(STORED), collection="things")
        yield store


def bring(store: Store, *records: dict[str, Any], **options: Any) -> ImportPlan:
    """Import records."""
    items = [Item(place, record) for place, record in enumerate(records, 1)]
    return import_records(store, "things", items, **options)


def counts(plan: ImportPlan) -> tuple[int, int, int, int, int]:
    """What a plan counts."""
    return plan.created, plan.updated, plan.deleted, plan.unchanged, len(plan.skipped)


def test_a_newer_record_updates_and_keeps_its_time(store: Store) -> None:
    """A newer one changes the fields that it has, and its own time is kept."""
    assert (0, 1, 0, 0, 0) == counts(bring(store, {"id": "a", "x": 2, "updated_at": 5_000}))
    assert {**STORED, "x": 2, "updated_at": 5_000} == store.get("things", "a")


def test_an_older_record_is_left_out(store: Store) -> None:
    """One that is older than the stored version is skipped, with the reason, unless told to."""
    older = {"id": "a", "x": 2, "updated_at": 500}
    plan = bring(store, older)
    assert ["older than the stored version"] == [item.reason for item in plan.skipped]
    assert 0 == plan.faults
    assert STORED == store.get("things", "a")
    assert (0, 1, 0, 0, 0) == counts(bring(store, older, policy="overwrite"))
    assert {**STORED, "x": 2, "updated_at": 9_000} == store.get("things", "a")


def test_the_same_record_is_unchanged(store: Store) -> None:
    """One that says the same appends nothing, whatever the order of its keys; 1 is not true."""
    before = (store.path / "things.jsonl").read_bytes()
    same = dict(reversed(STORED.items()))
    assert (0, 0, 0, 1, 0) == counts(bring(store, same))
    assert (0, 0, 0, 1, 0) == counts(bring(store, {"id": "a", "x": 1}))
    assert before == (store.path / "things.jsonl").read_bytes()
    assert (0, 1, 0, 0, 0) == counts(bring(store, {"id": "a", "x": True}))


def test_skip_leaves_what_exists(store: Store) -> None:
    """With "skip" only new records are written."""
    plan = bring(store, {"id": "a", "x": 2}, {"id": "b"}, policy="skip")
    assert (1, 0, 0, 0, 1) == counts(plan)
    assert STORED == store.get("things", "a")


def test_replace_removes_what_is_not_imported(store: Store) -> None:
    """Fields that the imported record lacks stay, unless it is to replace the stored one."""
    bring(store, {"id": "a", "x": 2})
    assert {**STORED, "x": 2, "updated_at": 9_000} == store.get("things", "a")
    bring(store, {"id": "a", "x": 3}, replace=True)
    assert {"id": "a", "x": 3, "updated_at": 9_001} == store.get("things", "a")


def test_a_tombstone_deletes_what_is_older(store: Store) -> None:
    """A tombstone deletes an older record, and not a newer one."""
    assert (0, 0, 0, 0, 1) == counts(bring(store, {"id": "a", "deleted": True, "updated_at": 9}))
    assert (0, 0, 1, 0, 0) == counts(
        bring(store, {"id": "a", "deleted": True, "updated_at": 1_001})
    )
    assert store.get("things", "a") is None


@pytest.mark.parametrize("form", [int, format_rfc3339])
def test_what_was_deleted_here_comes_back_only_on_purpose(
    store: Store, form: Callable[[int], int | str]
) -> None:
    """An older version of a dead record is left out, or overwrites the deletion, stamped anew."""
    store.create({"id": "dead", "title": "old", "updated_at": form(1000)}, collection="things")
    store.delete("things", "dead")
    died_at = store.history("things", "dead")[-1].order_us
    old = {"id": "dead", "title": "old", "updated_at": form(1000)}
    for policy in ("newer", "skip"):
        plan = bring(store, old, policy=policy)
        assert (0, 0, 0, 0, 1) == counts(plan)
        assert ["deleted here after that version"] == [item.reason for item in plan.skipped]
    assert (1, 0, 0, 0, 0) == counts(bring(store, old, policy="overwrite", dry_run=True))
    assert (1, 0, 0, 0, 0) == counts(bring(store, old, policy="overwrite"))
    back = store.get_one("things", "dead")
    assert "old" == back["title"]
    assert died_at < parse_instant(back["updated_at"])
    assert isinstance(form(1000), type(back["updated_at"]))


def test_of_several_versions_the_newest_counts(store: Store) -> None:
    """Of lines with one id the newest is imported, of equals the last; the others are told of."""
    plan = bring(
        store,
        {"id": "n", "x": 1, "updated_at": 5},
        {"id": "n", "x": 2, "updated_at": 7},
        {"id": "n", "x": 3, "updated_at": 7},
        {"id": "n", "x": 4, "updated_at": 6},
    )
    assert [1, 2, 4] == [item.place for item in plan.skipped]
    assert {"id": "n", "x": 3, "updated_at": 7} == store.get("things", "n")


def test_what_is_no_record_is_named(store: Store) -> None:
    """Each fault is told of with its place and reason, and the others are imported."""
    plan = bring(
        store,
        {"x": 1},
        {"id": 5},
        {"id": "b", "updated_at": "noon"},
        {"id": "c", "x": 10**400},
        {"id": "d"},
    )
    assert [1, 2, 3, 4] == [item.place for item in plan.skipped]
    assert "no id" == plan.skipped[0].reason
    assert 4 == plan.faults
    assert {"a", "d"} == {record["id"] for record in store.list("things")}


def test_strict_imports_all_or_nothing(store: Store) -> None:
    """`strict` writes nothing if anything is not a usable record."""
    with pytest.raises(ImportRefusedError) as caught:
        bring(store, {"id": "d"}, {"x": 1}, strict=True)
    assert [2] == [item.place for item in caught.value.skipped]
    assert ["a"] == [record["id"] for record in store.list("things")]


def test_a_dry_run_writes_nothing(store: Store) -> None:
    """A dry run counts what would be done, and the log stays as it is."""
    before = (store.path / "things.jsonl").read_bytes()
    plan = bring(
        store, {"id": "b"}, {"id": "a", "x": 5}, {"id": "z", "deleted": True}, dry_run=True
    )
    assert (1, 1, 0, 0, 1) == counts(plan)
    assert before == (store.path / "things.jsonl").read_bytes()


def test_ids_can_come_from_elsewhere(store: Store) -> None:
    """Ids are taken from another field, as text, or made."""
    bring(store, {"key": 17, "x": 1}, id_field="key")
    assert {"id": "17", "key": 17, "x": 1, "updated_at": 9_000} == store.get("things", "17")
    assert (2, 0, 0, 0, 0) == counts(bring(store, {"x": 5}, {"x": 6}, make_ids=True))
