"""A cache in memory, filled as the store would fill it, and odd lines to put into it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any
from uuid import UUID

import attrs
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, event, insert
from sqlalchemy.pool import StaticPool

from taskstore._cache.engine.functions import register_functions
from taskstore._cache.schema.models import DEFAULT
from taskstore._cache.sql.statements import RecordQuery
from taskstore._format.instants import parse_instant
from taskstore._format.lines import decode_object
from taskstore._query.conditions import Condition, Filter, FilterOp, Not
from taskstore._records.declare import indexed, record
from taskstore._records.indexing import IndexField, index_rows
from taskstore._records.types import RecordType

COLLECTION = "plans"
COLUMNS = ("field_value_str", "field_value_int", "field_value_bool", "field_value_real")


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


@record(COLLECTION)
class Plan:
    """Declared fields of all kinds, indexed and not."""

    id: str
    title: str = "untitled"
    status: str = indexed(default="draft")
    priority: int = indexed(default=1)
    weight: float | None = indexed(default=None)
    done: bool = indexed(default=False)
    due: datetime | None = indexed(default=None)
    seen: datetime | None = None
    token: UUID | None = indexed(default=None)
    size: Size = indexed(default=Size.SMALL)
    tags: list[str] = attrs.field(factory=list)
    updated_at: int = 0


PLAN = RecordType.of(Plan)
INDEXED: Mapping[str, IndexField] = {field.name: field for field in PLAN.index_fields}
NAMES = [name for name in PLAN.fields if name not in ("id", "updated_at")]


class Driver(sqlite3.Connection):
    """A connection that can be referred to weakly, as those of a store can."""

    lost: BaseException | None = None


class Cache:
    """An SQLite database in memory with our tables and functions."""

    def __init__(self) -> None:
        engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"factory": Driver})
        event.listen(engine, "connect", lambda driver, _: register_functions(driver))
        self.connection: Connection = engine.connect()
        DEFAULT.metadata.create_all(self.connection)

    def fill(self, lines: Sequence[str], fields: Mapping[str, IndexField] = INDEXED) -> None:
        """Replace all records, and index them."""
        self.connection.exec_driver_sql("DELETE FROM record_indexes")
        self.connection.exec_driver_sql("DELETE FROM records")
        records, rows = [], []
        for line in lines:
            record = decode_object(line)
            us = parse_instant(record.get("updated_at"))
            key = {"collection": COLLECTION, "id": record["id"]}
            records.append(
                {**key, "data_json": line, "updated_at": us // 1000, "updated_at_us": us}
            )
            for name, value in index_rows(fields.values(), line):
                columns = dict(zip(COLUMNS, value, strict=True))
                rows.append({**key, "field_name": name, **columns})
        if records:
            self.connection.execute(insert(DEFAULT.StoredRecord), records)
        if rows:
            self.connection.execute(insert(DEFAULT.RecordIndex), rows)

    def query(
        self,
        condition: Condition | None = None,
        *,
        record_type: Any = None,
        fields: Mapping[str, IndexField] = INDEXED,
        order_by: object = None,
    ) -> RecordQuery:
        return RecordQuery.of(
            DEFAULT,
            COLLECTION,
            condition,
            record_type=record_type,
            indexed=fields,
            order_by=order_by,
        )

    def ids(self, query: RecordQuery, *, probe: bool = False, **window: Any) -> list[str]:
        """Run a question both through SQLAlchemy and past it, and return the ids."""
        if probe:
            question = query.probe()
            if question is not None:
                row = self.connection.execute(question.statement, dict(question.parameters)).one()
                window["counts"] = tuple(row)
        prepared = query.rows("id", **window)
        found = self.connection.execute(prepared.statement, dict(prepared.parameters)).all()
        assert found == self.connection.exec_driver_sql(*prepared.driver_sql()).all()
        return [id for (id,) in found]


EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
TEXTS = st.one_of(
    st.sampled_from(
        ["", "a", "A", "active", "draft", "untitled", "5", "1", "true", "null", "small", "ä", "a%b",
         "a_b", "\0", "a\0b", "a\0c", "\U0001f600", "￿", '"', "\\", "/", "[]", "\x7f", "a b",
         '"status"', "2026-01-01", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00",
         "6F9619FF-8B86-D011-B42D-00C04FC964FF", "6f9619ff-8b86-d011-b42d-00c04fc964ff"]
    ),
    st.text(st.characters(codec="utf-8"), max_size=4),
)  # fmt: skip
INTS = st.sampled_from(
    [0, 1, 2, 5, -1, 2**31, 2**53, 2**53 + 1, 2**63 - 1, 2**63 - 512, -(2**63), 2**63, -(2**63) - 1,
     2**64, 2**70 + 1, 10**25 + 1, -(10**30)]
)  # fmt: skip
NUMBERS = st.one_of(
    INTS,
    st.integers(-3, 7),
    st.sampled_from(
        [0.0, -0.0, 1.0, 0.5, 5.0, 0.1 + 0.2, 1e300, 5e-324, float(2**53), float(2**63)]
    ),
    st.floats(allow_nan=False, allow_infinity=False),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.dictionaries(st.sampled_from(["a", "status", "priority"]), SCALARS, max_size=2),
)
DATETIMES = st.builds(
    lambda hours, us: EPOCH + timedelta(hours=hours, microseconds=us),
    st.integers(-2, 2),
    st.sampled_from([0, 1, 500_000]),
)
OPERANDS = st.one_of(
    SCALARS,
    st.sampled_from(list(Size)),
    DATETIMES,
    st.just(UUID("6f9619ff-8b86-d011-b42d-00c04fc964ff")),
    st.sampled_from([float("inf"), float("-inf")]),
)
ORDERED = [FilterOp.LT, FilterOp.LE, FilterOp.GT, FilterOp.GE]


@st.composite
def lines(draw: st.DrawFn, id: str) -> str:
    """A line with any values, duplicate keys, escapes and other spellings of the same."""
    members = [("id", json.dumps(id))]
    names = draw(st.lists(st.sampled_from(NAMES), max_size=8))
    for name in names:
        ascii_only = draw(st.booleans())
        members.append((name, json.dumps(draw(VALUES), ensure_ascii=ascii_only)))
    if draw(st.booleans()):
        time = draw(st.sampled_from([0, 5, 1000, 7, '"2026-01-01T00:00:00.0005Z"', "null"]))
        members.append(("updated_at", str(time)))
    texts = [f"{_key(name, draw(st.integers(0, 9)))}:{value}" for name, value in members]
    return f"{{{draw(st.sampled_from([',', ', '])).join(texts)}}}"


def _key(name: str, chance: int) -> str:
    """A key, now and then with an escape in it."""
    return f'"\\u{ord(name[0]):04x}{name[1:]}"' if chance == 0 else f'"{name}"'


@st.composite
def logs(draw: st.DrawFn) -> list[str]:
    """Lines of a few records."""
    ids = draw(st.lists(TEXTS.filter(str.strip), max_size=6, unique=True))
    return [draw(lines(id)) for id in ids]


@st.composite
def filters(draw: st.DrawFn) -> Condition:
    """One test of any field with any value."""
    name = draw(st.sampled_from([*NAMES, *INDEXED, "id"]))
    op = draw(st.sampled_from(list(FilterOp)))
    if op is FilterOp.IN:
        return Filter(name, op, draw(st.lists(st.one_of(OPERANDS, st.just(["a"])), max_size=4)))
    if op is FilterOp.IS_NONE:
        return Filter(name, op, draw(st.booleans()))
    values = OPERANDS if op in ORDERED else st.one_of(OPERANDS, VALUES)
    return Filter(name, op, draw(values))


TIMES = st.builds(
    lambda op, value: Filter("updated_at", op, value),
    st.sampled_from([FilterOp.EQ, FilterOp.NE, *ORDERED]),
    st.one_of(st.sampled_from([0, 5, 6.5, 10**40, None, "2026-01-01T00:00:00.0005Z"]), DATETIMES),
)
CONDITIONS = st.recursive(
    st.one_of(filters(), filters(), filters(), TIMES),
    lambda inner: st.one_of(
        st.builds(lambda a, b: a & b, inner, inner),
        st.builds(lambda a, b: a | b, inner, inner),
        st.builds(Not, inner),
    ),
    max_leaves=4,
)
ORDERS = st.lists(
    st.builds(
        lambda minus, name: f"{'-' if minus else ''}{name}",
        st.booleans(),
        st.sampled_from([*NAMES, "updated_at", "id"]),
    ),
    max_size=2,
)
