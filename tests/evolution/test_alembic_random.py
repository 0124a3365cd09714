"""Two clones with an Alembic history each, which migrate, edit and merge at random."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from tests.evolution.migrating import FIELDS, Revision, Side, clone_of, new_side

LONG = os.environ.get("TASKSTORE_EVOLUTIONS") == "long"
SEED = int(os.environ.get("TASKSTORE_EVOLUTIONS_SEED", "0"))
IDS = ["a", "b", "c"]
ROUNDS = 4 if LONG else 2
Edits = dict[tuple[str, int], int]


def evolve(side: Side, own: tuple[int, ...], chance: Random) -> Edits:
    """Add a revision that changes a field of the side's own; return what it writes to rows.

    It follows one head or all of them, so that the graph has branches and merges.
    """
    field, number = chance.choice(own), next(side.times)
    name, type_ = side.fields()[field]
    some = side.heads_with(field)
    down = (chance.choice(some),) if some and chance.random() < 0.5 else side.heads
    kind = chance.choice(["rename", "rename", "convert", "map", "write", "insert"])
    fields: dict[int, tuple[str, type]] = {}
    maps: dict[int, dict[int, int]] = {}
    edits: Edits = {}
    body = ""
    if kind == "rename":
        fields[field] = f"f{field}_{number}", type_
        body = f"""
            with op.batch_alter_table("tasks") as tasks:
                tasks.alter_column({name!r}, new_column_name={fields[field][0]!r})
                tasks.evolve_log(rename={{{name!r}: {fields[field][0]!r}}})
        """
    elif kind == "convert":
        was, to = ("str", "int") if type_ is str else ("int", "str")
        fields[field] = name, int if to == "int" else str
        old, new = ("String", "Integer") if to == "int" else ("Integer", "String")
        body = f"""
            with op.batch_alter_table("tasks") as tasks:
                tasks.alter_column({name!r}, type_=sa.{new}, existing_type=sa.{old})
            op.evolve_log("tasks", convert={{{name!r}: ({was!r}, {to!r})}})
        """
    elif kind == "map":
        maps[field] = {0: number}
        body = f"""
            op.execute("UPDATE tasks SET {name} = {type_(number)!r} WHERE {name} = {type_(0)!r}")
            op.evolve_log("tasks", map={{{name!r}: {{{type_(0)!r}: {type_(number)!r}}}}})
        """
    elif kind == "insert":
        edits = {(f"m{number}", field): number for field in range(FIELDS)}
        values = f"'m{number}', {f'{number}, ' * FIELDS}0"
        body = f"""op.execute("INSERT INTO tasks VALUES ({values})")"""
    else:
        id = chance.choice(IDS)
        edits[id, field] = number
        body = f"""op.execute("UPDATE tasks SET {name} = {type_(number)!r} WHERE id = '{id}'")"""
    side.add(Revision(f"r{number}", down, fields, (field,), maps, body))
    # What a revision writes to rows needs the line in env.py.
    side.upgrade(logged=kind in ("write", "insert") or chance.random() < 0.7)
    return edits


def edit(side: Side, chance: Random, deleted: set[str]) -> Edits:
    """Change some fields of some rows, and now and then add a row, or delete one."""
    edits: Edits = {}
    fields = side.fields()
    with side.session() as (session, model, _):
        ids = sorted(row.id for row in session.query(model))
        for _ in range(chance.randrange(4) if ids else 0):
            id, field, value = chance.choice(ids), chance.randrange(FIELDS), next(side.times)
            name, type_ = fields[field]
            setattr(session.get(model, id), name, type_(value))
            edits[id, field] = value
        if chance.random() < 0.3:
            id, value = f"n{next(side.times)}", next(side.times)
            session.add(model(id=id, **{name: type_(value) for name, type_ in fields.values()}))
            edits |= {(id, field): value for field in fields}
        elif ids and chance.random() < 0.3:
            session.delete(session.get(model, id := chance.choice(ids)))
            deleted.add(id)
    return edits


def merge(into: Side, other: Side) -> None:
    """Merge the other clone's branch, and migrate to what has come with it."""
    into.clone.git("fetch", "-q", str(other.clone.path), "main")
    into.clone.git("merge", "-q", "--no-edit", "FETCH_HEAD")
    into.upgrade()
    into.clone.git("add", "-A")
    into.clone.git("commit", "-qm", "migrated", "--allow-empty")


def commit(side: Side) -> None:
    """Commit what a side has done."""
    side.clone.git("add", "-A")
    side.clone.git("commit", "-qm", "work", "--allow-empty")


def check(
    expected: Edits, made: list[Edits], side: Side, new: set[str], deleted: set[str]
) -> Edits:
    """Return the values of a side; each must be one that was there, or was written since."""
    found = {key: value for key, (value, _) in side.rows().items()}
    values = {key: {edits[key] for edits in made if key in edits} for key in found}
    for (id, field), before in expected.items():
        if (id, field) not in found:
            assert id in deleted
            continue
        for name in new:
            before = side.revisions[name].maps.get(field, {}).get(before, before)
        may_stay = not values[id, field] or id in deleted
        assert found[id, field] in values[id, field] | ({before} if may_stay else set()), id
        # A deletion stands unless the other side has changed the record.
        edited = {key[0] for edits in made for key in edits}
        assert id not in deleted or id in edited, id
    # A revision may write to a row that was deleted long ago.
    gone = set(IDS) - {key[0] for key in expected}
    written = {key for edits in (expected, *made) for key in edits if key[0] not in gone}
    assert {key for key in written if key[0] not in deleted} <= found.keys() <= written
    return found


@pytest.mark.parametrize("seed", range(SEED, SEED + (200 if LONG else 2)))
def test_no_edit_of_one_side_is_lost(tmp_path: Path, seed: int) -> None:
    """Whatever clones migrate and edit on branches of the graph, both end equal with every edit."""
    chance = Random(seed)
    one = new_side(tmp_path / "one", {}, iter(range(1, 10**6)))
    with one.session() as (session, model, _):
        session.add_all(model(id=id, **{f"f{n}": "0" for n in range(FIELDS)}) for id in IDS)
    commit(one)
    two = clone_of(one, tmp_path / "two")
    expected: Edits = {(id, field): 0 for id in IDS for field in range(FIELDS)}
    for _ in range(ROUNDS):
        known = set(one.revisions)
        made: list[Edits] = []
        deleted = set[str]()
        for side, own in ((one, (0, 1)), (two, (2, 3))):
            edits: Edits = {}
            writes: Edits = {}
            gone = set[str]()
            for _ in range(chance.randrange(3)):
                edits |= edit(side, chance, gone)
                writes |= (written := evolve(side, own, chance))
                edits |= written
            edits |= edit(side, chance, gone)
            made.append({key: edits[key] for key in edits if key[0] not in gone or key in writes})
            deleted |= gone
            commit(side)
        old = [side.lines() for side in (one, two)]
        first, second = chance.sample([one, two], 2)
        merge(first, second)
        merge(second, first)
        # No line that was there has been touched.
        assert all(line in first.lines() for lines in old for line in lines)
        new = one.revisions.keys() - known
        expected = check(expected, made, first, new, deleted)
        assert first.rows() == second.rows()
    assert first.rows() == clone_of(first, tmp_path / "three").rows()
