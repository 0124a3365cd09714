"""An application that raises errors of its own in place of SQLAlchemy's, as oslo.db does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from taskstore import InvalidDeclarationError, Store, mirror_all


class Base(DeclarativeBase):
    """The application's base."""


class Node(Base):
    """A model with a unique name."""

    __tablename__ = "nodes"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class ApplicationError(Exception):
    """What the application raises for each error of the database."""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine whose listener replaces every error."""
    engine = create_engine(f"sqlite:///{tmp_path}/app.db")
    Base.metadata.create_all(engine)

    @event.listens_for(engine, "handle_error")
    def replace(context: Any) -> None:
        raise ApplicationError(str(context.original_exception))

    yield engine
    engine.dispose()


def opened(folder: Path, engine: Engine) -> Store:
    """A store on the application's database."""
    return Store.open(folder / ".taskstore", engine=engine, mirrors=mirror_all(Base), migrate=True)


def append(store: Store, *nodes: tuple[str, str]) -> None:
    """Append lines as a pull brings them."""
    with (store.path / "nodes.jsonl").open("a", encoding="utf-8") as log:
        for id, name in nodes:
            log.write(json.dumps({"id": id, "name": name, "updated_at": 4_000_000_000_000}) + "\n")


def test_a_refused_row_is_a_problem_and_names_are_exchanged(tmp_path: Path, engine: Engine) -> None:
    """A sync sees which row the database refuses, and tries again what can be written later."""
    with opened(tmp_path, engine) as store:
        with Session(engine) as session:
            session.add_all([Node(id="a", name="one"), Node(id="b", name="two")])
            session.commit()
        append(store, ("a", "two"), ("b", "one"), ("c", "two"))
        [problem] = store.sync().mirrored
        assert "UNIQUE constraint failed: nodes.name" in problem.reason
        with engine.connect() as connection:
            held = connection.execute(text("SELECT id, name FROM nodes ORDER BY id")).all()
        assert problem.id in {"a", "c"}
        assert ("b", "one") in [tuple(row) for row in held]
        # The application still gets its own errors.
        with pytest.raises(ApplicationError, match="UNIQUE"), Session(engine) as session:
            session.add(Node(id="d", name="one"))
            session.commit()


def test_a_table_that_is_missing(tmp_path: Path, engine: Engine) -> None:
    """The message says that the database is behind the model."""
    with opened(tmp_path, engine) as store:
        append(store, ("a", "one"))
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE nodes"))
        with pytest.raises(InvalidDeclarationError, match="behind the model"):
            store.sync()
