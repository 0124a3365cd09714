"""Several revisions in one query."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import ForeignKey, create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from taskstore import (
    AsyncStore,
    CommitNotFoundError,
    InvalidDeclarationError,
    InvalidNameError,
    RevisionSession,
    Store,
    TransactionOpenError,
    UntrackedWriteError,
    mirrored,
    record,
)
from taskstore.models import StoredRecord
from tests.merge.repositories import line
from tests.time.histories import Change, build, run


@record("plans")
class Plan:
    """A plan."""

    id: str
    title: str = ""
    updated_at: int = 0


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    """A repository with a store of three commits: a made, b made, a changed; then b is changed."""
    first = line("a", 1000, title="A")
    second = first + line("b", 2000, title="B")
    third = second + line("a", 3000, title="A2")
    build(tmp_path, [Change((), first), Change((0,), second), Change((1,), third)])
    with (tmp_path / ".taskstore" / "plans.jsonl").open("a") as log:
        log.write(line("b", 4000, title="B2"))
    return tmp_path


@pytest.mark.parametrize("read_only", [False, True])
def test_records_of_two_revisions_and_of_now_are_joined(grown: Path, read_only: bool) -> None:
    """One SELECT sees each record three times; objects of each are told apart."""
    with (
        Store.open(grown / ".taskstore", read_only=read_only) as store,
        store.revisions({"old": "HEAD~1", "new": "HEAD"}) as session,
    ):
        old = session.model("old", StoredRecord)
        new = session.model("new", StoredRecord)
        statement = (
            select(old, new.value("title"), StoredRecord.value("title"))
            .join(new, (new.collection == old.collection) & (new.id == old.id))
            .join(StoredRecord, (StoredRecord.collection == new.collection)
                  & (StoredRecord.id == new.id))
            .order_by(old.id)
        )  # fmt: skip
        rows = session.execute(statement).all()
        assert [("A", "A2", "A2"), ("B", "B", "B2")] == [
            (row.data["title"], then, now) for row, then, now in rows
        ]
        assert Plan("a", "A", 1000) == rows[0][0].as_record(Plan)
        both = session.execute(
            select(old, new, StoredRecord)
            .join(new, new.id == old.id)
            .join(StoredRecord, StoredRecord.id == old.id)
            .where(old.id == "a")
        ).one()
        assert ["A", "A2", "A2"] == [row.data["title"] for row in both]
        assert [1, 2] == [
            session.scalar(text(f"SELECT count(*) FROM {name}.records WHERE id < :id"),
                                     {"id": id}) for name, id in (("old", "b"), ("new", "c"))
        ]  # fmt: skip


def test_nothing_is_left_of_the_session(grown: Path) -> None:
    """Afterwards the store is written as before, and its connection sees no other database."""
    with Store.open(grown / ".taskstore") as store:
        with store.revisions({"old": 1500}) as session:
            with pytest.raises(UntrackedWriteError):
                session.execute(text("DELETE FROM old.records"))
            session.rollback()
            assert ["a"] == list(session.scalars(select(session.model("old", StoredRecord).id)))
        with store.session() as other:
            names = other.execute(text("PRAGMA database_list")).all()
            assert {"main", "temp"} >= {row[1] for row in names}
        store.patch("plans", "a", title="A3")
        with store.transaction(), pytest.raises(TransactionOpenError):
            store.revisions({"old": "HEAD"}).__enter__()


@pytest.mark.parametrize(
    ("named", "error"),
    [
        ({}, ValueError),
        ({f"r{n}": "HEAD" for n in range(9)}, ValueError),
        ({"main": "HEAD"}, InvalidNameError),
        ({"Temp": "HEAD"}, InvalidNameError),
        ({'a" b': "HEAD"}, InvalidNameError),
        ({"1st": "HEAD"}, InvalidNameError),
        ({"old": "nowhere"}, CommitNotFoundError),
        ({"old": "--all"}, CommitNotFoundError),
    ],
)
def test_names_and_revisions_are_checked(
    grown: Path, named: dict[str, Any], error: type[Exception]
) -> None:
    """What SQLite could take for something else is refused, as is what git does not know."""
    with Store.open(grown / ".taskstore") as store, pytest.raises(error):
        store.revisions(named).__enter__()


class Base(DeclarativeBase):
    """The application's models."""


@mirrored("people", updated_at=None)
class Person(Base):
    """A person; the class of all of them."""

    __tablename__ = "people"
    id: Mapped[int] = mapped_column(primary_key=True)
    full_name: Mapped[str] = mapped_column("name")
    kind: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012
    pets: Mapped[list[Pet]] = relationship(back_populates="owner")


class Engineer(Person):
    """A person with a table of their own."""

    __tablename__ = "engineers"
    id: Mapped[int] = mapped_column(ForeignKey("people.id"), primary_key=True)
    language: Mapped[str]
    __mapper_args__ = {"polymorphic_identity": "engineer"}  # noqa: RUF012


class Manager(Person):
    """A person without one."""

    level: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "manager"}  # noqa: RUF012


@mirrored("pets", updated_at=None)
class Pet(Base):
    """A pet."""

    __tablename__ = "pets"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    owner_id: Mapped[int] = mapped_column(ForeignKey("people.id"))
    owner: Mapped[Person] = relationship(back_populates="pets")


class Other(Base):
    """A model that is not mirrored."""

    __tablename__ = "others"
    id: Mapped[int] = mapped_column(primary_key=True)


def test_models_of_an_application_are_joined_with_live_rows(tmp_path: Path) -> None:
    """Inheritance, renamed attributes and foreign keys; a row and what it was are two objects."""
    run(tmp_path, "init", "-q", "-b", "main")
    engine = create_engine(f"sqlite:///{tmp_path}/app.db")
    Base.metadata.create_all(engine)
    models = [Person, Pet]
    options: Any = {"engine": engine, "mirrors": models, "migrate": True}
    with Store.open(tmp_path / ".taskstore", **options) as store:
        with store.transaction() as session:
            session.add(Engineer(full_name="Ada", language="B", pets=[Pet(name="Rex")]))
            session.add(Manager(full_name="Bo", level=1))
        run(tmp_path, "add", ".taskstore")
        run(tmp_path, "commit", "-q", "-m", "one")
        with store.transaction() as session:
            session.scalars(select(Engineer)).one().language = "C"
            session.scalars(select(Pet)).one().name = "Tom"
        with store.revisions({"v1": "HEAD"}, mirrors=models) as session:
            past, pet = session.model("v1", Engineer), session.model("v1", Pet)
            query = select(past, Engineer).join(Engineer, Engineer.id == past.id)
            was, now = session.execute(query).one()
            assert ("B", "C") == (was.language, now.language)
            assert ("Ada", "Ada") == (was.full_name, now.full_name)
            person = session.model("v1", Person)
            assert issubclass(past, person)
            found = session.execute(
                select(person.full_name, pet.name, Pet.name).join(pet).join(Pet, Pet.id == pet.id)
            ).all()
            assert [("Ada", "Rex", "Tom")] == [tuple(row) for row in found]
            [bo] = session.scalars(select(session.model("v1", Manager)))
            assert 1 == bo.level
            for cls in (Other, str):
                with pytest.raises(InvalidDeclarationError):
                    session.model("v1", cls)
            with pytest.raises(LookupError, match="v1"):
                session.model("v2", Pet)
    engine.dispose()


def test_revisions_of_an_asyncio_store(grown: Path) -> None:
    """`async with store.revisions(...)` calls functions with the session."""

    def count(session: RevisionSession) -> Any:
        return session.scalars(select(session.model("old", StoredRecord).id)).all()

    async def use() -> Any:
        async with (
            AsyncStore.open(grown / ".taskstore") as store,
            store.revisions({"old": "HEAD~2"}) as block,
        ):
            return await block.run_sync(count)  # type: ignore[arg-type]

    assert ["a"] == asyncio.run(use())
