"""What type checkers must accept and refuse of the public API. Never run; mypy and pyright read it.

A line that must be an error carries a `type: ignore` that names it, and both checkers complain
about one that is not needed.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import datetime
from typing import Any, assert_type

import attrs
from sqlalchemy.orm import Session

from taskstore import AsyncStore, Condition, Store, evolve, indexed, new_id, now_ms, record, where


@record("plans")
class Plan:
    """The class of the examples."""

    id: str
    title: str
    status: str = indexed(default="draft")
    priority: int = indexed(default=0, merge="max")
    tags: list[str] = attrs.field(factory=list)
    due: datetime.datetime | None = indexed(default=None)
    updated_at: int = 0


@record("notes", frozen=True, kw_only=True)
class Note:
    """A class whose instances are immutable and made by keyword."""

    id: str = attrs.field(factory=new_id)
    text: str


def constructors() -> None:
    """A record class has the `__init__` of its fields."""
    plan = Plan("plan-001", "Ship it")
    assert_type(plan, Plan)
    assert_type(plan.status, str)
    assert_type(plan.due, datetime.datetime | None)
    Plan(id="plan-001", title="Ship it", priority=3, tags=["a"])
    assert_type(Note(text="x"), Note)
    Plan("plan-001")  # type: ignore[call-arg]
    Plan("plan-001", "Ship it", status=5)  # type: ignore[arg-type]
    Plan("plan-001", "Ship it", state="draft")  # type: ignore[call-arg]
    Note("x")  # type: ignore[call-arg]
    plan.priority = "high"  # type: ignore[assignment]
    print(plan.nothing)  # type: ignore[attr-defined]
    Note(text="x").text = "y"  # type: ignore[misc]
    record(Plan)  # type: ignore[arg-type]
    indexed(default=0, factory=int)  # type: ignore[call-overload]


def helpers() -> None:
    """`evolve` keeps the class, ids are text, the clock is an integer."""
    assert_type(evolve(Plan("a", "b"), title="c"), Plan)
    assert_type(new_id("plan-"), str)
    assert_type(now_ms(), int)


def filters(plans: Store) -> None:
    """A comparison makes a condition, not a bool, from a name or from an attribute."""
    assert_type(where(Plan.status) == "active", Condition)
    assert_type(where("priority") > 5, Condition)
    assert_type((where(Plan.status) == "active") & ~(where("priority") <= 5), Condition)
    assert_type(where(Plan.due).is_(None), Condition)
    plans.list(Plan, where(Plan.status) == "active", order_by=where(Plan.priority).desc())


def reading(store: Store) -> None:
    """`get` may find nothing, `get_one` raises; both know the class."""
    assert_type(store.get(Plan, "plan-001"), Plan | None)
    assert_type(store.get_one(Plan, "plan-001"), Plan)
    assert_type(store.list(Plan), list[Plan])
    assert_type(store.count(Plan, where(Plan.status) == "active"), int)
    print(store.get(Plan, "plan-001").title)  # type: ignore[union-attr]
    store.get(Plan, 5)  # type: ignore[call-overload]


def writing(store: Store) -> None:
    """What is written comes back with its class."""
    plan = Plan("plan-001", "Ship it")
    assert_type(store.create(plan), Plan)
    assert_type(store.update(plan), Plan)
    assert_type(store.save(plan), Plan)
    assert_type(store.create_many([plan]), list[Plan])
    assert_type(store.patch(Plan, "plan-001", where("priority") == 0, priority=1), Plan)
    store.delete(Plan, 5)  # type: ignore[arg-type]


async def asyncio_calls() -> None:
    """The calls of the asyncio store have the types of the store's."""
    async with AsyncStore.open(types=[Plan]) as store:
        assert_type(store, AsyncStore)
        assert_type(await store.get(Plan, "a"), Plan | None)
        assert_type(await store.get_one("plans", "a"), dict[str, Any])
        assert_type(await store.list(Plan, where(Plan.status) == "open"), list[Plan])
        assert_type(await store.patch(Plan, "a", title="b"), Plan)
        async for plan in store.iterate(Plan):
            assert_type(plan, Plan)
        async with store.transaction() as transaction:
            assert_type(await transaction.run_sync(_count_new, 5), int)


def _count_new(session: Session, more: int) -> int:
    return len(session.new) + more
