"""A classic application: counted keys, and every kind of reference to them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ForeignKey, Identity, Table, inspect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from taskstore import mirrored
from tests.mirror.clones import Clone


class Graph(DeclarativeBase):
    """The application's base."""


book_tags = Table(
    "book_tags",
    Graph.metadata,
    Column("book_id", ForeignKey("books.id", ondelete="CASCADE"), primary_key=True),
    Column("tag_id", ForeignKey("tags.id", ondelete="CASCADE"), primary_key=True),
)


@mirrored("persons")
class Person(Graph):
    """Somebody, perhaps below somebody, with a favourite book: a circle of tables."""

    __tablename__ = "persons"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    chief_id: Mapped[int | None] = mapped_column(ForeignKey("persons.id", onupdate="CASCADE"))
    chief: Mapped[Person | None] = relationship(remote_side=[id], foreign_keys=[chief_id])
    favourite_id: Mapped[int | None] = mapped_column(
        ForeignKey("books.id", use_alter=True, name="fk_favourite")
    )
    favourite: Mapped[Book | None] = relationship(foreign_keys=[favourite_id], post_update=True)
    updated_at: Mapped[int]


@mirrored("books")
class Book(Graph):
    """A book, or one of its kinds."""

    __tablename__ = "books"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    title: Mapped[str]
    kind: Mapped[str] = mapped_column(default="book")
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("persons.id", onupdate="CASCADE"))
    owner: Mapped[Person | None] = relationship(foreign_keys=[owner_id])
    tags: Mapped[list[Tag]] = relationship(secondary=book_tags)
    loans: Mapped[list[Loan]] = relationship(cascade="all, delete-orphan")
    updated_at: Mapped[int]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "book"}  # noqa: RUF012


class Atlas(Book):
    """In a table of its own beside that of its base."""

    __tablename__ = "atlases"
    id: Mapped[int] = mapped_column(ForeignKey("books.id"), primary_key=True)
    maps: Mapped[int] = mapped_column(default=0)
    __mapper_args__ = {"polymorphic_identity": "atlas"}  # noqa: RUF012


@mirrored("tags", updated_at=None)
class Tag(Graph):
    """A word."""

    __tablename__ = "tags"
    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str]


@mirrored("loans", updated_at=None)
class Loan(Graph):
    """An association object: who has had a book, and how often."""

    __tablename__ = "loans"
    book_id: Mapped[int] = mapped_column(ForeignKey("books.id"), primary_key=True)
    person_id: Mapped[int] = mapped_column(
        ForeignKey("persons.id", onupdate="CASCADE"), primary_key=True
    )
    times: Mapped[int] = mapped_column(default=1)
    person: Mapped[Person] = relationship()


@mirrored("covers", updated_at=None)
class Cover(Graph):
    """Has the key of its book, and refers to an atlas by its own table."""

    __tablename__ = "covers"
    book_id: Mapped[int] = mapped_column(ForeignKey("books.id"), primary_key=True)
    color: Mapped[str]
    atlas_id: Mapped[int | None] = mapped_column(ForeignKey("atlases.id"))


MIRRORS = [Person, Book, Tag, Loan, Cover]


def graph(clone: Clone) -> dict[str, list[Any]]:
    """The rows of all tables with names in place of numbers: the same in clones that agree."""
    with clone.sessions() as session:
        models: list[Any] = [Person, Book, Tag]
        people, books, tags = (
            {None: "", **{row.id: label(row) for row in session.query(model)}} for model in models
        )
        found: dict[str, list[Any]] = {
            "persons": [
                (row.name, people.get(row.chief_id), books.get(row.favourite_id), row.updated_at)
                for row in session.query(Person)
            ],
            "books": [
                (
                    books.get(row.id),
                    people.get(row.owner_id),
                    getattr(row, "maps", None),
                    row.updated_at,
                )
                for row in session.query(Book)
            ],
            "tags": [row.word for row in session.query(Tag)],
            "loans": [
                (books.get(row.book_id), people.get(row.person_id), row.times)
                for row in session.query(Loan)
            ],
            "covers": [
                (books.get(row.book_id), row.color, books.get(row.atlas_id))
                for row in session.query(Cover)
            ],
            "book_tags": [
                (books.get(row.book_id), tags.get(row.tag_id))
                for row in session.execute(book_tags.select())
            ],
        }
    return {name: sorted(rows, key=repr) for name, rows in found.items()}


def label(row: Any) -> str:
    """Return a name for a row that is the same in every clone."""
    names = [getattr(row, name, "") for name in ("name", "title", "word")]
    return f"{inspect(row).mapper.class_.__name__} {''.join(names)}"


def fill(clone: Clone, name: str) -> None:
    """Add rows of every class, whose names begin with one of the clone's own."""
    with clone.sessions.begin() as session:
        chief = Person(name=f"{name} chief")
        below = Person(name=f"{name} below", chief=chief)
        tags = [Tag(word=f"{name} {n}") for n in range(2)]
        atlas = Atlas(title=f"{name} atlas", maps=3, owner=below, tags=tags)
        book = Book(title=f"{name} book", owner=chief, tags=tags[:1])
        book.loans.append(Loan(person=below, times=2))
        session.add_all([below, atlas, book])
        session.flush()
        chief.favourite = atlas
        session.add(Cover(book_id=book.id, color="red", atlas_id=atlas.id))


def synced(clone: Clone) -> None:
    """Bring the tables to what the logs say, all of it."""
    assert [] == clone.store.sync().problems
    clone.check()
    assert () == clone.store.verify().problems


def pull(clone: Clone, other: Clone) -> None:
    """Copy the logs of another clone, and sync."""
    clone.take(other)
    synced(clone)
    assert graph(clone) == graph(other)


def numbers(clone: Clone) -> dict[str, int]:
    """The keys of people by name."""
    return {row.name: row.id for row in clone.rows(Person)}
