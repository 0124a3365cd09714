"""Programs that are killed: a writer that says what it has committed, and a scribe."""

from __future__ import annotations

import random
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from taskstore import Store
from taskstore.errors import LogPendingError
from tests.postgres.models import MIRRORS

NUMBERS = 1_000_000
"""How many numbers a writer has for itself."""

_PAUSE = 0.01
"""How long a writer waits after a failure, in seconds: its numbers would run out."""

_REST = 0.005
"""How long it waits after each commit, in seconds: every program that starts may read the log."""


def write_all_the_time(
    url: str, folder: Path, told: Connection, first: int, *, ack: str | None
) -> None:
    """Commit pairs of rows, and changes of a third, and say when each is acknowledged.

    With a store, the same transactions write records of the store: pairs of notes, and a count.

    Args:
        url: Of the database.
        folder: The store directory.
        told: Takes the number of each pair: before the commit as ("try", n), after it as
            ("done", n).
        first: The number to begin with.
        ack: As of the store that is opened; None for an application without one.
    """
    engine = create_engine(url)
    store = None
    if ack is not None:
        store = Store.open(folder, engine=engine, mirrors=MIRRORS, ack=ack)  # type: ignore[arg-type]
    chance = random.Random(first)
    for number in range(first, first + NUMBERS):
        told.send(("try", number))
        try:
            begin: Any = engine.begin if store is None else store.transaction
            with begin() as connection:
                for side in "ab":
                    connection.execute(
                        text("INSERT INTO tasks (id, title) VALUES (:id, '')"),
                        {"id": f"{number}{side}"},
                    )
                connection.execute(
                    text(
                        "INSERT INTO labels (id, name) VALUES (gen_random_uuid(), :number); "
                        if chance.random() < 0.2
                        else "UPDATE labels SET name = :number WHERE id = "
                        "(SELECT id FROM labels ORDER BY id LIMIT 1)"
                    ),
                    {"number": str(number)},
                )
                if store is not None:
                    store.create_many("notes", [{"id": f"{number}{side}"} for side in "ab"])
                    store.save("counts", {"id": "one", "count": number})
        except (OperationalError, LogPendingError):
            # The server is down, or went down; whether it has the transaction nobody knows.
            engine.dispose()
            threading.Event().wait(_PAUSE)
            continue
        told.send(("done", number))
        threading.Event().wait(_REST)
    del store


def drain_all_the_time(url: str, folder: Path, told: Connection) -> None:
    """Be the scribe, until killed."""
    engine = create_engine(url)
    store = Store.open(folder, engine=engine, mirrors=MIRRORS)
    told.send("open")
    threading.Event().wait()
    del store
