"""The statements of the store: what they cost, and what they must bear."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from taskstore._cache.schema.models import DEFAULT
from taskstore._cache.sql.statements import PROBE_LIMIT, RecordQuery
from taskstore._query.conditions import all_of, where
from taskstore.errors import InvalidFilterError
from tests.query.harness import INDEXED, Cache


@pytest.fixture(scope="module")
def cache() -> Cache:
    """More records than a probe counts: one of them rare."""
    cache = Cache()
    count = PROBE_LIMIT + 10
    cache.fill(
        [
            json.dumps(
                {
                    "id": f"p{n}",
                    "status": "rare" if n == 7 else "usual",
                    "priority": n,
                    "updated_at": n,
                }
            )
            for n in range(count)
        ]
    )
    return cache


def plan(cache: Cache, query: RecordQuery, **window: Any) -> str:
    """How SQLite is going to look."""
    sql, parameters = query.rows("id", "data_json", **window).driver_sql()
    rows = cache.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters)
    return "\n".join(row[3] for row in rows)


def counts(cache: Cache, query: RecordQuery) -> tuple[int, ...]:
    """What the probe says."""
    probe = query.probe()
    assert probe is not None
    return tuple(cache.connection.exec_driver_sql(*probe.driver_sql()).one())


def test_one_statement(cache: Cache) -> None:
    """Questions of one shape share one statement, whatever their values: it is compiled once."""
    first = cache.query(all_of([where("status") == "a", where("priority") > 5]))
    second = cache.query(all_of([where("status") == "b' OR 1", where("priority") > 77]))
    assert first.rows("id", limit=5).statement is second.rows("id", limit=9).statement
    assert first.rows("id", limit=5).driver_sql()[0] is second.rows("id", limit=9).driver_sql()[0]
    assert "b' OR 1" not in second.rows("id").driver_sql()[0]


def test_walk(cache: Cache) -> None:
    """With LIMIT, and many hits, the records are walked in order: nothing is sorted."""
    query = cache.query(where("status") == "usual")
    found = plan(cache, query, limit=5, counts=counts(cache, query))
    assert "records_order" in found
    assert "TEMP B-TREE" not in found


@pytest.mark.parametrize("window", [{}, {"limit": 5}])
def test_seek(cache: Cache, window: dict[str, int]) -> None:
    """Few hits are found by the index, with LIMIT or without, not by a walk over all records."""
    query = cache.query(all_of([where("priority") >= 0, where("status") == "rare"]))
    assert (PROBE_LIMIT, 1) == counts(cache, query)
    found = plan(cache, query, counts=counts(cache, query), **window)
    assert "SEARCH records USING PRIMARY KEY (collection=? AND id=?)" in found
    assert "SCAN records" not in found
    assert "records_order" not in found
    assert ["p7"] == cache.ids(query, probe=True, **window)


@pytest.mark.parametrize("condition", [where("priority") == 5, where("priority") > 1005])
def test_seek_numbers(cache: Cache, condition: Any) -> None:
    """Numbers, which may be in any of three columns, are sought by the index too."""
    found = plan(cache, cache.query(condition))
    assert "SEARCH records USING PRIMARY KEY (collection=? AND id=?)" in found
    assert "SCAN records" not in found


@pytest.mark.parametrize("fields", [{}, INDEXED])
@pytest.mark.parametrize("limit", [None, 5000])
@pytest.mark.parametrize("extra", [[], [0.5], ["\0"], [None], [True], [10**25]])
def test_many_values(cache: Cache, fields: Any, limit: int | None, extra: list[Any]) -> None:
    """`in_` takes more values than SQLite takes parameters, whatever their types."""
    numbers = [n for n in range(-50_000, 50_000) if n != 1]
    query = cache.query(where("priority").in_([*numbers, *extra]), fields=fields)
    window: dict[str, Any] = {} if limit is None else {"limit": limit}
    expected = PROBE_LIMIT + 10 - (0 if True in extra else 1)
    assert expected == len(cache.ids(query, **window))
    texts = [f"no {n}" for n in range(40_000)]
    query = cache.query(where("status").in_([*texts, *extra, "rare"]), fields=fields)
    assert ["p7"] == cache.ids(query, **window)


def test_many_fractions(cache: Cache) -> None:
    """The same holds for fractions, which are compared bit by bit."""
    values = [n / 3 for n in range(40_000)]
    query = cache.query(where("priority").in_(values))
    assert {f"p{n}" for n in range(PROBE_LIMIT + 10)} == set(cache.ids(query))


def test_order_by_missing(cache: Cache) -> None:
    """LIMIT and OFFSET work with each other and alone."""
    query = cache.query(None, order_by="priority")
    assert ["p2", "p3"] == cache.ids(query, limit=2, offset=2)
    assert ["p1008", "p1009"] == cache.ids(query, offset=PROBE_LIMIT + 8)
    assert [] == cache.ids(query, limit=0)


def test_token_is_for_urls(cache: Cache) -> None:
    """A token needs no escaping in a URL."""
    query = cache.query(None, order_by="title")
    token = query.token({"id": "ü/?&=+ ", "title": "ÿþ>>>???"})
    assert token.replace("-", "").replace("_", "").isalnum()
    assert token.isascii()


@pytest.mark.parametrize("token", ["", "x", "ä", "AAAA", 5, b"AAAA", "A" * 5, "=", "\0"])
def test_garbled_tokens(cache: Cache, token: Any) -> None:
    """What is no token is refused."""
    with pytest.raises(InvalidFilterError, match="token"):
        cache.query(None).rows("id", after=token)


@given(st.data())
def test_changed_tokens(cache: Cache, data: st.DataObject) -> None:
    """A token with any one character changed, or cut off, is refused."""
    query = cache.query(None, order_by=["title", "-priority"])
    token = query.token({"id": "a", "title": "t", "priority": 2.5})
    place = data.draw(st.integers(0, len(token) - 1))
    with pytest.raises(InvalidFilterError, match="token"):
        query.rows("id", after=token[:place])
    other = data.draw(st.characters().filter(lambda c: c != token[place]))
    changed = token[:place] + other + token[place + 1 :]
    try:
        found = query.rows("id", after=changed)
    except InvalidFilterError:
        return
    # The last character has bits to spare.
    assert found.parameters == query.rows("id", after=token).parameters


@pytest.mark.parametrize(
    "payload",
    [
        b"{}",
        b'{"a":1,"b":[]}',
        b'"ab"',
        b"[1,2]",
        b"[1,[],3]",
        b"[" * 5_000,
        b'["x",[1' + b"0" * 5_000 + b"]]",
        b'[["updated_at:version"],[1]]',
        *(
            b'[["-updated_at:version","id:id"],[%b]]' % values
            for values in (
                b'1,"\\ud800"',
                b"1,2",
                b"1",
                b'1,"a",2',
                b'true,"a"',
                b'null,"a"',
                b'1.5,"a"',
                b'"1","a"',
                b'9223372036854775808,"a"',
                b'[],"a"',
            )
        ),
        *(
            b'[["title:string","id:id"],[%b,"a"]]' % value
            for value in (b'"\\udfff"', b"NaN", b"{}", b"[]", b"-9223372036854775809")
        ),
    ],
)
def test_tokens_that_somebody_else_made(cache: Cache, payload: bytes) -> None:
    """A token whose checksum is right, and that no page has ended with, is refused."""
    token = base64.urlsafe_b64encode(zlib.crc32(payload).to_bytes(4, "big") + payload)
    for order_by in (None, "title"):
        query = cache.query(None, order_by=order_by)
        with pytest.raises(InvalidFilterError, match="token"):
            query.rows("id", after=token.decode().rstrip("="))


@pytest.mark.parametrize("other", ["-title", ["title", "priority"], None, "due"])
def test_foreign_tokens(cache: Cache, other: Any) -> None:
    """A token that was made for another order is refused."""
    token = cache.query(None, order_by="title").token({"id": "a", "title": "t"})
    with pytest.raises(InvalidFilterError, match="another order"):
        cache.query(None, order_by=other).rows("id", after=token)


def test_expression_of_value(cache: Cache) -> None:
    """`StoredRecord.value` is the field as SQL can use it."""
    value = DEFAULT.StoredRecord.value
    found = cache.connection.scalars(
        select(DEFAULT.StoredRecord.id).where(value("status") == "rare", value("priority") > 5)
    )
    assert ["p7"] == found.all()
    total = cache.connection.scalar(select(value("priority")).order_by(value("priority").desc()))
    assert PROBE_LIMIT + 9 == total
