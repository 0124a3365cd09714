"""Keys that a database counts: numbers are local, lines have ids."""

from __future__ import annotations

import random as chance
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    URL,
    BigInteger,
    Column,
    ForeignKey,
    Identity,
    Sequence,
    Table,
    select,
    text,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from taskstore import mirror_all, mirrored
from taskstore._mirror.capture.versions import StaleRowError
from taskstore._postgres.drain import Drain
from tests.postgres.clones import Clone, cloned


class Base(DeclarativeBase):
    """The application's base."""


joined = Table(
    "joined",
    Base.metadata,
    Column("book_id", ForeignKey("books.id", ondelete="CASCADE"), primary_key=True),
    Column("tag_id", ForeignKey("tags.id", ondelete="CASCADE"), primary_key=True),
)


@mirrored("authors")
class Author(Base):
    """Counted by a serial column."""

    __tablename__ = "authors"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    best_id: Mapped[int | None] = mapped_column(
        ForeignKey("books.id", use_alter=True, deferrable=True, initially="DEFERRED")
    )
    updated_at: Mapped[int] = mapped_column(BigInteger, default=None, nullable=False)


class Book(Base):
    """Counted by an identity column that takes no numbers of others, and refers to itself."""

    __tablename__ = "books"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(
        ForeignKey("authors.id", ondelete="CASCADE", deferrable=True, initially="DEFERRED")
    )
    sequel_id: Mapped[int | None] = mapped_column(ForeignKey("books.id", ondelete="SET NULL"))
    tags: Mapped[list[Tag]] = relationship(secondary=joined, passive_deletes=True)


class Tag(Base):
    """Counted by a sequence that the client asks."""

    __tablename__ = "tags"

    id: Mapped[int] = mapped_column(BigInteger, Sequence("tag_numbers"), primary_key=True)
    name: Mapped[str]


MODELS = mirror_all(Base)
TABLES = ("authors", "books", "tags")


@pytest.fixture
def one(new_database: Callable[[], URL], tmp_path: Path) -> Iterator[Clone]:
    """A clone of the application."""
    with cloned(new_database(), tmp_path / "one", MODELS, Base) as clone:
        yield clone


@pytest.fixture
def two(new_database: Callable[[], URL], tmp_path: Path) -> Iterator[Clone]:
    """Another clone, with other numbers."""
    with cloned(new_database(), tmp_path / "two", MODELS, Base) as clone:
        for name in ("authors_id_seq", "books_id_seq", "tag_numbers"):
            clone.sql(f"SELECT setval('{name}', 1000)")
        yield clone


def _fill(clone: Clone) -> None:
    with clone.sessions.begin() as session:
        author = Author(name="Ada")
        session.add(author)
        session.flush()
        first = Book(title="One", author_id=author.id, tags=[Tag(name="red")])
        session.add(first)
        session.flush()
        second = Book(title="Two", author_id=author.id, sequel_id=first.id)
        session.add(second)
        session.flush()
        author.best_id = second.id


def _pull(source: Clone, target: Clone) -> Any:
    source.work.drain()
    for path in source.path.glob("*.jsonl"):
        shutil.copy(path, target.path / path.name)
    return target.store.sync()


def _shown(clone: Clone) -> Any:
    with clone.sessions() as session:
        return [
            (book.title, author.name, author.best_id == book.id, [tag.name for tag in book.tags])
            for book, author in session.execute(
                select(Book, Author).join(Author, Author.id == Book.author_id).order_by(Book.title)
            )
        ]


def test_lines_have_ids_in_place_of_numbers(one: Clone) -> None:
    """Keys and references in lines are ids; the number is a hint beside them."""
    _fill(one)
    [author] = one.told("authors").values()
    books = {book["title"]: book for book in one.told("books").values()}
    assert books["Two"]["id"] == author["best_id"]
    assert author["id"] == books["One"]["author_id"]
    assert books["One"]["id"] == books["Two"]["sequel_id"]
    assert 1 == author["_number"]
    one.check()


def test_a_clone_counts_for_itself(one: Clone, two: Clone) -> None:
    """Rows arrive with other numbers and the same references, and edits travel back."""
    _fill(one)
    assert not _pull(one, two).problems
    assert _shown(one) == _shown(two)
    two.check()
    with two.sessions.begin() as session:
        found = session.scalars(select(Book).where(Book.title == "One")).one()
        assert found.id > 1000
        found.title = "First"
        session.add(Author(name="Bob"))
    _pull(two, one)
    assert _shown(two) == _shown(one)
    one.check()
    assert one.told("books") == two.told("books")


def test_a_new_clone_keeps_the_numbers(
    one: Clone, new_database: Callable[[], URL], tmp_path: Path
) -> None:
    """If the sequence has not reached them, rows keep the numbers of their creator."""
    _fill(one)
    with cloned(new_database(), tmp_path / "new", MODELS, Base) as new:
        _pull(one, new)
        for table in TABLES:
            sql = text(f"SELECT id FROM {table} ORDER BY id")
            with one.engine.connect() as here, new.engine.connect() as there:
                assert here.execute(sql).all() == there.execute(sql).all()
        _fill(new)
        new.check()


def test_a_line_cannot_use_up_the_sequence(one: Clone) -> None:
    """A number near the end of the sequence is not taken from a line."""
    line = {"id": "a", "name": "x", "best_id": None, "updated_at": 2**42, "_number": 2**31 - 1}
    one.append("authors", line)
    assert not one.store.sync().problems
    _fill(one)
    assert 2 == len(one.told("authors"))
    one.check()


def test_a_number_that_is_used_again_is_another_record(one: Clone) -> None:
    """A deleted row and one that gets its number are two records, even in one transaction."""
    one.sql("INSERT INTO tags (id, name) VALUES (7, 'old')")
    [old] = one.told("tags")
    one.sql("DELETE FROM tags", "INSERT INTO tags (id, name) VALUES (7, 'new')")
    [new] = one.told("tags")
    assert old != new
    one.sql("DELETE FROM tags")
    one.work.drain()
    one.sql("INSERT INTO tags (id, name) VALUES (7, 'newest')")
    assert new not in one.told("tags")
    one.check()


def test_deletions_travel(one: Clone, two: Clone) -> None:
    """A cascade deletes the same rows in the other clone, and the log says so once."""
    _fill(one)
    _pull(one, two)
    one.sql("UPDATE authors SET best_id = NULL", "DELETE FROM authors")
    assert {} == one.told("books") == one.told("authors") == one.told("joined")
    assert not _pull(one, two).problems
    assert [] == _shown(two)
    assert 1 == len(two.told("tags"))
    two.check()


def test_references_to_what_is_not_there_wait(one: Clone) -> None:
    """A row whose parent has not arrived is a problem until it arrives."""
    one.append(
        "books",
        {"id": "b", "title": "x", "author_id": "a", "sequel_id": None, "updated_at": 2**42},
    )
    [problem] = one.store.sync().problems
    assert "'a'" in problem.reason
    one.append("authors", {"id": "a", "name": "x", "best_id": None, "updated_at": 2**42})
    assert not one.store.sync().problems
    assert [("x", "x", False, [])] == _shown(one)
    one.check()


def test_rows_from_before_get_ids(new_database: Callable[[], URL], tmp_path: Path) -> None:
    """Rows that are older than the store get ids from an export, even if others refer to them."""
    with cloned(new_database(), tmp_path / "one", MODELS, Base) as one:
        one.sql("ALTER TABLE authors DISABLE TRIGGER USER")
        one.sql("INSERT INTO authors (name, updated_at) VALUES ('Ada', 1)")
        one.sql("ALTER TABLE authors ENABLE TRIGGER USER")
        one.sql("INSERT INTO books (title, author_id) VALUES ('One', 1)")
        [book] = one.told("books").values()
        assert () != one.store.verify().problems
        one.store.export()
        [author] = one.told("authors")
        assert author == book["author_id"]
        one.check()


def test_a_batch_that_is_drained_again_makes_the_same_ids(
    one: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash with the lines on the disk, the rows are still the same records."""

    class CrashError(Exception):
        """Raised before the transaction commits."""

    run = Drain.run

    def crash(drain: Any) -> Any:
        run(drain)
        raise CrashError

    one.store.close()
    with cloned(one.engine.url, one.path, MODELS, Base) as again:
        # Before the writes, because the scribe in the background may drain first.
        monkeypatch.setattr(Drain, "run", crash)
        _fill(again)
        with pytest.raises(CrashError):
            again.work.drain()
        monkeypatch.undo()
        again.work.drain()
        for table in TABLES:
            ids = [line["id"] for line in again.lines(table)]
            assert len(set(ids)) == len(again.told(table))
        again.check()


def test_stale_rows_are_refused(one: Clone) -> None:
    """The error names the number, which is what the application knows."""
    _fill(one)
    with one.sessions() as session:
        author = session.scalars(select(Author)).one()
        one.sql("UPDATE authors SET name = 'newer'")
        author.name = "older"
        with pytest.raises(StaleRowError) as caught:
            session.commit()
    assert "1" == caught.value.id


_AUTHOR = "(SELECT id FROM authors ORDER BY random() LIMIT 1)"
_BOOK = "(SELECT id FROM books ORDER BY random() LIMIT 1)"
_STATEMENTS = (
    "INSERT INTO authors (name, updated_at) VALUES ('a', 0)",
    f"INSERT INTO books (title, author_id, sequel_id) SELECT 'b', {_AUTHOR}, {_BOOK}",
    f"INSERT INTO books (title, author_id) SELECT 'c', {_AUTHOR} FROM generate_series(1, 3)",
    "INSERT INTO tags (id, name) SELECT (random() * 9)::int + 1, 't'",
    f"INSERT INTO joined (book_id, tag_id) SELECT {_BOOK}, id FROM tags",
    f"UPDATE authors SET best_id = {_BOOK}",
    "UPDATE tags SET id = id + 1, name = 'moved'",
    f"UPDATE books SET sequel_id = {_BOOK}, title = title || '!'",
    f"DELETE FROM books WHERE id = {_BOOK}",
    "DELETE FROM tags WHERE id = (SELECT id FROM tags ORDER BY random() LIMIT 1)",
    f"DELETE FROM authors WHERE id = {_AUTHOR}",
    "DELETE FROM tags",
)


def test_random_statements(one: Clone, two: Clone, capsys: pytest.CaptureFixture[str]) -> None:
    """After random transactions, logs and tables agree, and another clone becomes equal."""
    seed = chance.randrange(2**31)
    with capsys.disabled():
        print(f" [seed {seed}]", end="")
    draw = chance.Random(seed)
    for _ in range(30):
        # What a constraint refuses is rolled back.
        with suppress(IntegrityError):
            one.sql(
                f"SELECT setseed({draw.random()})",
                *draw.choices(_STATEMENTS, k=draw.randrange(1, 5)),
            )
        if draw.random() < 0.2:
            one.work.drain()
        if draw.random() < 0.05:
            assert not _pull(one, two).problems
    one.check()
    assert not _pull(one, two).problems
    two.check()
    assert one.told("joined").keys() == two.told("joined").keys()
    assert _counts(one) == _counts(two)


def _counts(clone: Clone) -> list[int]:
    with clone.engine.connect() as connection:
        return [
            connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
            for table in (*TABLES, "joined")
        ]
