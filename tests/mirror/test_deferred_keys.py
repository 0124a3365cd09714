"""Foreign keys that are looked at when a transaction commits break for one row, not for all."""

# Each case has a base of its own, which mypy cannot follow.
# mypy: disable-error-code="misc, valid-type"

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from taskstore import mirrored
from tests.mirror.clones import Clone, cloned
from tests.mirror.test_bad_rows import FUTURE, new_base, reasons


def related(*, is_deferred: bool) -> tuple[Any, Any, Any]:
    """People, their tasks, and notes on both that are not mirrored."""
    base = new_base()
    options: Any = {"deferrable": True, "initially": "DEFERRED"} if is_deferred else {}

    @mirrored("people")
    class Person(base):
        __tablename__ = "people"
        id: Mapped[str] = mapped_column(primary_key=True)
        updated_at: Mapped[int]

    @mirrored("tasks")
    class Task(base):
        __tablename__ = "tasks"
        id: Mapped[str] = mapped_column(primary_key=True)
        owner: Mapped[str | None] = mapped_column(ForeignKey("people.id", **options))
        updated_at: Mapped[int]

    class Note(base):
        __tablename__ = "notes"
        id: Mapped[int] = mapped_column(primary_key=True)
        person: Mapped[str | None] = mapped_column(ForeignKey("people.id", **options))
        task: Mapped[str | None] = mapped_column(ForeignKey("tasks.id"))

    return Person, Task, Note


def bury(clone: Clone, collection: str, *ids: str) -> None:
    """Append tombstones of records to the log."""
    for id in ids:
        clone.append(collection, {"id": id, "deleted": True, "updated_at": FUTURE})


@pytest.mark.parametrize("is_deferred", [True, False])
@pytest.mark.parametrize(
    ("case", "refused", "people", "tasks"),
    [
        ("no parent", {"z": "'people' that is not there"}, ["p"], ["1", "2", "good"]),
        ("parent goes", {"p": "rows of 'tasks' refer"}, ["p"], ["1", "2", "good"]),
        (
            "child is kept",
            {"p": "rows of 'tasks' refer", "2": "rows of 'notes' refer"},
            ["p"],
            ["2", "good"],
        ),
        ("parent is kept", {"p": "rows of 'notes' refer"}, ["p"], ["good"]),
        ("all go", {}, [], ["good"]),
    ],
)
def test_a_row_that_breaks_one(
    tmp_path: Path,
    case: str,
    refused: dict[str, str],
    people: list[str],
    tasks: list[str],
    *,
    is_deferred: bool,
) -> None:
    """It is a problem of its own, and the others are taken, whenever the key is looked at."""
    person, task, note = related(is_deferred=is_deferred)
    with cloned(tmp_path / "a", [person, task], person) as clone:
        with clone.sessions.begin() as session:
            session.add(person(id="p"))
            session.flush()
            session.add_all([task(id="1", owner="p"), task(id="2", owner="p")])
            session.flush()
            if case == "child is kept":
                session.add(note(task="2"))
            elif case == "parent is kept":
                session.add(note(person="p"))
        if case == "no parent":
            clone.append("tasks", {"id": "z", "owner": "nobody", "updated_at": 5})
        else:
            bury(clone, "people", "p")
        if case in ("child is kept", "parent is kept", "all go"):
            bury(clone, "tasks", "1", "2")
        clone.append("tasks", {"id": "good", "owner": None, "updated_at": 5})
        found = reasons(clone.store.sync().mirrored)
        assert refused.keys() == found.keys()
        assert all(reason in found[id] for id, reason in refused.items())
        assert people == [row.id for row in clone.rows(person)]
        assert tasks == [row.id for row in clone.rows(task)]
    with cloned(tmp_path / "a", [person, task], person) as clone:
        assert refused.keys() == reasons(clone.store.sync().mirrored).keys()
