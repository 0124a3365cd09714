"""Versions as instants."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore._format.instants import (
    MAX_MS,
    MIN_MS,
    format_rfc3339,
    in_form_of,
    parse_instant,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(
    st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31)),
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
def test_text_is_ordered_as_the_instant_it_names(moment: Any, offset: Any) -> None:
    """Any offset: the order is that of the instant, in microseconds."""
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=offset)))
    expected = (aware - EPOCH) // timedelta(microseconds=1)
    assert expected == parse_instant(aware.isoformat())


@given(st.integers(MIN_MS, MAX_MS))
def test_milliseconds_survive_their_text(ms: Any) -> None:
    """A stamp written as RFC 3339 is the same instant."""
    assert ms * 1000 == parse_instant(ms) == parse_instant(format_rfc3339(ms))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00z", 0),
        ("1970-01-01 00:00:00+00:00", 0),
        ("1970-01-01T00:00:00-00:00", 0),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:00.1Z", 100_000),
        ("1970-01-01T00:00:00.0000019Z", 1),
        ("1969-12-31T23:59:59.9999999Z", -1),
        ("1970-01-01T00:00:60Z", 60_000_000),
        ("1970-01-01T00:00:60.5Z", 60_000_000),
        ("0001-01-01T00:00:00Z", MIN_MS * 1000),
        ("9999-12-31T23:59:59.999999Z", MAX_MS * 1000 + 999),
        (None, 0),
        (-1, -1000),
    ],
)
def test_forms(text: Any, expected: Any) -> None:
    """The forms that RFC 3339 allows, leap seconds and fine fractions."""
    assert expected == parse_instant(text)


@pytest.mark.parametrize(
    "value",
    [
        True,
        1.0,
        MAX_MS + 1,
        MIN_MS - 1,
        "",
        "now",
        "2026-01-17",
        "2026-01-17T08:46:43",
        "2026-01-17T08:46:43+0100",
        "2026-01-17T08:46Z",
        "2026-02-30T00:00:00Z",
        "2026-01-17T24:00:00Z",
        "2026-01-17T08:46:61Z",
        "2026-01-17T08:46:43.Z",
        "2026-01-17T08:46:43Z\n",
        "２026-01-17T08:46:43Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "9999-12-31T23:59:60Z",
        [1],
    ],
)
def test_what_is_no_instant(value: Any) -> None:
    """Anything else has a reason why not."""
    with pytest.raises(ValueError, match="updated_at"):
        parse_instant(value)


def test_a_stamp_keeps_the_form_of_the_line_before() -> None:
    """Text after text, an integer after anything else."""
    assert "2026-01-17T08:46:43.966Z" == in_form_of(1768639603966, "2020-01-01T00:00:00+02:00")
    assert 1768639603966 == in_form_of(1768639603966, 5) == in_form_of(1768639603966, None)
