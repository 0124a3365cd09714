"""Questions to the store: filters, order, pages, streams."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from taskstore import (
    Filter,
    FilterOp,
    InvalidDeclarationError,
    InvalidFilterError,
    InvalidNameError,
    RecordNotFoundError,
    Store,
    UnknownFieldError,
    where,
)
from taskstore.models import StoredRecord
from tests.store.plans import Clock, Plan, append, ids

pytestmark = pytest.mark.public


@pytest.fixture
def ack() -> str:
    """No test here reads the log."""
    return "database"


@pytest.fixture
def store(any_store: Store) -> Store:
    """A store on either database."""
    return any_store


@pytest.fixture
def plans(store: Store, clock: Clock) -> list[Plan]:
    """A hundred plans, oldest first; groups of three are of one millisecond."""
    randoms = random.Random(3)
    made = [
        Plan(
            f"p{randoms.randrange(10**6):06}",
            randoms.choice(["", "a_b", "100%", "A*B", "é"]),
            randoms.choice(["draft", "active", "done"]),
            randoms.randrange(-3, 4),
        )
        for _ in range(100)
    ]
    for start in range(0, 100, 3):
        clock.now += 1
        store.create_many(made[start : start + 3])
    return made


CONDITIONS: dict[str, tuple[Any, Callable[[Plan], bool]]] = {
    "eq": (where(Plan.status) == "active", lambda p: p.status == "active"),
    "ne": (where("status") != "active", lambda p: p.status != "active"),
    "lt": (where("priority") < 0, lambda p: p.priority < 0),
    "le": (where("priority") <= 0, lambda p: p.priority <= 0),
    "gt": (where("priority") > 1.5, lambda p: p.priority > 1.5),
    "ge": (where("priority") >= 2, lambda p: p.priority >= 2),
    "contains": (where("title").contains("_"), lambda p: "_" in p.title),
    "contains %": (where("title").contains("%"), lambda p: "%" in p.title),
    "contains *": (where("title").contains("*b"), lambda p: "*b" in p.title),
    "in": (where("status").in_(["done", "x"]), lambda p: p.status == "done"),
    "in nothing": (where("status").in_([]), lambda p: False),
    "is None": (where("status").is_(None), lambda p: False),
    "is not None": (where("title").is_not(None), lambda p: True),
    "and": (
        (where("status") == "done") & (where("priority") > 0),
        lambda p: p.status == "done" and p.priority > 0,
    ),
    "or": (
        (where("status") == "done") | (where("title") == "é"),
        lambda p: p.status == "done" or p.title == "é",
    ),
    "not": (~(where("title") == ""), lambda p: p.title != ""),
    "the old form": (Filter("priority", FilterOp.GE, 2), lambda p: p.priority >= 2),
    "id": (where("id") >= "p5", lambda p: p.id >= "p5"),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_filter_means_what_python_means(store: Store, plans: list[Plan], name: str) -> None:
    """Every call that takes a filter finds what the same condition in Python finds."""
    condition, predicate = CONDITIONS[name]
    expected = sorted(plan.id for plan in plans if predicate(plan))
    assert expected == ids(store, condition)
    assert expected == sorted(row["id"] for row in store.list("plans", condition))
    assert expected == sorted(plan.id for plan in store.iterate(Plan, condition))
    assert (len(expected), bool(expected)) == (
        store.count(Plan, condition),
        store.exists(Plan, condition),
    )
    first = store.first(Plan, condition, order_by="id")
    assert expected[:1] == [plan.id for plan in (first,) if plan is not None]
    with store.session(read_only=True) as session:
        rows: Any = session.scalars(store.select(Plan, condition))
        assert expected == sorted(row.id for row in rows)


def test_the_default_order_is_newest_first_then_id(store: Store, plans: list[Plan]) -> None:
    """Without `order_by` the newest come first, equals by id."""
    expected = sorted(plans, key=lambda plan: (-plan.updated_at, plan.id))
    assert expected == store.list(Plan)
    assert expected == list(store.iterate(Plan))
    assert expected[0] == store.first(Plan)


@pytest.mark.parametrize(
    ("order_by", "key"),
    [
        ("priority", lambda p: (p.priority, p.id)),
        ("-priority", lambda p: (-p.priority, p.id)),
        (where("priority").desc(), lambda p: (-p.priority, p.id)),
        (["status", "-priority"], lambda p: (p.status, -p.priority, p.id)),
        (["title", where(Plan.priority).desc()], lambda p: (p.title.encode(), -p.priority, p.id)),
        ("id", lambda p: p.id),
        ("updated_at", lambda p: (p.updated_at, p.id)),
    ],
    ids=["up", "down", "desc", "two", "mixed", "id", "updated_at"],
)
def test_order_by_sorts_and_ends_with_the_id(
    store: Store, plans: list[Plan], order_by: Any, key: Callable[[Plan], Any]
) -> None:
    """`order_by` sorts by any field, up or down, equals by id; offset and limit cut."""
    expected = sorted(plans, key=key)
    assert expected == store.list(Plan, order_by=order_by)
    assert expected[7:17] == store.list(Plan, order_by=order_by, limit=10, offset=7)
    assert expected[95:] == list(store.iterate(Plan, order_by=order_by, offset=95))
    assert expected[0] == store.first(Plan, order_by=order_by)
    assert [] == store.list(Plan, order_by=order_by, limit=0)


@pytest.mark.parametrize("order_by", [None, "id", "-priority", ["status", "-title"], "title"])
@pytest.mark.parametrize("limit", [1, 7, 100, 1000])
def test_pages_cover_everything_once(
    store: Store, plans: list[Plan], order_by: Any, limit: int
) -> None:
    """A walk over the pages gives every record once, in order, and ends with None."""
    found: list[Plan] = []
    after = None
    while True:
        page = store.page(Plan, order_by=order_by, limit=limit, after=after)
        assert len(page.items) <= limit
        found += page.items
        after = page.next
        if after is None:
            break
    assert store.list(Plan, order_by=order_by) == found


def test_a_walk_over_pages_survives_writes_in_between(store: Store, plans: list[Plan]) -> None:
    """Records written or deleted between pages neither repeat others nor hide them."""
    seen: list[str] = []
    after = None
    gone: set[str] = set()
    for number in range(1000):
        page = store.page(Plan, order_by="id", limit=9, after=after)
        seen += [plan.id for plan in page.items]
        after = page.next
        if after is None:
            break
        store.create(Plan(f"a{number}"))
        store.create(Plan(f"z{number}"))
        behind = {plan.id for plan in plans} - set(seen)
        if behind:
            gone.add(min(behind))
            store.delete(Plan, min(behind))
    assert sorted(set(seen)) == seen
    assert {plan.id for plan in plans} - gone == {id for id in seen if id.startswith("p")}
    assert not any(id.startswith("a") for id in seen)


def test_a_page_token_belongs_to_its_order(store: Store, plans: list[Plan]) -> None:
    """A garbled token, one of another order, or a limit below 1 is refused with the remedy."""
    token = store.page(Plan, limit=5).next
    assert token is not None
    with pytest.raises(InvalidFilterError, match="another order_by"):
        store.page(Plan, order_by="priority", after=token)
    for garbled in ("", "x", token[:-3], token.swapcase(), "é"):
        with pytest.raises(InvalidFilterError, match="page token cannot be read"):
            store.page(Plan, after=garbled)
    with pytest.raises(InvalidFilterError, match="limit must be an integer of 1 or more, not 0"):
        store.page(Plan, limit=0)


def test_an_iteration_is_not_disturbed_by_writes(store: Store, plans: list[Plan]) -> None:
    """What is iterated over is the store of the moment it began, whatever is written meanwhile."""
    store.create_many([Plan(f"q{number}") for number in range(1500)])
    before = store.list(Plan)
    walk = store.iterate(Plan)
    found = [next(walk)]
    for number, plan in enumerate(walk):
        found.append(plan)
        if number < 20:
            store.create(Plan(f"new{number}"))
            store.delete(Plan, before[-1 - number].id)
    assert before == found
    assert 1600 == store.count(Plan)


def test_an_iteration_may_be_left(store: Store, plans: list[Plan]) -> None:
    """An iteration that is not finished holds nothing up: not writers, not a close."""
    walk = store.iterate(Plan)
    next(walk)
    store.create(Plan("new"))
    for plan in store.iterate(Plan):
        store.delete(Plan, plan.id)
        break
    store.close()
    del walk


def test_an_iteration_in_a_transaction_sees_its_writes(store: Store, plans: list[Plan]) -> None:
    """Within a transaction an iteration gives what it has written, and may write on."""
    with store.transaction():
        store.create(Plan("new"))
        for plan in store.iterate(Plan, where("id") == "new"):
            plan.title = "seen"
            store.update(plan)
        assert "seen" == store.get_one(Plan, "new").title


def test_missing_is_none_and_a_default_counts(store: Store) -> None:
    """For a type a key that a line lacks has the field's default; for dicts it is None."""
    append(store.path, {"id": "a", "updated_at": 1}, {"id": "b", "status": None, "updated_at": 1})
    store.sync()
    assert 1 == store.count(Plan, where("status") == "draft")
    assert 0 == store.count("plans", where("status") == "draft")
    assert 2 == store.count("plans", where("status").is_(None))
    assert 2 == store.count("plans", where("status") != "draft")
    assert 1 == store.count(Plan, where("title") == "", where("status") == "draft")


def test_an_unknown_field_is_named_with_its_nearest(store: Store) -> None:
    """A filter or order by a field that the type lacks raises; a collection's name takes any."""
    asked: tuple[Callable[[], Any], ...] = (
        lambda: store.list(Plan, where("statsu") == "x"),
        lambda: store.list(Plan, order_by="-statsu"),
        lambda: list(store.iterate(Plan, where("statsu") == "x")),
        lambda: store.count(Plan, ~(where("statsu") == "x")),
        lambda: store.page(Plan, order_by=["statsu"]),
        lambda: store.select(Plan, where("statsu") == "x"),
        lambda: store.delete_where(Plan, where("statsu") == "x"),
    )
    for ask in asked:
        with pytest.raises(
            UnknownFieldError, match="Plan has no field 'statsu'; did you mean 'status'"
        ):
            ask()
    assert [] == store.list("plans", where("statsu") == "x", order_by="statsu")


def test_what_is_no_question_is_refused(store: Store) -> None:
    """Bad limits, names, types and conditions raise typed errors with the value."""
    wrong: Any
    for wrong in (-1, "3", 1.0, True):
        with pytest.raises(InvalidFilterError, match="limit must be an integer"):
            store.list(Plan, limit=wrong)
        with pytest.raises(InvalidFilterError, match="offset must be an integer"):
            store.list(Plan, offset=wrong)
    for wrong in ("no such", "a.b", "", "ä", "x" * 65):
        with pytest.raises(InvalidNameError) as caught:
            store.list(wrong)
        assert wrong == caught.value.name
    for wrong in ("bad name", "", "x" * 65):
        with pytest.raises(InvalidNameError):
            where(wrong)
    for wrong in (int, dict, None, 7):
        with pytest.raises(InvalidDeclarationError):
            store.list(wrong)
    for wrong in (True, "status", lambda plan: True, None):
        with pytest.raises(InvalidFilterError):
            store.list(Plan, wrong)
    with pytest.raises(InvalidFilterError, match="neither true nor false"):
        store.list(Plan, (where("status") == "a") and (where("title") == "b"))


def test_get_one_raises_where_get_says_none(store: Store) -> None:
    """`get` of a missing record is None, `get_one` raises, of a collection without a log too."""
    for asked in (Plan, "plans", "nothing"):
        assert store.get(asked, "a") is None
        with pytest.raises(RecordNotFoundError):
            store.get_one(asked, "a")
        assert ([], 0, None) == (store.list(asked), store.count(asked), store.first(asked))


def test_select_is_sqlalchemys_to_extend(store: Store, plans: list[Plan]) -> None:
    """A select of the store's can be ordered, grouped and limited like any other."""
    from sqlalchemy import func, select

    if store.engine.dialect.name == "postgresql":
        pytest.skip("StoredRecord.value is an expression for SQLite")
    with store.session() as session:
        statement: Any = store.select(Plan, where(Plan.priority) > 0)
        ordered = statement.order_by(StoredRecord.value("priority").desc(), StoredRecord.id).limit(
            3
        )
        expected = sorted(plans, key=lambda p: (-p.priority, p.id))[:3]
        assert expected == [row.as_record(Plan) for row in session.scalars(ordered)]
        status = StoredRecord.value("status")
        counted = dict(
            session.execute(
                select(status, func.count())
                .where(StoredRecord.collection == "plans")
                .group_by(status)
            ).all()
        )
    assert {s: sum(p.status == s for p in plans) for s in ("draft", "active", "done")} == counted
