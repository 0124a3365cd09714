"""SQL over index rows, SQL over JSON and Python mean the same by every filter and order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import not_, select

from taskstore._cache.schema.models import DEFAULT
from taskstore._cache.sql.compile import compile, order_columns
from taskstore._format.lines import decode_object
from taskstore._query.conditions import Condition
from taskstore._query.ordering import resolve_order, sort_key
from taskstore._query.resolve import matches
from tests.examples import share
from tests.query.harness import COLLECTION, CONDITIONS, INDEXED, ORDERS, PLAN, Cache, logs

TYPES = st.sampled_from([None, PLAN])


@pytest.fixture(scope="module")
def cache() -> Cache:
    """One cache for all examples: each fills it anew."""
    return Cache()


def in_python(
    lines: list[str], condition: Condition | None, order_by: object, record_type: Any
) -> list[str]:
    """The ids that the Python meaning finds, in its order."""
    sorts = resolve_order(order_by, record_type)
    records = [decode_object(line) for line in lines]
    found = [record for record in records if matches(condition, record, record_type)]
    return [record["id"] for record in sorted(found, key=lambda found: sort_key(sorts, found))]


@given(logs(), CONDITIONS, ORDERS, TYPES)
@share(2)
def test_three_ways(
    cache: Cache, lines: list[str], condition: Condition, order_by: list[str], record_type: Any
) -> None:
    """For any lines, filters and orders, indexed or not, with LIMIT or without."""
    expected = in_python(lines, condition, order_by, record_type)
    cache.fill(lines)
    for fields in ({}, INDEXED):
        query = cache.query(condition, record_type=record_type, order_by=order_by, fields=fields)
        assert expected == cache.ids(query)
        assert expected == cache.ids(query, limit=100)
        assert expected == cache.ids(query, limit=100, probe=True)
        count = query.count()
        assert len(expected) == cache.connection.scalar(count.statement, dict(count.parameters))
        exists = query.exists()
        found = cache.connection.exec_driver_sql(*exists.driver_sql()).first()
        assert bool(expected) == (found is not None)


@given(logs(), CONDITIONS, ORDERS, TYPES)
@share(1)
def test_expression(
    cache: Cache, lines: list[str], condition: Condition, order_by: list[str], record_type: Any
) -> None:
    """An expression for statements of one's own says the same, and its negation the rest."""
    cache.fill(lines)
    expected = in_python(lines, condition, order_by, record_type)
    where = compile(condition, DEFAULT, COLLECTION, record_type, INDEXED)
    order = order_columns(order_by, DEFAULT, record_type, INDEXED)
    statement = select(DEFAULT.StoredRecord.id).where(where).order_by(*order)
    assert expected == list(cache.connection.scalars(statement))
    elsewhere = compile(condition, DEFAULT, "tasks", record_type, INDEXED)
    assert [] == cache.connection.scalars(select(DEFAULT.StoredRecord.id).where(elsewhere)).all()
    rest = set(cache.connection.scalars(select(DEFAULT.StoredRecord.id).where(not_(where))))
    assert {decode_object(line)["id"] for line in lines} - set(expected) == rest


@given(logs(), ORDERS, TYPES, st.integers(1, 3), st.booleans())
@share(2)
def test_pages(
    cache: Cache, lines: list[str], order_by: list[str], record_type: Any, size: int, use: bool
) -> None:
    """Pages laid end to end are the whole, in order, each record once."""
    cache.fill(lines)
    expected = in_python(lines, None, order_by, record_type)
    records = {record["id"]: record for record in map(decode_object, lines)}
    fields = INDEXED if use else {}
    query = cache.query(None, record_type=record_type, order_by=order_by, fields=fields)
    found: list[str] = []
    after = None
    while page := cache.ids(query, limit=size, after=after):
        found += page
        after = query.token(records[page[-1]])
        assert len(found) <= len(expected)
    assert expected == found
