"""Values of PostgreSQL's own types travel between two databases."""

from __future__ import annotations

import datetime
import decimal
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import ARRAY, URL, Double, Enum, Numeric, String, create_engine, func, select
from sqlalchemy.dialects.postgresql import (
    BIT,
    DATEMULTIRANGE,
    DATERANGE,
    DOMAIN,
    INT4MULTIRANGE,
    INT4RANGE,
    INT8RANGE,
    INTERVAL,
    JSONB,
    MACADDR,
    NUMRANGE,
    TSRANGE,
    TSTZMULTIRANGE,
    TSTZRANGE,
)
from sqlalchemy.dialects.postgresql.ranges import MultiRange, Range
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import NullPool

from taskstore import Store, mirrored
from taskstore.errors import InvalidDeclarationError
from tests.postgres.clones import Clone, cloned
from tests.postgres.models import Color


class Base(DeclarativeBase):
    """The application's base."""


@mirrored("values", updated_at=None)
class Value(Base):
    """Has a column of each type."""

    __tablename__ = "values"

    id: Mapped[str] = mapped_column(primary_key=True)
    small: Mapped[Any] = mapped_column(INT4RANGE, nullable=True)
    large: Mapped[Any] = mapped_column(INT8RANGE, nullable=True)
    number: Mapped[Any] = mapped_column(NUMRANGE, nullable=True)
    days: Mapped[Any] = mapped_column(DATERANGE, nullable=True)
    local: Mapped[Any] = mapped_column(TSRANGE, nullable=True)
    moments: Mapped[Any] = mapped_column(TSTZRANGE, nullable=True)
    many: Mapped[Any] = mapped_column(INT4MULTIRANGE, nullable=True)
    holidays: Mapped[Any] = mapped_column(DATEMULTIRANGE, nullable=True)
    shifts: Mapped[Any] = mapped_column(TSTZMULTIRANGE, nullable=True)
    span: Mapped[Any] = mapped_column(INTERVAL, nullable=True)
    colors: Mapped[Any] = mapped_column(ARRAY(Enum(Color, name="color2")), nullable=True)
    email: Mapped[Any] = mapped_column(DOMAIN("email", String), nullable=True)
    price: Mapped[Any] = mapped_column(DOMAIN("price", Numeric(10, 2)), nullable=True)
    spans: Mapped[Any] = mapped_column(ARRAY(INT4RANGE), nullable=True)
    numbers: Mapped[Any] = mapped_column(ARRAY(Double), nullable=True)
    card: Mapped[Any] = mapped_column(MACADDR, nullable=True)
    document: Mapped[Any] = mapped_column(JSONB(none_as_null=True), nullable=True)
    never: Mapped[Any] = mapped_column(JSONB, nullable=False)


_NOON = datetime.datetime(2025, 3, 1, 12)
_UTC = _NOON.replace(tzinfo=datetime.UTC)

FULL: dict[str, Any] = {
    "small": Range(1, 5),
    "large": Range(None, 2**40),
    "number": Range(decimal.Decimal("1.5"), decimal.Decimal("2.25"), bounds="(]"),
    "days": Range(datetime.date(2024, 2, 29), None),
    "local": Range(_NOON, _NOON + datetime.timedelta(hours=1), bounds="[]"),
    "moments": Range(_UTC, _UTC + datetime.timedelta(microseconds=1)),
    "many": MultiRange([Range(1, 2), Range(5, None)]),
    "holidays": MultiRange([Range(datetime.date(2025, 1, 1), datetime.date(2025, 1, 2))]),
    "shifts": MultiRange([Range(_UTC, _UTC + datetime.timedelta(hours=8))]),
    "span": datetime.timedelta(days=40, microseconds=1),
    "colors": [Color.RED, None, Color.BLUE],
    "email": "ada@example.org",
    "price": decimal.Decimal("9.50"),
    "spans": [Range(1, 2), None],
    "numbers": [0.1 + 0.2, None],
    "card": "08:00:2b:01:02:03",
    "document": {"a": None},
    "never": None,
}


@pytest.fixture
def one(new_database: Callable[[], URL], tmp_path: Path) -> Iterator[Clone]:
    """A clone of the application."""
    with cloned(new_database(), tmp_path / "one", [Value], Base) as clone:
        yield clone


@pytest.fixture
def two(new_database: Callable[[], URL], tmp_path: Path) -> Iterator[Clone]:
    """Another clone."""
    with cloned(new_database(), tmp_path / "two", [Value], Base) as clone:
        yield clone


def _pull(source: Clone, target: Clone) -> Any:
    source.work.drain()
    shutil.copy(source.path / "values.jsonl", target.path / "values.jsonl")
    return target.store.sync().problems


def _values(clone: Clone, id: str) -> dict[str, Any]:
    with clone.sessions() as session:
        row = session.get_one(Value, id)
        return {name: getattr(row, name) for name in FULL}


def test_every_type_travels(one: Clone, two: Clone) -> None:
    """Rows with values of all types, with no values, and with empty values arrive."""
    empty = Range(empty=True)
    bare = {"small": empty, "many": MultiRange([]), "colors": [], "spans": [empty]}
    with one.sessions.begin() as session:
        session.add(Value(id="full", **FULL))
        session.add(Value(id="empty", never=1))
        session.add(Value(id="bare", never={}, **bare))
    assert not _pull(one, two)
    assert FULL == _values(two, "full")
    assert {**dict.fromkeys(FULL), "never": 1} == _values(two, "empty")
    assert bare == {name: value for name, value in _values(two, "bare").items() if name in bare}
    two.check()
    with two.sessions.begin() as session:
        session.get_one(Value, "full").small = Range(None, None)
    assert not _pull(two, one)
    assert Range(None, None, bounds="()") == _values(one, "full")["small"]
    one.check()


@pytest.mark.parametrize("style", ["SQL, DMY", "German", "Postgres, MDY"])
def test_ranges_do_not_depend_on_how_a_session_writes_dates(one: Clone, style: str) -> None:
    """A client that spells dates in its own way writes the dates that it means."""
    one.sql(
        f"SET LOCAL datestyle = '{style}'",
        "INSERT INTO values (id, never, days, holidays, moments) VALUES ('a', '1', "
        "daterange(make_date(2024, 2, 1), NULL), "
        "datemultirange(daterange(make_date(2024, 2, 1), make_date(2024, 5, 3))), "
        "tstzrange(make_timestamptz(2024, 2, 1, 9, 30, 0, 'UTC'), NULL))",
    )
    [line] = one.lines("values")
    assert "2024-02-01" == line["days"]["lower"]
    assert ["2024-05-03"] == [found["upper"] for found in line["holidays"]]
    assert "2024-02-01T09:30:00Z" == line["moments"]["lower"]
    one.check()


@pytest.mark.parametrize(
    "settings", ["-cextra_float_digits=0", "-cdatestyle=German", "-cintervalstyle=sql_standard"]
)
def test_the_scribe_s_own_settings_change_nothing(
    new_database: Callable[[], URL], tmp_path: Path, settings: str
) -> None:
    """Lines, exports and verifications are the same whatever the role's settings are."""
    url = new_database().update_query_dict({"options": settings})
    with cloned(url, tmp_path / "one", [Value], Base) as one:
        one.sql(
            "INSERT INTO values (id, never, days, span, numbers) VALUES ('a', '0.1', "
            "daterange(make_date(2024, 2, 1), NULL), "
            "make_interval(days => -1, hours => 2), ARRAY[0.1::float8 + 0.2::float8])"
        )
        [line] = one.lines("values")
        assert "2024-02-01" == line["days"]["lower"]
        assert "-PT79200S" == line["span"]
        assert [0.1 + 0.2] == line["numbers"]
        assert 0 == one.store.export(Value)
        one.check()


def test_ranges_are_spelled_in_one_way(one: Clone) -> None:
    """A line of another program may write a range in another form than PostgreSQL returns."""
    line = {
        "id": "a",
        "small": {"lower": 0, "upper": 4, "bounds": "(]"},
        "days": {"lower": "2025-01-01", "upper": "2025-01-31", "bounds": "[]"},
        "many": [{"lower": 3, "upper": 3, "bounds": "[)"}],
        "never": None,
        "updated_at": 2**42,
    }
    one.append("values", line)
    assert not one.store.sync().problems
    assert Range(1, 5) == _values(one, "a")["small"]
    assert datetime.date(2025, 2, 1) == _values(one, "a")["days"].upper
    assert [line] == one.lines("values")


@pytest.mark.parametrize("told", [1, {"bounds": "x"}, {"lower": "a"}, {"lower": 2, "upper": 1}])
def test_what_is_no_range_is_a_problem(one: Clone, told: Any) -> None:
    """A line whose value is not a range is reported, and the other lines arrive."""
    one.append("values", {"id": "a", "small": told, "never": 1, "updated_at": 2**42})
    one.append("values", {"id": "b", "never": 1, "updated_at": 2**42})
    [problem] = one.store.sync().problems
    assert "a" == problem.id
    assert 1 == _values(one, "b")["never"]


def test_null_in_columns_of_json(one: Clone, two: Clone) -> None:
    """A column that takes NULL has NULL, and one that does not has the null of JSON."""
    with one.sessions.begin() as session:
        session.add(Value(id="a", document=None, never=None))
    _pull(one, two)
    for clone in (one, two):
        with clone.sessions() as session:
            kinds = select(func.jsonb_typeof(Value.document), func.jsonb_typeof(Value.never))
            assert (None, "null") == session.execute(kinds).one()


class Other(DeclarativeBase):
    """The base of models that are refused."""


@mirrored("bits", updated_at=None)
class Bits(Other):
    """Its type has no form in lines."""

    __tablename__ = "bits"

    id: Mapped[str] = mapped_column(primary_key=True)
    flags: Mapped[Any] = mapped_column(BIT(3))


@mirrored("domains", updated_at=None)
class Domains(Other):
    """Its domain would need a conversion that SQLAlchemy does not do."""

    __tablename__ = "domains"

    id: Mapped[str] = mapped_column(primary_key=True)
    document: Mapped[Any] = mapped_column(DOMAIN("document", JSONB))


@pytest.mark.parametrize(("model", "word"), [(Bits, "BIT"), (Domains, "DOMAIN")])
def test_other_types_are_refused_by_name(
    new_database: Callable[[], URL], tmp_path: Path, model: Any, word: str
) -> None:
    """The error names the type."""
    engine = create_engine(new_database(), poolclass=NullPool)
    with pytest.raises(InvalidDeclarationError, match=word):
        Store.open(tmp_path / "store", engine=engine, mirrors=[model], migrate=True)
