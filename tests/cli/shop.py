"""The models of an application that knows nothing of us."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ForeignKey, MetaData, PickleType, Table
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

metadata = MetaData()


class Base(DeclarativeBase):
    """The base."""

    metadata = metadata


class Other(DeclarativeBase):
    """A base that is not asked for."""

    metadata = metadata


links = Table(
    "user_items",
    metadata,
    Column("user_id", ForeignKey("users.id"), primary_key=True),
    Column("item_id", ForeignKey("items.id"), primary_key=True),
)


class Shelf(Other):
    """Not mirrored: it is on another base."""

    __tablename__ = "shelves"
    id: Mapped[str] = mapped_column(primary_key=True)


class User(Base):
    """Has a counted key, a column that is pickled, and one whose name lines use."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[str]
    basket: Mapped[Any] = mapped_column(PickleType)
    deleted: Mapped[bool]
    items: Mapped[list[Item]] = relationship(secondary=links)


class Item(Base):
    """The base of a hierarchy; refers out of the log."""

    __tablename__ = "items"
    id: Mapped[str] = mapped_column(primary_key=True)
    shelf_id: Mapped[str | None] = mapped_column(ForeignKey("shelves.id"))
    kind: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "item"}  # noqa: RUF012


class Book(Item):
    """In the table of its base."""

    pages: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "book"}  # noqa: RUF012


class Entry(Base):
    """Has the name of a table of ours, and a subclass that no column tells apart."""

    __tablename__ = "records"
    id: Mapped[str] = mapped_column(primary_key=True)
    slug: Mapped[str]


class Draft(Entry):
    """An entry with a row in a second table."""

    __tablename__ = "drafts"
    id: Mapped[str] = mapped_column(ForeignKey("records.id"), primary_key=True)
