"""Filters and orders on PostgreSQL find the same as in Python, for any lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from sqlalchemy import URL, Connection, create_engine, delete, insert

from taskstore._cache.schema.models import DEFAULT
from taskstore._format.instants import parse_instant
from taskstore._format.lines import decode_object
from taskstore._postgres.records.questions import RecordQuestion
from taskstore._query.conditions import Condition
from tests.examples import share
from tests.query.harness import COLLECTION, CONDITIONS, ORDERS, PLAN, logs
from tests.query.test_agreement import in_python

TYPES = st.sampled_from([None, PLAN])
LOGS = logs().map(lambda lines: [line for line in lines if "\\u0000" not in line])
"""Lines without NUL, which PostgreSQL does not take."""


@pytest.fixture(scope="module")
def connection(server_url: URL, template: str) -> Iterator[Connection]:
    """A connection, in a transaction that is rolled back."""
    engine = create_engine(server_url.set(database=template))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def fill(connection: Connection, lines: list[str]) -> None:
    """Replace all records."""
    connection.rollback()
    connection.execute(delete(DEFAULT.StoredRecord))
    rows = []
    for line in lines:
        record = decode_object(line)
        us = parse_instant(record.get("updated_at"))
        key = {"collection": COLLECTION, "id": record["id"], "data_json": line}
        rows.append({**key, "updated_at": us // 1000, "updated_at_us": us})
    if rows:
        connection.execute(insert(DEFAULT.StoredRecord), rows)


def ids(connection: Connection, question: RecordQuestion, **window: Any) -> list[str]:
    """Return the ids of the records that are found."""
    return [decode_object(line)["id"] for line in question.lines(connection, **window)]


@given(LOGS, CONDITIONS, ORDERS, TYPES)
@share(1.5, suppress_health_check=[HealthCheck.too_slow])
def test_filters_and_orders(
    connection: Connection,
    lines: list[str],
    condition: Condition,
    order_by: list[str],
    record_type: Any,
) -> None:
    """Any filter and order finds the same, counted, streamed and limited."""
    expected = in_python(lines, condition, order_by, record_type)
    fill(connection, lines)
    question = RecordQuestion.of(DEFAULT, COLLECTION, condition, record_type, order_by)
    assert expected == ids(connection, question)
    assert expected == ids(connection, question, stream=True)
    assert expected[1:3] == ids(connection, question, limit=2, offset=1)
    assert len(expected) == question.count(connection)
    assert bool(expected) == question.exists(connection)


@given(LOGS, ORDERS, TYPES, st.integers(1, 3))
@share(0.75, suppress_health_check=[HealthCheck.too_slow])
def test_pages(
    connection: Connection, lines: list[str], order_by: list[str], record_type: Any, size: int
) -> None:
    """Pages laid end to end are the whole, in order, each record once."""
    fill(connection, lines)
    expected = in_python(lines, None, order_by, record_type)
    question = RecordQuestion.of(DEFAULT, COLLECTION, None, record_type, order_by)
    found: list[str] = []
    after = None
    while page := list(question.lines(connection, limit=size, after=after)):
        found += [decode_object(line)["id"] for line in page]
        after = question.token(page[-1])
        assert len(found) <= len(expected)
    assert expected == found
