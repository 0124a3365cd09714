"""Clones on PostgreSQL and SQLite that migrate, edit and merge at random."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count, permutations
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import URL, make_url

from taskstore.errors import UnknownRevisionError
from tests.postgres.migrating import Side, clone_of, new_scripts, new_side

LONG = os.environ.get("TASKSTORE_EVOLUTIONS") == "long"
SEED = int(os.environ.get("TASKSTORE_EVOLUTIONS_SEED", "0"))
IDS = ["a", "b"]
REVISIONS = ["a1", "a2", "a3"]
FIELDS = ("name", "prio", "family")
"""What the sides edit, each its own."""


def column(field: str, at: str) -> str:
    """The column that a revision has a field in."""
    if at == "a1":
        return {"name": "title", "prio": "prio", "family": "author"}[field]
    return "owner" if (field, at) == ("name", "a3") else field


def value(field: str, number: int, at: str) -> str | int:
    """The value of a field in a revision."""
    if field == "prio":
        return number if at != "a1" else str(number)
    text = f"{field[0].upper()}{number}"
    return f"Grace {text}" if (field, at) == ("family", "a1") else text


def edit(side: Side, field: str, number: int, chance: Random) -> str | None:
    """Change a field of a row, with or without a store that is open; return the row's id.

    SQLite refuses to change rows of which it has newer lines: None.
    """
    id = chance.choice(IDS)
    name, new = column(field, side.at), value(field, number, side.at)
    if side.is_postgres and chance.random() < 0.5:
        side.sql(f"UPDATE tasks SET {name} = {new!r} WHERE id = '{id}'")
    else:
        try:
            side.put(id, **{name: new})
        except UnknownRevisionError:
            assert not side.is_postgres
            return None
    return id


def begin(tmp_path: Path, new_database: Callable[[], URL], *, versioned: bool) -> list[Side]:
    """Two clones on PostgreSQL and one on SQLite, all with the same rows."""
    scripts = new_scripts(tmp_path / "scripts")
    first = new_side(tmp_path / "0", new_database(), scripts, versioned=versioned)
    for id in IDS:
        first.put(id, title="N0", prio="0", author="Grace F0")
    first.commit()
    urls = [new_database(), make_url(f"sqlite:///{tmp_path / '2' / 'app.db'}")]
    return [first, *(clone_of(first, tmp_path / f"{n}", url) for n, url in enumerate(urls, 1))]


def exchange(side: Side, other: Side) -> None:
    """Bring to a clone what another one has."""
    other.commit()
    side.commit()
    side.pull(other)


@pytest.mark.parametrize("seed", range(SEED, SEED + (100 if LONG else 2)))
def test_no_edit_is_lost(tmp_path: Path, new_database: Callable[[], URL], seed: int) -> None:
    """In whatever order clones migrate, edit and merge, all end equal with every edit."""
    chance, numbers = Random(seed), count(10)
    sides = begin(tmp_path, new_database, versioned=chance.random() < 0.5)
    expected = {(id, field): 0 for id in IDS for field in FIELDS}
    for _ in range(36 if LONG else 24):
        place = chance.randrange(3)
        side, field, number = sides[place], FIELDS[place], next(numbers)
        step = chance.choices(["edit", "upgrade", "pull", "commit"], [5, 1, 3, 1])[0]
        if step == "edit":
            id = edit(side, field, number, chance)
            expected |= {} if id is None else {(id, field): number}
        elif step == "upgrade" and side.at != REVISIONS[-1]:
            side.migrate(REVISIONS[REVISIONS.index(side.at) + 1])
        elif step == "pull":
            exchange(side, chance.choice([one for one in sides if one is not side]))
        else:
            side.commit()
    for side in chance.sample(sides, 3):
        side.migrate(REVISIONS[-1])
    for side, other in [*permutations(sides, 2)] * 2:
        exchange(side, other)
    found = [side.rows() for side in sides]
    assert found[0] == found[1] == found[2]
    for (id, field), number in expected.items():
        assert value(field, number, "a3") == found[0][id][column(field, "a3")], (id, field)
