"""What the kill test runs in a process of its own: an application that commits all the time."""

from __future__ import annotations

import itertools
import random
from multiprocessing.connection import Connection
from pathlib import Path

from tests.mirror.clones import cloned
from tests.mirror.models import Person, Step, Tag, Task


def commit_all_the_time(
    folder: Path, pipe: Connection, first: int, alive: list[int], seed: int
) -> None:
    """Commit rows of four collections at a time, and tell of each group before and after."""
    chance = random.Random(seed)
    with cloned(folder) as clone:
        for group in itertools.count(first):
            if alive and chance.random() < 0.3:
                doomed = alive.pop(chance.randrange(len(alive)))
                pipe.send(("delete", doomed))
                with clone.sessions.begin() as session:
                    session.delete(session.get_one(Task, f"t{doomed}"))
                    session.delete(session.get_one(Person, f"p{doomed}"))
                    session.delete(session.get_one(Tag, f"g{doomed}"))
                pipe.send(("deleted", doomed))
            if chance.random() < 0.2:
                clone.store.sync(force=chance.random() < 0.5)
            pipe.send(("create", group))
            with clone.sessions.begin() as session:
                person = Person(id=f"p{group}", name=f"p{group}")
                task = Task(id=f"t{group}", title="t", owner=person, tags=[Tag(name=f"g{group}")])
                session.add(task)
                if chance.random() < 0.5:
                    session.flush()
                task.steps.append(Step(number=1))
            pipe.send(("created", group))
            alive.append(group)
