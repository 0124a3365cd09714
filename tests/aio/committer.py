"""What the kill test runs in a process of its own: an asyncio application that commits."""

from __future__ import annotations

import asyncio
import itertools
import random
from multiprocessing.connection import Connection
from pathlib import Path

from tests.aio.clones import async_cloned
from tests.mirror.models import Person, Step, Tag, Task


def commit_all_the_time(
    folder: Path, pipe: Connection, first: int, alive: list[int], seed: int
) -> None:
    """Commit rows of four collections at a time, and tell of each group before and after."""
    asyncio.run(_commit(folder, pipe, first, alive, random.Random(seed)))


async def _commit(
    folder: Path, pipe: Connection, first: int, alive: list[int], chance: random.Random
) -> None:
    async with async_cloned(folder) as clone:
        for group in itertools.count(first):
            if alive and chance.random() < 0.3:
                doomed = alive.pop(chance.randrange(len(alive)))
                pipe.send(("delete", doomed))
                async with clone.sessions.begin() as session:
                    await session.delete(await session.get_one(Task, f"t{doomed}"))
                    await session.delete(await session.get_one(Person, f"p{doomed}"))
                    await session.delete(await session.get_one(Tag, f"g{doomed}"))
                pipe.send(("deleted", doomed))
            if chance.random() < 0.2:
                await clone.store.sync(force=chance.random() < 0.5)
            pipe.send(("create", group))
            async with clone.sessions.begin() as session:
                person = Person(id=f"p{group}", name=f"p{group}")
                task = Task(id=f"t{group}", title="t", owner=person, tags=[Tag(name=f"g{group}")])
                task.steps.append(Step(number=1))
                session.add(task)
                if chance.random() < 0.5:
                    await session.flush()
            pipe.send(("created", group))
            alive.append(group)
