"""Record classes that state how their older lines are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from taskstore import (
    InvalidDeclarationError,
    Store,
    UnknownRevisionError,
    evolution,
    indexed,
    record,
    where,
)


def first() -> Any:
    """The class of the first days."""

    @record("plans")
    class Plan:
        id: str
        title: str
        priority: str = indexed(default="3")
        updated_at: int = 0

    return Plan


def second() -> Any:
    """The class after two changes."""

    @record("plans", evolutions=[evolution("2", convert={"priority": ("str", "int")})])
    class Plan:
        id: str
        name: str = indexed(was="title")
        priority: int = indexed(default=3)
        updated_at: int = 0

    return Plan


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with two plans of the first days."""
    old = first()
    with Store.open(tmp_path / ".taskstore", types=[old]) as store:
        store.create_many([old("a", "Ship it", "1"), old("b", "Sail it")])
    return tmp_path / ".taskstore"


def test_a_class_reads_its_older_lines(folder: Path) -> None:
    """With the steps that the class states, old lines are records of it, also in filters."""
    new = second()
    before = (folder / "plans.jsonl").read_bytes()
    with Store.open(folder, types=[new]) as store:
        assert {("Ship it", 1), ("Sail it", 3)} == {(p.name, p.priority) for p in store.list(new)}
        assert "a" == store.first(new, where(new.priority) == 1).id
        assert "b" == store.first(new, where(new.name) == "Sail it").id
        assert before == (folder / "plans.jsonl").read_bytes()
        plan = store.get_one(new, "a")
        plan.priority = 9
        store.update(plan)
        assert store.verify().ok
    line = json.loads((folder / "plans.jsonl").read_text().splitlines()[-1])
    assert ("Ship it", 9, "2+title:name") == (line["name"], line["priority"], line["$revision"])
    stated = (folder / "evolutions.jsonl").read_text().splitlines()
    assert {"plans@2", "plans@title:name"} == {json.loads(one)["id"] for one in stated}
    with Store.open(folder, types=[second()]) as store:
        assert 2 == store.count(new)
        assert stated == (folder / "evolutions.jsonl").read_text().splitlines()


def test_a_class_that_is_met_late(folder: Path) -> None:
    """A class that is first used in a write, or within a transaction, states its steps as well."""
    new = second()
    with Store.open(folder) as store, store.transaction():
        store.save(new("c", "Sing it", 7))
        assert {"Ship it", "Sail it", "Sing it"} == {plan.name for plan in store.list(new)}
    with Store.open(folder, types=[new]) as store:
        assert 3 == store.count(new)
        assert store.verify().ok


def test_a_transaction_that_fails_states_nothing(folder: Path) -> None:
    """If the first write fails, the evolutions are taken back with it."""
    new = second()
    with Store.open(folder) as store:
        with pytest.raises(ZeroDivisionError), store.transaction():
            store.save(new("c", "Sing it", 7))
            raise ZeroDivisionError
        assert not (folder / "evolutions.jsonl").exists()
        assert "Ship it" == (store.get("plans", "a") or {})["title"]
        store.save(new("c", "Sing it", 7))
        assert 3 == store.count(new)


def test_an_older_program_leaves_newer_lines_alone(folder: Path) -> None:
    """A program with the class of the first days serves and writes what it knows."""
    new, old = second(), first()
    with Store.open(folder, types=[new]) as store:
        store.patch(new, "a", priority=5)
    with Store.open(folder, types=[old]) as store:
        assert ["b"] == [plan.id for plan in store.list(old)]
        [problem] = store.sync(force=True).problems
        assert "a" == problem.id
        assert "upgrade" in problem.reason
        with pytest.raises(UnknownRevisionError):
            store.save(old("a", "Mine"))
        store.patch(old, "b", title="Swim it")
        assert store.verify().ok
    with Store.open(folder, types=[new]) as store:
        assert {("Ship it", 5), ("Swim it", 3)} == {(p.name, p.priority) for p in store.list(new)}


def test_a_field_that_was_renamed_twice(folder: Path) -> None:
    """Lines that have any of the former names are read under the last one."""

    @record("plans")
    class Plan:
        id: str
        label: str = indexed(was=("title", "name"))

    with Store.open(folder, types=[Plan]) as store:
        assert {"Ship it", "Sail it"} == {plan.label for plan in store.list(Plan)}
        store.create(Plan("c", label="New"))
        assert 3 == store.count(Plan)


def test_a_reader_that_writes_nothing(folder: Path) -> None:
    """A store for reading applies what a class states, and states nothing itself."""
    new = second()
    with Store.open(folder, types=[new], read_only=True) as store:
        assert {"Ship it", "Sail it"} == {plan.name for plan in store.list(new)}
    assert not (folder / "evolutions.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"evolutions": ["2"]}, "takes what evolution"),
        ({"evolutions": [evolution("2"), evolution("2")]}, "one revision"),
        ({"evolutions": [evolution("a b")]}, "is not a revision"),
    ],
)
def test_wrong_declarations(options: Any, reason: str) -> None:
    """What cannot be stated is refused where the class is declared."""
    with pytest.raises(InvalidDeclarationError, match=reason):

        @record("plans", **options)
        class Plan:
            id: str


def test_wrong_steps() -> None:
    """Steps that are none are refused where they are stated."""
    with pytest.raises(InvalidDeclarationError, match="belongs to the format"):
        evolution("2", rename={"id": "key"})
    with pytest.raises(InvalidDeclarationError, match="a type is one of"):
        evolution("2", convert={"priority": "number"})
    with pytest.raises(InvalidDeclarationError, match="belongs to the format"):

        @record("evolutions")
        class Own:
            id: str
