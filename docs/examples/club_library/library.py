"""The library of a club: which books it has, who wrote them, and who has borrowed which copy."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Column, ForeignKey, Table, create_engine, func, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    backref,
    mapped_column,
    relationship,
    sessionmaker,
)


class Base(DeclarativeBase):
    """What the models have in common."""


book_authors = Table(
    "book_authors",
    Base.metadata,
    Column("book_id", ForeignKey("books.id"), primary_key=True),
    Column("author_id", ForeignKey("authors.id"), primary_key=True),
)


class Subject(Base):
    """What books are about; a part of a wider subject, perhaps."""

    __tablename__ = "subjects"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    wider_id: Mapped[int | None] = mapped_column(ForeignKey("subjects.id"))
    narrower: Mapped[list[Subject]] = relationship(
        backref=backref("wider", remote_side=[id]), cascade="all, delete-orphan"
    )
    books: Mapped[list[Book]] = relationship(back_populates="subject")


class Author(Base):
    """Somebody who wrote a book."""

    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    books: Mapped[list[Book]] = relationship(secondary=book_authors, back_populates="authors")


class Book(Base):
    """A book."""

    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    subject_id: Mapped[int | None] = mapped_column(ForeignKey("subjects.id"))
    subject: Mapped[Subject | None] = relationship(back_populates="books")
    authors: Mapped[list[Author]] = relationship(secondary=book_authors, back_populates="books")
    copies: Mapped[list[Copy]] = relationship(
        back_populates="book", cascade="all, delete-orphan", order_by="Copy.shelf"
    )


class Copy(Base):
    """A copy of a book, on a shelf or with a member."""

    __tablename__ = "copies"
    id: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[int] = mapped_column(ForeignKey("books.id"))
    shelf: Mapped[str]
    book: Mapped[Book] = relationship(back_populates="copies")
    loans: Mapped[list[Loan]] = relationship(back_populates="copy", cascade="all, delete-orphan")


class Member(Base):
    """Somebody who borrows books."""

    __tablename__ = "members"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    loans: Mapped[list[Loan]] = relationship(back_populates="member", cascade="all, delete-orphan")


class Loan(Base):
    """A copy that a member has, and until when."""

    __tablename__ = "loans"
    copy_id: Mapped[int] = mapped_column(ForeignKey("copies.id"), primary_key=True)
    member_id: Mapped[int] = mapped_column(ForeignKey("members.id"), primary_key=True)
    due: Mapped[date]
    renewals: Mapped[int] = mapped_column(default=0)
    copy: Mapped[Copy] = relationship(back_populates="loans")
    member: Mapped[Member] = relationship(back_populates="loans")


def subject_of(session: Session, path: str) -> Subject:
    """Return the subject of a path such as `arts/music`, which is made where it is not there."""
    wider = None
    for name in path.split("/"):
        found = session.query(Subject).filter_by(name=name, wider=wider).first()
        if found is None:
            found = Subject(name=name, wider=wider)
            session.add(found)
            session.flush()
        wider = found
    assert wider is not None
    return wider


def add(session: Session, title: str, shelf: str, path: str, *authors: str) -> None:
    """Add a copy of a book."""
    book = session.query(Book).filter_by(title=title).first() or Book(title=title)
    session.add(book)
    book.subject = subject_of(session, path)
    for name in authors:
        author = session.query(Author).filter_by(name=name).first() or Author(name=name)
        if author not in book.authors:
            book.authors.append(author)
    book.copies.append(Copy(shelf=shelf))


def remove(session: Session, title: str) -> None:
    """Remove a book with its copies and their loans."""
    session.delete(session.query(Book).filter_by(title=title).one())


def lend(session: Session, title: str, member: str) -> None:
    """Lend a copy that nobody has."""
    free = select(Copy).join(Book).where(Book.title == title, ~Copy.loans.any())
    copy = session.scalars(free.order_by(Copy.shelf)).first()
    if copy is None:
        sys.exit(f"no copy of {title} is free")
    who = session.query(Member).filter_by(name=member).first() or Member(name=member)
    due = datetime.now(UTC).date() + timedelta(weeks=4)
    copy.loans.append(Loan(member=who, due=due))


def give_back(session: Session, title: str, member: str) -> None:
    """Take back a copy."""
    copies = select(Copy.id).join(Book).where(Book.title == title)
    who = select(Member.id).where(Member.name == member)
    session.query(Loan).filter(Loan.copy_id.in_(copies), Loan.member_id.in_(who)).delete()


def renew(session: Session, member: str) -> None:
    """Renew all loans of a member."""
    who = select(Member.id).where(Member.name == member).scalar_subquery()
    session.query(Loan).filter(Loan.member_id == who).update(
        {Loan.due: func.date(Loan.due, "+28 days"), Loan.renewals: Loan.renewals + 1}
    )


def show(session: Session) -> None:
    """Print the books by subject, with their copies."""

    def tell(subjects: list[Subject], depth: int) -> None:
        for subject in sorted(subjects, key=lambda one: one.name):
            print("  " * depth + subject.name)
            for book in sorted(subject.books, key=lambda one: one.title):
                authors = ", ".join(sorted(author.name for author in book.authors))
                print("  " * depth + f"  {book.title} ({authors})")
                for copy in book.copies:
                    borrowers = "".join(
                        f", with {loan.member.name}, renewed {loan.renewals} times"
                        for loan in copy.loans
                    )
                    print("  " * depth + f"    {copy.shelf}{borrowers}")
            tell(subject.narrower, depth + 1)

    tell(session.query(Subject).filter_by(wider=None).all(), 0)


def run(command: Callable[..., None], *arguments: str) -> None:
    """Run a command in a transaction."""
    engine = create_engine("sqlite:///library.db")
    Base.metadata.create_all(engine)
    make_session = sessionmaker(engine)
    with make_session.begin() as session:
        command(session, *arguments)
    engine.dispose()


if __name__ == "__main__":
    commands: list[Callable[..., None]] = [add, remove, lend, give_back, renew, show]
    run({command.__name__: command for command in commands}[sys.argv[1]], *sys.argv[2:])
