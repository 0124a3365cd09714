"""Models whose rows are in several tables: joined inheritance."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    URL,
    BigInteger,
    Double,
    Engine,
    ForeignKey,
    Text,
    event,
    inspect,
    select,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from taskstore import Store, migrations, mirrored
from taskstore._mirror.capture.versions import StaleRowError
from taskstore._postgres.drain import Drain
from tests.postgres.clones import Clone, cloned
from tests.postgres.test_schema import operations

LATER = 2**42


class Base(DeclarativeBase):
    """The application's base."""


@mirrored("people")
class Person(Base):
    """Has a version, which changes with the tables of its subclasses."""

    __tablename__ = "people"

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str | None]
    updated_at: Mapped[int] = mapped_column(BigInteger, default=None, nullable=False)

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012


class Engineer(Person):
    """Has a table of its own, and a column under a name that another subclass has, too."""

    __tablename__ = "engineers"

    id: Mapped[str] = mapped_column(ForeignKey(Person.id, ondelete="CASCADE"), primary_key=True)
    languages: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    score: Mapped[float | None] = mapped_column(Double)
    boss_id: Mapped[str | None] = mapped_column(ForeignKey("managers.own_id"))

    __mapper_args__ = {  # noqa: RUF012
        "polymorphic_identity": "engineer",
        "inherit_condition": id == Person.id,
    }


class Lead(Engineer):
    """Is in three tables."""

    __tablename__ = "lead engineers"

    id: Mapped[str] = mapped_column(ForeignKey(Engineer.id, ondelete="CASCADE"), primary_key=True)
    size: Mapped[int | None]

    __mapper_args__ = {"polymorphic_identity": "lead"}  # noqa: RUF012


class Manager(Person):
    """Calls its key otherwise."""

    __tablename__ = "managers"

    own_id: Mapped[str] = mapped_column(ForeignKey(Person.id), primary_key=True)
    content: Mapped[str | None]

    __mapper_args__ = {"polymorphic_identity": "manager"}  # noqa: RUF012


@mirrored("assets", updated_at=None)
class Asset(Base):
    """Is counted by the database."""

    __tablename__ = "assets"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str | None]

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "asset"}  # noqa: RUF012


class Vehicle(Asset):
    """Refers to its base twice."""

    __tablename__ = "vehicles"

    id: Mapped[int] = mapped_column(ForeignKey(Asset.id), primary_key=True)
    wheels: Mapped[int | None]
    part_of_id: Mapped[int | None] = mapped_column(ForeignKey(Asset.id))

    __mapper_args__ = {  # noqa: RUF012
        "polymorphic_identity": "vehicle",
        "inherit_condition": id == Asset.id,
    }


MODELS = [Person, Asset]


@pytest.fixture
def one(new_database: Callable[[], URL], tmp_path: Path) -> Iterator[Clone]:
    """A clone of the application."""
    with cloned(new_database(), tmp_path / "one", MODELS, Base) as clone:
        yield clone


@pytest.fixture
def two(new_database: Callable[[], URL], tmp_path: Path) -> Iterator[Clone]:
    """Another clone, with other numbers."""
    with cloned(new_database(), tmp_path / "two", MODELS, Base) as clone:
        clone.sql("SELECT setval('assets_id_seq', 1000)")
        yield clone


def _fill(clone: Clone) -> None:
    with clone.sessions.begin() as session:
        session.add_all(
            [
                Manager(id="m", name="Mary", content="all"),
                Engineer(id="e", name="Emil", languages=["C"]),
                Lead(id="l", name="Lea", languages=[], size=3),
                Person(id="p", name="Paul"),
            ]
        )
        session.flush()
        session.get_one(Engineer, "e").boss_id = "m"


def _pull(source: Clone, target: Clone) -> Any:
    source.work.drain()
    for path in source.path.glob("*.jsonl"):
        shutil.copy(path, target.path / path.name)
    return target.store.sync()


def _shown(clone: Clone, model: Any = Person) -> Any:
    def told(one: Any) -> dict[str, Any]:
        return {
            attribute.key: getattr(one, attribute.key)
            for attribute in inspect(type(one)).column_attrs
        }

    with clone.sessions() as session:
        return [told(one) for one in session.scalars(select(model).order_by(model.name))]


def test_a_record_has_the_columns_of_all_its_tables(one: Clone) -> None:
    """One line for each record of a transaction, with what its class has in each table."""
    _fill(one)
    assert 4 == len(one.lines("people"))
    told = one.told("people")
    assert {"id", "kind", "name", "updated_at", "languages", "score", "boss_id"} == told["e"].keys()
    assert ["C"] == told["e"]["languages"]
    assert "m" == told["e"]["boss_id"]
    assert 3 == told["l"]["size"]
    assert "all" == told["m"]["content"]
    assert "m" == told["m"]["own_id"]
    one.check()


@pytest.mark.parametrize(
    ("sql", "id", "key", "value"),
    [
        ("UPDATE people SET name = 'new' WHERE id = 'l'", "l", "name", "new"),
        ("UPDATE engineers SET languages = '{D}' WHERE id = 'l'", "l", "languages", ["D"]),
        ('UPDATE "lead engineers" SET size = 7', "l", "size", 7),
        ("UPDATE managers SET content = 'x' WHERE own_id = 'm'", "m", "content", "x"),
    ],
)
def test_a_statement_on_one_table_changes_the_record(
    one: Clone, sql: str, id: str, key: str, value: Any
) -> None:
    """The line keeps what the other tables have, and the record gets a new version."""
    _fill(one)
    before = one.told("people")
    one.sql(sql)
    after = one.told("people")
    changed = {**before[id], key: value, "updated_at": after[id]["updated_at"]}
    assert {**before, id: changed} == after
    assert before[id]["updated_at"] < after[id]["updated_at"]
    assert 5 == len(one.lines("people"))
    one.check()


def test_a_statement_that_changes_nothing_writes_no_line(one: Clone) -> None:
    """A row of a subclass that is written as it is leaves the version alone."""
    _fill(one)
    one.sql("UPDATE engineers SET languages = languages")
    assert 4 == len(one.lines("people"))
    one.check()


def test_many_transactions_in_one_batch(one: Clone) -> None:
    """Each transaction makes a line from what was before it, also in the same batch."""
    _fill(one)
    one.work.drain()
    with one.engine.connect() as held:
        held.execute(text(f"SELECT 1 FROM {one.work.context.outbox.scribe} FOR UPDATE"))
        one.sql("UPDATE people SET name = 'new' WHERE id = 'e'")
        one.sql("UPDATE engineers SET languages = '{D}' WHERE id = 'e'")
        one.sql("UPDATE people SET name = 'newer' WHERE id = 'e'")
        one.sql("DELETE FROM people WHERE id = 'e'")
        one.sql(
            "INSERT INTO people VALUES ('e', 'engineer', 'again', 0)",
            "INSERT INTO engineers VALUES ('e', '{E}')",
        )
        held.rollback()
    lines = [line for line in one.lines("people") if line["id"] == "e"]
    told = [(line.get("name"), line.get("languages")) for line in lines]
    expected = [("new", ["C"]), ("new", ["D"]), ("newer", ["D"]), (None, None), ("again", ["E"])]
    assert expected == told[1:]
    one.check()


def test_writers_of_two_tables_at_once_lose_nothing(one: Clone) -> None:
    """Two transactions that change the two tables of one record both come into its line."""
    _fill(one)
    one.work.drain()
    with one.engine.connect() as first, one.engine.connect() as second:
        first.execute(text("UPDATE assets SET name = name"))
        second.execute(text("UPDATE assets SET name = name"))
        one.sql(
            "INSERT INTO assets VALUES (1, 'vehicle', 'car')", "INSERT INTO vehicles VALUES (1)"
        )
        first.execute(text("UPDATE assets SET name = 'bus'"))
        second.execute(text("UPDATE vehicles SET wheels = 4"))
        first.commit()
        second.commit()
    [told] = one.told("assets").values()
    assert ("bus", 4) == (told["name"], told["wheels"])
    one.check()


def test_a_record_without_a_row_of_its_class_is_no_record(one: Clone) -> None:
    """It begins with the last of its rows, and ends with the first that goes."""
    one.sql("INSERT INTO people VALUES ('e', 'engineer', 'early', 0)")
    assert {} == one.told("people")
    one.sql("INSERT INTO engineers VALUES ('e', '{C}')")
    assert ["C"] == one.told("people")["e"]["languages"]
    one.check()
    one.sql("DELETE FROM engineers")
    assert {} == one.told("people")
    one.sql("INSERT INTO engineers VALUES ('e', '{D}')")
    assert ("early", ["D"]) == tuple(one.told("people")["e"][key] for key in ("name", "languages"))
    one.check()


def test_rows_from_before_are_whole_in_their_first_line(
    new_database: Callable[[], URL], tmp_path: Path, engine: Engine
) -> None:
    """Rows that were there before they were captured are read from their tables, or exported."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for sql in (
            "INSERT INTO people VALUES ('a', 'engineer', 'A', 5), ('b', 'engineer', 'B', 5)",
            "INSERT INTO engineers VALUES ('a', '{C}'), ('b', '{D}')",
            "INSERT INTO assets VALUES (DEFAULT, 'vehicle', 'car')",
            "INSERT INTO vehicles VALUES (1, 4, 1)",
        ):
            connection.execute(text(sql))
    with cloned(engine.url, tmp_path / "one", MODELS, Base) as clone:
        clone.sql("UPDATE engineers SET languages = '{E}' WHERE id = 'a'")
        assert ("A", ["E"]) == tuple(
            clone.told("people")["a"][key] for key in ("name", "languages")
        )
        clone.sql("UPDATE vehicles SET wheels = 6")
        [vehicle] = clone.told("assets").values()
        assert ("car", 6) == (vehicle["name"], vehicle["wheels"])
        assert vehicle["id"] == vehicle["part_of_id"]
        clone.store.export()
        assert {"a", "b"} == clone.told("people").keys()
        clone.check()


def test_a_pull_writes_all_tables(one: Clone, two: Clone) -> None:
    """Rows arrive whole; changes and deletions travel both ways."""
    _fill(one)
    assert not _pull(one, two).problems
    assert _shown(one) == _shown(two)
    two.check()
    with two.sessions.begin() as session:
        session.get_one(Lead, "l").size = 9
        session.get_one(Engineer, "e").boss_id = None
        session.delete(session.get_one(Manager, "m"))
    assert not _pull(two, one).problems
    assert _shown(one) == _shown(two)
    assert ["e", "l", "p"] == sorted(person["id"] for person in _shown(one))
    one.check()
    assert one.lines("people") == two.lines("people")


def test_a_line_may_change_the_class(one: Clone, two: Clone) -> None:
    """The row of the class before goes, in this clone and in others."""
    _fill(one)
    _pull(one, two)
    one.sql(
        'DELETE FROM "lead engineers"',
        "DELETE FROM engineers WHERE id = 'l'",
        "UPDATE people SET kind = 'manager' WHERE id = 'l'",
        "INSERT INTO managers VALUES ('l', 'some')",
    )
    assert ("manager", "some") == tuple(one.told("people")["l"][key] for key in ("kind", "content"))
    one.check()
    assert not _pull(one, two).problems
    assert _shown(one) == _shown(two)
    with two.engine.connect() as connection:
        assert ["e"] == list(connection.execute(text("SELECT id FROM engineers")).scalars())
    two.check()


def test_counted_keys_are_ids_in_every_table(one: Clone, two: Clone) -> None:
    """The key of a subclass's table is that of its base, and references are translated."""
    with one.sessions.begin() as session:
        garage = Asset(name="garage")
        session.add(garage)
        session.flush()
        session.add(Vehicle(name="car", wheels=4, part_of_id=garage.id))
    told = {line["name"]: line for line in one.told("assets").values()}
    assert told["garage"]["id"] == told["car"]["part_of_id"]
    two.sql("INSERT INTO assets VALUES (1, 'asset', 'first')")
    two.work.drain()
    one.append("assets", *two.lines("assets"))
    assert not one.store.sync().problems
    with two.sessions.begin() as session:
        session.execute(text("SELECT 1"))
    assert not _pull(one, two).problems
    shown = {row["name"]: row for row in _shown(two, Asset)}
    assert shown["garage"]["id"] == shown["car"]["part_of_id"]
    two.sql("UPDATE vehicles SET wheels = 3")
    assert not _pull(two, one).problems
    assert 3 == {row["name"]: row for row in _shown(one, Asset)}["car"]["wheels"]
    one.check()
    two.check()


def test_a_stale_write_to_the_table_of_a_subclass_is_refused(one: Clone) -> None:
    """A change in one table makes instances stale that carry the version in another."""
    _fill(one)
    with one.sessions() as session:
        lead = session.get_one(Lead, "l")
        one.sql("UPDATE engineers SET languages = '{X}' WHERE id = 'l'")
        lead.size = 9
        with pytest.raises(StaleRowError):
            session.commit()


def test_a_session_has_the_version_that_a_subclass_table_gave(one: Clone) -> None:
    """After a flush of the subclass's columns alone, the instance has the new version."""
    _fill(one)
    with one.sessions() as session:
        lead = session.get_one(Lead, "l")
        before = lead.updated_at
        lead.size = 9
        session.commit()
        lead.size = 10
        session.commit()
        assert before < lead.updated_at
    assert 10 == one.told("people")["l"]["size"]
    one.check()


def test_a_value_that_no_line_carries_keeps_the_other_table_s_change(one: Clone) -> None:
    """Once it is corrected, the line has what else its transaction had changed."""
    _fill(one)
    one.sql(
        "UPDATE people SET name = 'new' WHERE id = 'e'",
        "UPDATE engineers SET score = 'NaN' WHERE id = 'e'",
    )
    one.work.drain()
    [problem] = one.work.lag().problems
    assert "score" in problem
    one.sql("UPDATE engineers SET score = 1 WHERE id = 'e'")
    assert ("new", 1) == tuple(one.told("people")["e"][key] for key in ("name", "score"))
    assert () == one.work.lag().problems
    one.check()


def test_a_batch_that_is_drained_again_writes_nothing_twice(
    one: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash between the log and the database, the same lines are made again."""
    _fill(one)
    one.work.drain()
    run = Drain.run

    def crash(self: Drain) -> Any:
        run(self)
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(Drain, "run", crash)
        one.sql("UPDATE engineers SET languages = '{Z}' WHERE id = 'e'")
        one.sql("UPDATE people SET name = 'Z' WHERE id = 'e'")
        with pytest.raises(RuntimeError):
            one.work.drain()
    before = (one.path / "people.jsonl").read_bytes()
    one.work.drain()
    assert before == (one.path / "people.jsonl").read_bytes()
    one.check()


def test_truncate_and_cascades(one: Clone) -> None:
    """A base that is truncated takes its records along; a cascade deletes once."""
    _fill(one)
    one.sql("DELETE FROM people WHERE id = 'l'")
    assert {"m", "e", "p"} == one.told("people").keys()
    one.sql("TRUNCATE people CASCADE")
    assert {} == one.told("people")
    one.check()


def test_verify_finds_a_lost_row_of_a_subclass(one: Clone) -> None:
    """A row that was deleted behind the triggers is a difference, and can be repaired."""
    _fill(one)
    one.work.drain()
    one.sql(
        'ALTER TABLE "lead engineers" DISABLE TRIGGER USER',
        'DELETE FROM "lead engineers"',
        'ALTER TABLE "lead engineers" ENABLE TRIGGER USER',
    )
    [difference] = one.store.verify(repair=True).differences
    assert "l" == difference.id
    assert 3 == {row["id"]: row for row in _shown(one)}["l"]["size"]
    one.check()


def test_a_migration_captures_and_releases_all_tables(engine: Engine, tmp_path: Path) -> None:
    """Each table gets triggers, and loses them again."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        migrations.capture(operations(connection), MODELS)
    with Store.open(tmp_path / "one", engine=engine, mirrors=MODELS) as store:
        with Session(engine) as session:
            session.add(Lead(id="l", updated_at=0))
            session.commit()
        assert store.verify().ok
    with engine.begin() as connection:
        migrations.release(operations(connection), MODELS, outbox=True)
        found = connection.execute(text("SELECT proname FROM pg_proc WHERE proname ~ 'taskstore'"))
        assert [] == found.all()


def test_statements_do_not_grow_with_rows(one: Clone, two: Clone) -> None:
    """A pull of many records takes as many statements as one of few."""
    counts = []

    def count(_: Any, cursor: Any, statement: str, *more: Any) -> None:
        # The scribe in its thread asks all the time.
        counts[-1] += statement.startswith(("INSERT", "UPDATE", "DELETE", "CREATE"))

    event.listen(two.work.context.engine, "before_cursor_execute", count)
    for number in (1, 2, 200):
        with one.sessions.begin() as session:
            for i in range(number):
                session.add(Lead(id=f"{number}-{i}", size=i))
        counts.append(0)
        assert not _pull(one, two).problems
    assert counts[1] == counts[2]
    two.check()
