"""What cannot be mirrored is refused when the store opens, with what to do."""

# Each case has a base of its own, which mypy cannot follow.
# mypy: disable-error-code="misc, valid-type"

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import ForeignKey, PickleType, Table, UniqueConstraint, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from taskstore import InvalidDeclarationError, InvalidNameError, Store, mirrored


def new_base() -> Any:
    """A declarative base of its own."""

    class Base(DeclarativeBase):
        pass

    return Base


def undeclared() -> list[Any]:
    class Plain(new_base()):
        __tablename__ = "plain"
        id: Mapped[str] = mapped_column(primary_key=True)

    return [Plain]


def unmapped() -> list[Any]:
    @mirrored("x")
    class Unmapped:
        pass

    return [Unmapped]


def counted() -> list[Any]:
    @mirrored("x", updated_at=None)
    class Counted(new_base()):
        __tablename__ = "counted"
        id: Mapped[int] = mapped_column(primary_key=True)

    return [Counted]


def no_version() -> list[Any]:
    @mirrored("x")
    class Unversioned(new_base()):
        __tablename__ = "unversioned"
        id: Mapped[str] = mapped_column(primary_key=True)

    return [Unversioned]


def bad_version() -> list[Any]:
    @mirrored("x", updated_at="at")
    class Misversioned(new_base()):
        __tablename__ = "misversioned"
        id: Mapped[str] = mapped_column(primary_key=True)
        at: Mapped[float]

    return [Misversioned]


def pickled() -> list[Any]:
    @mirrored("x", updated_at=None)
    class Pickled(new_base()):
        __tablename__ = "pickled"
        id: Mapped[str] = mapped_column(primary_key=True)
        value: Mapped[Any] = mapped_column(PickleType)

    return [Pickled]


def soft_deleted() -> list[Any]:
    @mirrored("x", updated_at=None)
    class Soft(new_base()):
        __tablename__ = "soft"
        id: Mapped[str] = mapped_column(primary_key=True)
        deleted: Mapped[bool]

    return [Soft]


def key_not_unique() -> list[Any]:
    @mirrored("x", key="uid", updated_at=None)
    class Loose(new_base()):
        __tablename__ = "loose"
        id: Mapped[int] = mapped_column(primary_key=True)
        uid: Mapped[str]

    return [Loose]


def refers_to_local_key() -> list[Any]:
    base = new_base()

    @mirrored("x", key="uid", updated_at=None)
    class Parent(base):
        __tablename__ = "parents"
        number: Mapped[int] = mapped_column(primary_key=True)
        uid: Mapped[str] = mapped_column(unique=True)

    @mirrored("y", updated_at=None)
    class Child(base):
        __tablename__ = "children"
        id: Mapped[str] = mapped_column(primary_key=True)
        parent_id: Mapped[int] = mapped_column(ForeignKey("parents.number"))

    return [Parent, Child]


def same_collection() -> list[Any]:
    base = new_base()

    @mirrored("x", updated_at=None)
    class First(base):
        __tablename__ = "first"
        id: Mapped[str] = mapped_column(primary_key=True)

    @mirrored("x", updated_at=None)
    class Second(base):
        __tablename__ = "second"
        id: Mapped[str] = mapped_column(primary_key=True)

    return [First, Second]


def unknown_exclusion() -> list[Any]:
    @mirrored("x", updated_at=None, exclude=["nothing"])
    class Excluding(new_base()):
        __tablename__ = "excluding"
        id: Mapped[str] = mapped_column(primary_key=True)

    return [Excluding]


def subclass_alone() -> list[Any]:
    @mirrored("x", updated_at=None)
    class Above(new_base()):
        __tablename__ = "above"
        id: Mapped[str] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind"}  # noqa: RUF012

    class Below(Above):
        __mapper_args__ = {"polymorphic_identity": "below"}  # noqa: RUF012

    return [Below]


def replacing_constraint() -> list[Any]:
    @mirrored("x", updated_at=None)
    class Replacing(new_base()):
        __tablename__ = "replacing"
        id: Mapped[str] = mapped_column(primary_key=True)
        slug: Mapped[str]
        __table_args__ = (UniqueConstraint("slug", sqlite_on_conflict="REPLACE"),)

    return [Replacing]


def replacing_column() -> list[Any]:
    @mirrored("x", updated_at=None)
    class Replacing(new_base()):
        __tablename__ = "replacing"
        id: Mapped[str] = mapped_column(primary_key=True)
        slug: Mapped[str] = mapped_column(unique=True, sqlite_on_conflict_unique="replace")

    return [Replacing]


def replacing_subclass() -> list[Any]:
    base = new_base()

    @mirrored("x", updated_at=None)
    class Above(base):
        __tablename__ = "above"
        id: Mapped[str] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind"}  # noqa: RUF012

    class Below(Above):
        __tablename__ = "below"
        id: Mapped[str] = mapped_column(
            ForeignKey("above.id"), primary_key=True, sqlite_on_conflict_primary_key="REPLACE"
        )
        __mapper_args__ = {"polymorphic_identity": "below"}  # noqa: RUF012

    return [Above]


def key_in_one_table() -> list[Any]:
    base = new_base()

    @mirrored("x", updated_at=None, key="uid")
    class Above(base):
        __tablename__ = "above"
        code: Mapped[str] = mapped_column(primary_key=True)
        uid: Mapped[str] = mapped_column(unique=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind"}  # noqa: RUF012

    class Below(Above):
        __tablename__ = "below"
        code: Mapped[str] = mapped_column(ForeignKey("above.code"), primary_key=True)
        __mapper_args__ = {"polymorphic_identity": "below"}  # noqa: RUF012

    return [Above]


@pytest.mark.parametrize(
    ("declare", "reason"),
    [
        (undeclared, "not declared"),
        (unmapped, "not mapped"),
        (counted, "key="),
        (no_version, "updated_at=None"),
        (bad_version, "milliseconds"),
        (pickled, "TypeDecorator"),
        (soft_deleted, "is_deleted"),
        (key_not_unique, "unique=True"),
        (refers_to_local_key, "counts up"),
        (same_collection, "each its own"),
        (unknown_exclusion, "not there"),
        (subclass_alone, "inherits from Above"),
        (replacing_constraint, "sqlite_on_conflict='REPLACE' deletes other rows"),
        (replacing_column, "sqlite_on_conflict_unique='REPLACE' deletes other rows"),
        (replacing_subclass, "deletes other rows of 'below'"),
        (key_in_one_table, "needs the key in each table"),
    ],
)
def test_refused_at_open(tmp_path: Path, declare: Callable[[], list[Any]], reason: str) -> None:
    """The error names class and remedy, and nothing is left open."""
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    with pytest.raises(InvalidDeclarationError, match=reason):
        Store.open(tmp_path / ".taskstore", engine=engine, mirrors=declare(), migrate=True)
    engine.dispose()


def test_needs_the_engine_of_the_application(tmp_path: Path) -> None:
    """Models are mirrored in the application's own database, and not in a file of the store's."""
    with pytest.raises(InvalidDeclarationError, match="engine="):
        Store.open(tmp_path / ".taskstore", mirrors=undeclared())


def test_mirrors_is_a_list(tmp_path: Path) -> None:
    """A class given for the list of classes is refused."""
    engine = create_engine("sqlite://")
    with pytest.raises(InvalidDeclarationError, match="takes a list"):
        Store.open(tmp_path / ".taskstore", engine=engine, mirrors=undeclared()[0], migrate=True)


def test_wrong_declarations() -> None:
    """Names, policies and targets are checked where they are declared."""
    with pytest.raises(InvalidNameError):
        mirrored("no/name")
    with pytest.raises(InvalidDeclarationError, match="merge policy"):
        mirrored("x", merge={"labels": "onion"})
    with pytest.raises(InvalidDeclarationError, match="class or a Table"):
        mirrored("x")("tasks")
    with pytest.raises(InvalidDeclarationError, match="takes a list"):
        mirrored("x", exclude="notes")


def test_a_class_that_cannot_be_edited() -> None:
    """The decorator returns the class or table itself, and can be called on one."""
    [plain] = undeclared()
    assert plain is mirrored("x")(plain)
    assert isinstance(mirrored("y")(plain.__table__), Table)
