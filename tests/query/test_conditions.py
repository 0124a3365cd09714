"""Filters as they are written."""

from __future__ import annotations

import math
import pickle
from typing import Any

import attrs
import pytest

from taskstore._query.conditions import (
    MAX_NESTING,
    MAX_TESTS,
    Condition,
    Filter,
    FilterOp,
    Order,
    all_of,
    where,
)
from taskstore._query.ordering import resolve_order
from taskstore._query.resolve import matches, resolve
from taskstore.errors import InvalidFilterError, InvalidNameError, UnknownFieldError
from tests.query.harness import PLAN, Plan, Size


@pytest.mark.parametrize(
    ("built", "op", "value"),
    [
        (where("status") == 1, FilterOp.EQ, 1),
        (where("status") != 1, FilterOp.NE, 1),
        (where("status") < 1, FilterOp.LT, 1),
        (where("status") <= 1, FilterOp.LE, 1),
        (where("status") > 1, FilterOp.GT, 1),
        (where("status") >= 1, FilterOp.GE, 1),
        (where("status").contains("a"), FilterOp.CONTAINS, "a"),
        (where("status").in_(["a"]), FilterOp.IN, ["a"]),
        (where("status").is_(None), FilterOp.IS_NONE, True),
        (where("status").is_not(None), FilterOp.IS_NONE, False),
        (1 > where("status"), FilterOp.LT, 1),
    ],
)
def test_both_forms(built: Condition, op: FilterOp, value: Any) -> None:
    """`where` builds what Filter does, by name and by attribute, and the operator may be text."""
    assert Filter("status", op, value) == built
    assert Filter(Plan.status, op.value, value) == built


def test_attribute() -> None:
    """A slotted class's attribute names its field, also for another comparison or the order."""
    assert (where("status") == "a") == (where(Plan.status) == "a")
    assert Order("status", descending=True) == where(Plan.status).desc()


@pytest.mark.parametrize(
    "use",
    [
        lambda: bool(where("priority") == 1),
        lambda: (where("priority") == 1) and (where("status") == "a"),
        lambda: not where("priority").contains(1),
        lambda: 1 < where("priority") < 5,
        lambda: bool(where("priority")),
        lambda: "a" in where("title"),
    ],
)
def test_no_truth(use: Any) -> None:
    """A filter, and a field, refuse to be taken for true or false."""
    with pytest.raises(InvalidFilterError):
        use()


@pytest.mark.parametrize("name", ["", "a b", "a.b", "ä", "x" * 65, '"', None, 5])
def test_names(name: Any) -> None:
    """A name that no field can have is refused when it is written."""
    with pytest.raises(InvalidNameError):
        where(name)
    with pytest.raises(InvalidNameError):
        Filter(name, FilterOp.EQ, 1)


def test_unknown_field() -> None:
    """An unknown name on a type is refused with the nearest; on dicts any name will do."""
    with pytest.raises(UnknownFieldError) as caught:
        resolve(where("stauts") == "a", PLAN)
    assert "status" == caught.value.nearest
    with pytest.raises(UnknownFieldError):
        resolve_order("-stauts", PLAN)
    assert matches(where("stauts") == "a", {"id": "x", "stauts": "a"})


def test_foreign_attribute() -> None:
    """An attribute of another class is refused on a type."""

    @attrs.define
    class Other:
        status: str

    with pytest.raises(InvalidFilterError, match=r"Other\.status is not a field of Plan"):
        resolve(where(Other.status) == "a", PLAN)  # type: ignore[misc]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Filter("a", "like", 1),
        lambda: where("a").in_("abc"),
        lambda: where("a").in_(5),  # type: ignore[arg-type]
        lambda: where("a").is_(True),  # type: ignore[arg-type]
        lambda: where("a") == where("b"),
        lambda: (where("a") == 1) & True,  # type: ignore[operator]
        lambda: all_of([True]),
        lambda: all_of([where("a")]),
        lambda: all_of(["a"]),
        lambda: resolve(Filter("a", FilterOp.EQ, math.nan), None),
        lambda: resolve(where("a").in_([1, math.nan]), None),
        lambda: resolve(where("a") == "\ud800", None),
        lambda: resolve(where("a") == ["\udfff"], None),
        lambda: resolve(where("a") == 10**400, None),
        lambda: resolve(where("a") == object(), None),
        lambda: resolve(where("a") < [1], None),
        lambda: resolve(where("updated_at") > "yesterday", None),
        lambda: resolve(where("updated_at") == True, None),  # noqa: E712
        lambda: resolve(where("updated_at").contains("1"), None),
        lambda: resolve_order(5, None),
        lambda: resolve_order([where("a") == 1], None),
    ],
)
def test_refused(make: Any) -> None:
    """What cannot be understood is refused, in words."""
    with pytest.raises(InvalidFilterError) as caught:
        make()
    assert str(caught.value)


def test_size() -> None:
    """Many tests and deep nesting are refused before SQLite would; a long chain is one node."""
    condition = where("a") == 0
    for number in range(MAX_TESTS - 1):
        condition = condition | (where("a") == number)
    assert 2 == condition.depth
    with pytest.raises(InvalidFilterError, match="in_"):
        _ = condition | (where("a") == 1)
    nested: Condition = where("b") == 0
    for number in range(MAX_NESTING - 1):
        nested = nested & (where("c") == 2) if number % 2 else nested | (where("b") == 1)
    assert MAX_NESTING == nested.depth
    with pytest.raises(InvalidFilterError, match="flatter"):
        _ = ~nested


def test_words() -> None:
    """A condition reads as it was written, and survives pickling."""
    condition = (where("a") == "x") & ((where("b") > 1) | ~where("c").in_([1, None]))
    assert "a == 'x' and (b > 1 or not (c in [1, None]))" == str(condition)
    assert condition == pickle.loads(pickle.dumps(condition))
    assert "a is not None" == str(where("a").is_not(None))


def test_none() -> None:
    """A missing value is None; `!=` includes it; an order against None is false."""
    for record in ({"id": "x"}, {"id": "x", "a": None}):
        assert matches(where("a") == None, record)  # noqa: E711
        assert matches(where("a") != 1, record)
        assert matches(where("a").in_([None, 1]), record)
        assert not matches(where("a") < 1, record)
        assert not matches(where("a") >= None, record)
        assert matches(~(where("a") < 1), record)


def test_defaults() -> None:
    """On a type a missing key counts as the field's default; in a dict it is missing."""
    record = {"id": "x"}
    assert matches(where("status") == "draft", record, PLAN)
    assert not matches(where("status") == "draft", record)
    assert matches(where("size") == Size.SMALL, record, PLAN)


@pytest.mark.parametrize(
    ("order_by", "expected"),
    [
        (None, ["-updated_at", "id"]),
        ([], ["-updated_at", "id"]),
        ("priority", ["priority", "id"]),
        ("-priority", ["-priority", "id"]),
        (where("priority").desc(), ["-priority", "id"]),
        (where("priority"), ["priority", "id"]),
        (["-priority", where("title").asc()], ["-priority", "title", "id"]),
        (("-id", "title"), ["-id"]),
        (["title", "-title"], ["title", "id"]),
    ],
)
def test_orders(order_by: Any, expected: list[str]) -> None:
    """Every form of an order is taken, and ends with the id."""
    sorts = resolve_order(order_by, None)
    assert expected == [f"{'-' if sort.descending else ''}{sort.name}" for sort in sorts]
