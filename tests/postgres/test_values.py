"""Values travel between two databases, in both directions, as they are."""

from __future__ import annotations

import datetime
import decimal
import shutil
import uuid
from ipaddress import IPv4Address
from typing import Any

from sqlalchemy import select, text

from tests.postgres.clones import Clone
from tests.postgres.models import Color, Label, Special, Thing

FULL: dict[str, Any] = {
    "amount": decimal.Decimal("1.500"),
    "exact": decimal.Decimal("12345678901234567890.25"),
    "ratio": 0.1,
    "moment": datetime.datetime(2025, 3, 1, 12, 30, 1, 250, tzinfo=datetime.UTC),
    "local": datetime.datetime(2025, 3, 1, 12, 30),
    "day": datetime.date(2024, 2, 29),
    "span": datetime.timedelta(days=3, seconds=1, microseconds=5),
    "color": Color.BLUE,
    "document": {"b": [1, 2.5, None], "a": {"é": "\N{SNOWMAN}"}},
    "text": {"z": 1, "a": [True]},
    "numbers": [1, -(2**62)],
    "grid": [["a", "b"], ["c", ""]],
    "data": b"\x00\xff",
    "address": IPv4Address("10.0.0.1"),
    "flag": False,
}


def _pull(source: Clone, target: Clone) -> None:
    """Bring the logs of one clone into another, as git would into one that has no changes."""
    source.work.drain()
    for path in source.path.glob("*.jsonl"):
        shutil.copy(path, target.path / path.name)
    target.store.sync()


def test_every_type_travels(one: Clone, two: Clone) -> None:
    """A row with a value of every type, and one without any, is equal in another database."""
    with one.sessions.begin() as session:
        session.add(Thing(id="full", secret="x", **FULL))
        session.add(Thing(id="empty"))
        session.add(Thing(id="inf", ratio=float("-inf")))
        session.add(Special(id="special", extra="more"))
    _pull(one, two)
    with two.sessions() as session:
        thing = session.get_one(Thing, "full")
        assert FULL == {name: getattr(thing, name) for name in FULL}
        assert thing.secret is None
        empty = session.get_one(Thing, "empty")
        assert dict.fromkeys(FULL) == {name: getattr(empty, name) for name in FULL}
        assert float("-inf") == session.get_one(Thing, "inf").ratio
        assert "more" == session.get_one(Special, "special").extra
    two.check()
    with two.sessions.begin() as session:
        session.get_one(Thing, "full").ratio = 0.25
    _pull(two, one)
    with one.sessions() as session:
        assert ("x", 0.25) == session.execute(
            select(Thing.secret, Thing.ratio).where(Thing.id == "full")
        ).one()
    one.check()


def test_lines_do_not_depend_on_the_session(one: Clone) -> None:
    """Zone and styles of the client that writes are not seen in lines."""
    for settings in ("'UTC'", "'America/Lima'"):
        one.sql(
            f"SET LOCAL TIME ZONE {settings}",
            "SET LOCAL intervalstyle = 'iso_8601'",
            "SET LOCAL bytea_output = 'escape'",
            "SET LOCAL datestyle = 'German'",
            "SET LOCAL extra_float_digits = -3",
            "INSERT INTO things (id, kind, moment, span, data, day, ratio, updated_at) VALUES "
            "('t', 'thing', '2025-01-01 00:00+00', '1 day 2 hours', '\\xff00', '2024-12-31', "
            "0.1::float8 + 0.2::float8, now()) "
            "ON CONFLICT (id) DO UPDATE SET moment = excluded.moment, span = excluded.span",
        )
    [line] = one.lines("things")
    assert "2025-01-01T00:00:00Z" == line["moment"]
    assert ("P1DT7200S", "/wA=", "2024-12-31") == (line["span"], line["data"], line["day"])
    assert 0.1 + 0.2 == line["ratio"]
    assert line["updated_at"].endswith("Z")
    one.check()


def test_keys_of_other_types_name_records(one: Clone) -> None:
    """A uuid is a record's id as text, and finds its row again."""
    label = uuid.uuid4()
    with one.sessions.begin() as session:
        session.add(Label(id=label, name="one"))
    assert [str(label)] == list(one.told("labels"))
    one.append("labels", {"id": str(label), "name": "two", "updated_at": 2**42})
    one.store.sync()
    with one.engine.connect() as connection:
        assert "two" == connection.execute(text("SELECT name FROM labels")).scalar_one()


def test_a_value_that_no_line_can_carry_is_kept_and_reported(one: Clone) -> None:
    """NaN stays in the outbox with the reason, holds up nothing, and goes once it is corrected."""
    one.sql("INSERT INTO things (id, kind, ratio) VALUES ('bad', 'thing', 'NaN')")
    one.sql("INSERT INTO things (id, kind, moment) VALUES ('endless', 'thing', 'infinity')")
    one.sql("INSERT INTO things (id, kind, ratio) VALUES ('good', 'thing', 1)")
    assert ["good"] == [line["id"] for line in one.lines("things")]
    problems = one.work.lag().problems
    assert 2 == len(problems)
    assert "NaN" in problems[0]
    assert 0 < len(one.store.verify().problems)
    one.sql("UPDATE things SET ratio = 2 WHERE id = 'bad'")
    assert ["good", "bad"] == [line["id"] for line in one.lines("things")]
    assert 1 == len(one.work.lag().problems)
    one.sql("DELETE FROM things WHERE id = 'endless'")
    one.work.drain()
    assert () == one.work.lag().problems
    one.check()


def test_a_row_that_was_good_before_in_the_same_batch_is_reported(one: Clone) -> None:
    """Only a later change that a line can carry takes the report away."""
    with one.engine.connect() as held:
        held.execute(text(f"SELECT 1 FROM {one.work.context.outbox.scribe} FOR UPDATE"))
        one.sql("INSERT INTO things (id, kind, ratio) VALUES ('bad', 'thing', 1)")
        one.sql("UPDATE things SET ratio = 'NaN'")
        held.rollback()
    one.work.drain()
    assert 1 == len(one.work.lag().problems)
    one.sql("UPDATE things SET ratio = 2")
    assert 2 == one.told("things")["bad"]["ratio"]
    assert () == one.work.lag().problems
