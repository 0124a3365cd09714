"""Mirrored tables that no Alembic revision has made, beside lines that have evolved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import BigInteger, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import NullPool

from taskstore import Store, mirrored
from tests.evolution.test_store import append, evolve


@pytest.fixture
def model() -> Any:
    """A model in the newest shape."""

    class Base(DeclarativeBase):
        pass

    @mirrored("tasks")
    class Task(Base):
        __tablename__ = "tasks"
        id: Mapped[str] = mapped_column(primary_key=True)
        name: Mapped[str]
        updated_at: Mapped[int] = mapped_column(BigInteger, default=0)

    return Task


def test_a_table_of_create_all_has_the_newest_shape(tmp_path: Path, model: Any) -> None:
    """What a store finds when it is first opened is reached, then and later; the rest is newer."""
    folder = tmp_path / ".taskstore"
    folder.mkdir()
    append(folder, "tasks", {"id": "a", "title": "A", "updated_at": 1})
    evolve(folder, "r1", {"rename": {"title": "name"}})
    append(folder, "tasks", {"id": "b", "name": "B", "updated_at": 2, "$revision": "r1"})
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}", poolclass=NullPool)
    model.metadata.create_all(engine)
    for _ in range(3):
        with Store.open(folder, engine=engine, mirrors=[model], migrate=True) as store:
            assert store.verify().ok
            assert not store.sync(force=True).problems
            with Session(engine) as session:
                assert {"a": "A", "b": "B"} == {row.id: row.name for row in session.query(model)}
    evolve(folder, "r2", {"rename": {"name": "label"}}, after="r1")
    append(folder, "tasks", {"id": "b", "label": "C", "updated_at": 3, "$revision": "r2"})
    for _ in range(2):
        with Store.open(folder, engine=engine, mirrors=[model]) as store:
            problems = store.sync(force=True).problems
            assert {"b"} == {problem.id for problem in problems if "'r2'" in problem.reason}
            with Session(engine) as session:
                assert {"a": "A", "b": "B"} == {row.id: row.name for row in session.query(model)}
    engine.dispose()
