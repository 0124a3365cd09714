"""Declarations and values of a kind that public applications have."""

# Each case has a base of its own, which mypy cannot follow.
# mypy: disable-error-code="misc, valid-type"

from __future__ import annotations

import math
import secrets
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import JSON, Float, ForeignKey, Integer, Numeric, String, TypeDecorator, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from taskstore import InvalidDeclarationError, InvalidRecordError, mirror_all
from tests.mirror.clones import cloned

FUTURE = 4_000_000_000_000


def new_base() -> Any:
    """A declarative base of its own."""

    class Base(DeclarativeBase):
        pass

    return Base


class Document(TypeDecorator[Any]):
    """A document under a name of its own, as applications have for several databases."""

    impl = JSON
    cache_ok = True


def measures() -> Any:
    """A model with columns that SQLite does not hold to their types."""

    class Measure(new_base()):
        __tablename__ = "measures"
        id: Mapped[int] = mapped_column(primary_key=True)
        count: Mapped[Any] = mapped_column(Integer, nullable=True)
        share: Mapped[Any] = mapped_column(Float, nullable=True)
        price: Mapped[Any] = mapped_column(Numeric(10, 2), nullable=True)
        name: Mapped[Any] = mapped_column(String, nullable=True)
        data: Mapped[Any] = mapped_column(JSON, nullable=True)
        more: Mapped[Any] = mapped_column(Document, nullable=True)

    return Measure


@pytest.mark.parametrize(
    ("column", "value", "line"),
    [
        ("count", 1.5, 1.5),
        ("count", "n/a", {"text": "n/a"}),
        ("count", "", {"text": ""}),
        ("count", b"\xff", {"blob": "/w=="}),
        ("count", -math.inf, {"real": "-Infinity"}),
        ("share", math.inf, {"real": "Infinity"}),
        ("share", -math.inf, {"real": "-Infinity"}),
        ("price", Decimal("Infinity"), "Infinity"),
        ("name", b"$2b$\x00\xff", {"blob": "JDJiJAD/"}),
        ("data", {"a": [math.inf]}, {"_json": '{"a": [Infinity]}'}),
        ("data", ["\ud800"], {"_json": '["\\ud800"]'}),
        ("data", {"_json": "1"}, {"_json": '{"_json": "1"}'}),
        ("data", {"_json": 1}, {"_json": 1}),
        ("more", [-math.inf], {"_json": "[-Infinity]"}),
    ],
)
def test_values_of_another_type(tmp_path: Path, column: str, value: Any, line: Any) -> None:
    """What SQLite keeps in a column against its type is in the line, and in the other clone."""
    measure = measures()
    with (
        cloned(tmp_path / "one", mirror_all(measure), measure) as one,
        cloned(tmp_path / "two", mirror_all(measure), measure) as two,
    ):
        with one.sessions.begin() as session:
            session.add(measure(**{column: value}))
        assert [line] == [record[column] for record in one.told("measures").values()]
        two.take(one)
        assert () == two.store.sync().mirrored
        for clone in (one, two):
            assert [value] == [getattr(row, column) for row in clone.rows(measure)]
            clone.check()
        before = one.log("measures").read_bytes()
        with one.sessions.begin() as session:
            session.execute(update(measure).values({column: value}))
        assert before == one.log("measures").read_bytes()


@pytest.mark.parametrize(
    "line",
    [
        {"count": "5"},
        {"count": {"text": 5}},
        {"count": {"text": "a", "real": "Infinity"}},
        {"share": {"real": "NaN"}},
        {"name": {"text": "a"}},
        {"name": {"blob": "?"}},
        {"price": "NaN"},
        {"data": {"_json": "?"}},
    ],
)
def test_lines_that_say_something_else(tmp_path: Path, line: dict[str, Any]) -> None:
    """A value that no row can have made is a problem, as before."""
    measure = measures()
    with cloned(tmp_path / "one", mirror_all(measure), measure) as one:
        one.append("measures", {"id": "a", **line, "updated_at": 5})
        assert ["a"] == [problem.id for problem in one.store.sync().mirrored]
        assert [] == one.rows(measure)


def test_bytes_are_no_key(tmp_path: Path) -> None:
    """A key that is bytes in a text column is refused: its line would be found as text."""

    class Token(new_base()):
        __tablename__ = "tokens"
        name: Mapped[Any] = mapped_column(String, primary_key=True)

    with cloned(tmp_path / "one", mirror_all(Token), Token) as one:
        with (
            pytest.raises(InvalidRecordError, match="not a key"),
            one.sessions.begin() as session,
        ):
            session.add(Token(name=b"a"))
        assert [] == one.rows(Token)


class Sealed(TypeDecorator[str]):
    """Text that is stored differently each time, as encrypted text is."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else f"{secrets.token_hex(8)}:{value[::-1]}"

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else value.partition(":")[2][::-1]


def test_a_type_that_stores_a_value_differently_each_time(tmp_path: Path) -> None:
    """Rows equal their lines by value, and a line keeps its bytes until the value changes."""

    class Hook(new_base()):
        __tablename__ = "hooks"
        id: Mapped[int] = mapped_column(primary_key=True)
        url: Mapped[str]
        secret: Mapped[str | None] = mapped_column(Sealed)

    with (
        cloned(tmp_path / "one", mirror_all(Hook), Hook) as one,
        cloned(tmp_path / "two", mirror_all(Hook), Hook) as two,
    ):
        with one.sessions.begin() as session:
            session.add(Hook(url="a", secret="hidden"))
        one.check()
        [sealed] = [record["secret"] for record in one.told("hooks").values()]
        assert "hidden" not in sealed
        two.take(one)
        two.store.sync()
        assert ["hidden"] == [row.secret for row in two.rows(Hook)]
        two.check()
        with two.sessions.begin() as session:
            session.query(Hook).one().url = "b"
        assert [("b", sealed)] == [(r["url"], r["secret"]) for r in two.told("hooks").values()]
        before = two.log("hooks").read_bytes()
        with two.sessions.begin() as session:
            session.query(Hook).one().secret = "hidden"
        assert before == two.log("hooks").read_bytes()
        with two.sessions.begin() as session:
            session.query(Hook).one().secret = "other"
        assert [sealed] != [record["secret"] for record in two.told("hooks").values()]
        two.check()


def test_classes_that_no_column_tells_apart(tmp_path: Path) -> None:
    """Classes in one table without a discriminator share its rows, and lines have all columns."""
    base = new_base()

    class Job(base):
        __tablename__ = "jobs"
        id: Mapped[int] = mapped_column(primary_key=True)
        state: Mapped[str]

    class DetailedJob(Job):
        worker: Mapped[str | None]
        parent_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id"))
        parent: Mapped[Any] = relationship(Job, remote_side=Job.id)

    with (
        cloned(tmp_path / "one", mirror_all(base), base) as one,
        cloned(tmp_path / "two", mirror_all(base), base) as two,
    ):
        with one.sessions.begin() as session:
            session.add(DetailedJob(state="new", worker="w", parent=Job(state="old")))
        [old, new] = sorted(one.told("jobs").values(), key=lambda record: record["_number"])
        assert ("w", old["id"]) == (new["worker"], new["parent_id"])
        two.take(one)
        assert () == two.store.sync().mirrored
        with two.sessions.begin() as session:
            session.query(Job).filter_by(state="new").one().state = "done"
        [found] = [row for row in two.rows(DetailedJob) if row.state == "done"]
        assert "w" == found.worker
        assert ["w"] == [r["worker"] for r in two.told("jobs").values() if r["state"] == "done"]
        one.check()
        two.check()


def test_joined_tables_that_no_column_tells_apart(tmp_path: Path) -> None:
    """They are refused, with the remedy: a line would not say of which class its row is."""
    base = new_base()

    class Job(base):
        __tablename__ = "jobs"
        id: Mapped[int] = mapped_column(primary_key=True)

    class DetailedJob(Job):
        __tablename__ = "detailed_jobs"
        id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), primary_key=True)

    with (
        pytest.raises(InvalidDeclarationError, match="tells its subclasses apart.*polymorphic_on"),
        cloned(tmp_path / "one", mirror_all(base), base),
    ):
        pass
