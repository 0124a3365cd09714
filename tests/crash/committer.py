"""What the kill test runs in processes of their own: a writer, and a reader beside it."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from taskstore import Store, where
from taskstore.models import StoredRecord
from tests.crash.scene import TYPES, Plan, Task

COUNTER = "counter"
"""The id of a record that each transaction of several records updates."""


def commit_all_the_time(
    directory: Path, pipe: Connection, first: int, alive: list[int], seed: int
) -> None:
    """Commit transactions in all ways there are, and tell of each before and after."""
    chance = random.Random(seed)
    with Store.open(directory, types=TYPES.values()) as store:
        factory = sessionmaker(store.engine)
        store.attach(factory)
        for group in itertools.count(first):
            if alive and chance.random() < 0.3:
                doomed = alive.pop(chance.randrange(len(alive)))
                pipe.send(("delete", doomed))
                delete(store, doomed)
                pipe.send(("deleted", doomed))
            look_after(store, chance)
            pipe.send(("create", group))
            way = chance.choice(WAYS)
            way(store, factory, group, chance)
            pipe.send(("created", group))
            if way not in (by_single, by_batch):
                pipe.send(("counted", group))
            alive.append(group)


def records(group: int, chance: random.Random, least: int = 1) -> list[Any]:
    """The records of one transaction: some in each collection, or one in all."""
    plans = chance.randrange(least, 4)
    tasks = chance.randrange(least, 4)
    found: list[Any] = []
    for type_, count in ((Plan, plans), (Task, tasks)):
        found += [
            type_(f"{group}-{number}", "x" * chance.choice([1, 100, 5000]), group, plans, tasks)
            for number in range(count)
        ]
    return found


def by_calls(store: Store, factory: Any, group: int, chance: random.Random) -> None:
    """The store's calls in a transaction."""
    with store.transaction():
        for row in records(group, chance):
            store.create(row)
        store.save(Plan(COUNTER, group=group))


def by_single(store: Store, factory: Any, group: int, chance: random.Random) -> None:
    """One record, one line."""
    store.create(Plan(f"{group}-0", group=group, plans=1))


def by_batch(store: Store, factory: Any, group: int, chance: random.Random) -> None:
    """Several records of one collection."""
    store.create_many([Task(f"{group}-{n}", "y" * 50, group, tasks=5) for n in range(5)])


def by_session(store: Store, factory: Any, group: int, chance: random.Random) -> None:
    """The unit of work of a session of the store's, with a store call in it."""
    with store.session() as session:
        add(session, group, chance)
        store.save(Plan(COUNTER, group=group))
        session.commit()


def by_attached(
    store: Store, factory: sessionmaker[Session], group: int, chance: random.Random
) -> None:
    """A session of the application's, with a savepoint."""
    with factory() as session:
        add(session, group, chance)
        session.flush()
        with session.begin_nested():
            counter = session.get(StoredRecord, ("plans", COUNTER))
            if counter is None:
                session.add(StoredRecord.from_record(Plan(COUNTER, group=group)))
            else:
                counter.data = {**counter.data, "group": group}
        session.commit()


def add(session: Session, group: int, chance: random.Random) -> None:
    """Add the rows of a transaction."""
    session.add_all(StoredRecord.from_record(row) for row in records(group, chance))


WAYS: list[Callable[..., None]] = [by_calls, by_single, by_batch, by_session, by_attached]


def delete(store: Store, group: int) -> None:
    """Delete all records of a group."""
    with store.transaction():
        for type_ in TYPES.values():
            store.delete_where(type_, where("group") == group, where("id") != COUNTER)


def look_after(store: Store, chance: random.Random) -> None:
    """Compact, sync or verify now and then."""
    dice = chance.random()
    if dice < 0.05:
        for collection in TYPES:
            if store.exists(collection):
                store.compact(collection, keep_tombstones_ms=chance.choice([0, 10**9]))
    elif dice < 0.08:
        store.sync(force=chance.random() < 0.5)
    elif dice < 0.1:
        assert store.verify().ok


def read_all_the_time(directory: Path, pipe: Connection) -> None:
    """Read until told to stop; report the reads, and the groups that were seen by half."""
    halves: list[str] = []
    reads = 0
    with Store.open(directory, types=TYPES.values()) as store:
        while not pipe.poll():
            for look in (in_one_snapshot, in_one_statement, in_the_log):
                halves += [f"{look.__name__}: {half}" for half in look(store)]
                reads += 1
    pipe.send({"reads": reads, "halves": halves})


def in_one_snapshot(store: Store) -> list[str]:
    """Both collections in one transaction."""
    with store.session(read_only=True):
        rows = [(name, row) for name in TYPES for row in store.list(name)]
    return incomplete(rows, tuple(TYPES))


def in_one_statement(store: Store) -> list[str]:
    """Both collections by one SELECT of the ORM."""
    with store.session(read_only=True) as session:
        found = session.scalars(select(StoredRecord)).all()
        rows = [(row.collection, dict(row.data)) for row in found]
    return incomplete(rows, tuple(TYPES))


def in_the_log(store: Store) -> list[str]:
    """One collection, by its log."""
    rows, problems = store.list_tolerant("plans")
    halves = incomplete([("plans", row) for row in rows], ("plans",))
    return [*halves, *map(str, problems)]


def incomplete(rows: list[tuple[str, dict[str, Any]]], collections: tuple[str, ...]) -> list[str]:
    """The groups of which some records are missing."""
    found: Counter[tuple[int, str]] = Counter()
    wanted: dict[int, dict[str, Any]] = {}
    for collection, row in rows:
        if row["id"] != COUNTER:
            found[row["group"], collection] += 1
            wanted[row["group"]] = row
    return [
        f"group {group}: {found[group, collection]} of {row.get(collection, 0)} {collection}"
        for group, row in wanted.items()
        for collection in collections
        if found[group, collection] != row.get(collection, 0)
    ]
