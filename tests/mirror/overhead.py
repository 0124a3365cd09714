"""The CPU that a mirrored row costs beyond what its session takes without a store.

Run it with `python -m tests.mirror.overhead`.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import attrs
from sqlalchemy import JSON, Engine, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from taskstore import Store, mirrored
from taskstore._cache.schema import ensure_schema


class Base(DeclarativeBase):
    """The application's base."""


@mirrored("items")
class Item(Base):
    """A row of some size."""

    __tablename__ = "items"
    id: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    state: Mapped[str]
    priority: Mapped[int]
    labels: Mapped[list[str]] = mapped_column(JSON)
    updated_at: Mapped[int]


@attrs.frozen
class Overhead:
    """Added CPU, in microseconds per row: the attached session less the same one without a store.

    Attributes:
        insert, update, delete: of the rows of one transaction.
        plain: what an insert takes without a store.
    """

    insert: float
    update: float
    delete: float
    plain: float


def measure_hook_overhead(rows: int = 2000, repeats: int = 3) -> Overhead:
    """Measure transactions of so many rows; the best of some runs counts."""
    bare = [_measured(rows, attached=False) for _ in range(repeats)]
    hooked = [_measured(rows, attached=True) for _ in range(repeats)]
    without, within = ([min(run[n] for run in runs) for n in range(3)] for runs in (bare, hooked))
    added = [(after - before) / rows * 1e6 for after, before in zip(within, without, strict=True)]
    return Overhead(added[0], added[1], added[2], without[0] / rows * 1e6)


def _measured(rows: int, *, attached: bool) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{folder}/app.db")
        Base.metadata.create_all(engine)
        ensure_schema(engine)
        sessions = sessionmaker(engine)
        opened: Any = nullcontext()
        if attached:
            opened = Store.open(Path(folder) / ".taskstore", engine=engine, mirrors=[Item])
        with opened as store:
            if store is not None:
                store.attach(sessions)
            times = _run(sessions, rows)
        _dispose(engine)
    return times


def _run(sessions: sessionmaker[Session], rows: int) -> list[float]:
    times = []
    for work in (_insert, _update, _delete):
        with sessions() as session:
            found = list(session.scalars(select(Item)))
            start = time.process_time()
            work(session, found, rows)
            session.commit()
            times.append(time.process_time() - start)
    return times


def _insert(session: Session, found: list[Item], rows: int) -> None:
    session.add_all(
        Item(id=f"item-{n}", title="A title", state="open", priority=n, labels=["x"], updated_at=1)
        for n in range(rows)
    )


def _update(session: Session, found: list[Item], rows: int) -> None:
    for item in found:
        item.state = "done"


def _delete(session: Session, found: list[Item], rows: int) -> None:
    for item in found:
        session.delete(item)


def _dispose(engine: Engine) -> None:
    engine.dispose()


if __name__ == "__main__":
    result = measure_hook_overhead()
    print(
        f"added CPU per row: insert {result.insert:.0f} us (without a store {result.plain:.0f}), "
        f"update {result.update:.0f} us, delete {result.delete:.0f} us"
    )
