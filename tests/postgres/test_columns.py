"""Rows in the outbox from before a migration: the log gets what their tables have now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, BigInteger, ForeignKey, String, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from taskstore import mirrored
from tests.postgres.clones import cloned

TABLES = {"one table": "cards", "joined": "boards"}


def models(table: str, **columns: Any) -> tuple[Any, Any]:
    """A base, and a mirrored model of cards. One of its tables has some more columns."""

    class Base(DeclarativeBase):
        pass

    @mirrored("cards")
    class Card(Base):
        __tablename__ = "cards"
        id: Mapped[str] = mapped_column(primary_key=True)
        kind: Mapped[str]
        updated_at: Mapped[int] = mapped_column(BigInteger, server_default="0")
        __mapper_args__ = {  # noqa: RUF012
            "polymorphic_on": "kind",
            "polymorphic_identity": "card",
        }

    own: dict[str, Any] = {"__mapper_args__": {"polymorphic_identity": "board"}}
    if table == "boards":
        key = mapped_column(ForeignKey("cards.id"), primary_key=True)
        own |= {"__tablename__": "boards", "id": key}
    type("Board", (Card,), {**own, **columns})
    return Base, Card


def changed(url: URL, *statements: str) -> None:
    """Run statements while no store is open."""
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_row_from_before_a_migration_is_logged_as_it_is_now(
    new_database: Callable[[], URL], tmp_path: Path, table: str
) -> None:
    """Values of columns that were renamed or added are in the log, and deletions too."""
    url, path = new_database(), tmp_path / "one"
    base, card = models(table, title=mapped_column(String, nullable=True))
    titles = {"a": "x", "b": "y", "c": "z"}
    with cloned(url, path, [card], base) as one, one.sessions() as session:
        [board] = [mapper.class_ for mapper in base.registry.mappers if mapper.inherits]
        session.add_all(board(id=id, title=title) for id, title in titles.items())
        session.commit()
        assert {"x", "y", "z"} == {line["title"] for line in one.lines("cards")}
    changed(url, f"UPDATE {table} SET title = title || '!'")
    changed(
        url,
        f"ALTER TABLE {table} RENAME title TO name",
        f"ALTER TABLE {table} ADD COLUMN stars integer DEFAULT 3",
    )
    changed(url, "DELETE FROM boards WHERE id = 'b'" if table == "boards" else "SELECT 1")
    changed(url, "DELETE FROM cards WHERE id = 'b'")

    name = mapped_column(String, nullable=True)
    stars = mapped_column(BigInteger, nullable=True)
    base, card = models(table, name=name, stars=stars)
    with cloned(url, path, [card], base) as one:
        told = one.told("cards")
        assert {"a": ("x!", 3), "c": ("z!", 3)} == {
            id: (record["name"], record["stars"]) for id, record in told.items()
        }
        one.check()
