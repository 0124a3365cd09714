"""NULL in columns whose types, keys or classes make something else of it."""

# Each case has a base of its own, which mypy cannot follow.
# mypy: disable-error-code="misc, valid-type"

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sqlalchemy import Dialect, ForeignKey, String, TypeDecorator, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from taskstore import InvalidDeclarationError, InvalidRecordError, mirror_all
from tests.mirror.clones import cloned


def new_base() -> Any:
    """A declarative base of its own."""

    class Base(DeclarativeBase):
        pass

    return Base


class Own(TypeDecorator[str]):
    """A text, to be derived from."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Store it as it is."""
        return value


class Named(Own):
    """A text that is "nothing" where none is given."""

    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Store None as a text."""
        return "nothing" if value is None else value


class Drawn(Own):
    """A text that is drawn where none is given, so that no two are equal."""

    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Store None as a text at random."""
        return value or secrets.token_hex(8)


class Upper(Own):
    """A text that cannot be None."""

    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Fail for None."""
        assert value is not None
        return value.upper()


class Blank(Own):
    """A text that is stored as "" where none is given, and read as None."""

    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Store None as an empty text."""
        return value or ""

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Read an empty text as None."""
        return value or None


def things(type_: type[Own], **options: Any) -> Any:
    """A model with a column of a type."""

    class Thing(new_base()):
        __tablename__ = "things"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str | None] = mapped_column(type_, **options)

    return Thing


@pytest.mark.parametrize(
    ("type_", "options", "stored"),
    [
        (Named, {}, None),
        (Drawn, {}, None),
        (Upper, {}, None),
        (Blank, {}, ""),
        (Blank, {"nullable": False}, ""),
    ],
)
def test_null_beside_a_type_that_binds_none_otherwise(
    tmp_path: Path, type_: type[Own], options: Any, stored: str | None
) -> None:
    """A NULL is one in the other clone as well; a value that reads as None is stored as that."""
    thing = things(type_, **options)
    with (
        cloned(tmp_path / "one", mirror_all(thing), thing) as one,
        cloned(tmp_path / "two", mirror_all(thing), thing) as two,
    ):
        with one.sessions.begin() as session:
            session.execute(
                text("INSERT INTO things (id, name) VALUES (1, :name), (2, 'A')"), {"name": stored}
            )
        two.take(one)
        for _ in range(2):
            assert [] == two.store.sync(force=True).problems
            with two.sessions() as session:
                rows = session.execute(text("SELECT name FROM things ORDER BY id")).all()
            assert [(stored,), ("A",)] == rows
        # The row is updated to have none, and is read again.
        with one.sessions.begin() as session:
            session.execute(text("UPDATE things SET name = :name"), {"name": stored})
        two.take(one)
        assert [] == two.store.sync().problems
        with two.sessions() as session:
            assert [(stored,)] * 2 == session.execute(text("SELECT name FROM things")).all()
        one.check()
        two.check()


def beings(subclass: Any) -> Any:
    """A class, and a subclass that is made of it."""

    class Being(new_base()):
        __tablename__ = "beings"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str | None]
        name: Mapped[str | None]
        __mapper_args__: ClassVar = {"polymorphic_on": "kind", "polymorphic_identity": "being"}

    subclass(Being)
    return Being


def of_one_table(being: Any) -> None:
    """Derive a class without a table of its own."""

    class Cat(being):
        lives: Mapped[int | None]
        __mapper_args__: ClassVar = {"polymorphic_identity": "cat"}


def joined(being: Any) -> None:
    """Derive a class with a table of its own."""

    class Cat(being):
        __tablename__ = "cats"
        id: Mapped[int] = mapped_column(ForeignKey("beings.id"), primary_key=True)
        __mapper_args__: ClassVar = {"polymorphic_identity": "cat"}


@pytest.mark.parametrize("subclass", [of_one_table, joined])
def test_a_row_without_a_discriminator(tmp_path: Path, subclass: Any) -> None:
    """It is refused: SQLAlchemy could not load it either."""
    being = beings(subclass)
    with cloned(tmp_path / "one", mirror_all(being), being) as one:
        with (
            pytest.raises(InvalidRecordError, match="give the row that of a class"),
            one.sessions.begin() as session,
        ):
            session.execute(text("INSERT INTO beings (id, name) VALUES (1, 'a')"))
        assert [] == one.rows(being)
        one.check()


def test_a_key_with_a_null(tmp_path: Path) -> None:
    """SQLite takes NULL in a key of several columns, but nothing could find the row again."""

    class Place(new_base()):
        __tablename__ = "places"
        x: Mapped[str] = mapped_column(primary_key=True)
        y: Mapped[str | None] = mapped_column(primary_key=True, nullable=True)

    with cloned(tmp_path / "one", mirror_all(Place), Place) as one:
        with (
            pytest.raises(InvalidRecordError, match=r"has a NULL.*give each column"),
            one.sessions.begin() as session,
        ):
            session.add(Place(x="a", y=None))
        assert [] == one.rows(Place)
        one.check()


def test_two_classes_of_one_table(tmp_path: Path) -> None:
    """They are refused, with what to leave out; so is a table that is called as one of ours."""
    thing = things(Own)
    base: Any = thing.__base__

    class Other(base):
        __table__ = thing.__table__

    with (
        pytest.raises(InvalidDeclarationError, match="'things' is mirrored with .*exclude"),
        cloned(tmp_path / "one", mirror_all(base), thing),
    ):
        pass
    with cloned(tmp_path / "two", mirror_all(base, exclude=[Other]), thing) as two:
        with two.sessions.begin() as session:
            session.add(Other(id=1, name="a"))
        assert ["a"] == [line["name"] for line in two.lines("things")]

    class Record(new_base()):
        __tablename__ = "records"
        id: Mapped[str] = mapped_column(primary_key=True)

    with (
        pytest.raises(InvalidDeclarationError, match="'records': give those of the store a prefix"),
        cloned(tmp_path / "three", mirror_all(Record), Record),
    ):
        pass
