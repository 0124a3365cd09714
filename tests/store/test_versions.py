"""Which version a write gets: the last local word wins, and a claim is honoured or refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from taskstore._format.instants import MAX_MS, format_rfc3339, parse_instant
from taskstore._records.versions import Claim, claim_of
from taskstore._unit.versions import Version, next_version
from taskstore.errors import InvalidRecordError, StaleRecordError

LIMIT = 4_000_000_000_000
times = st.integers(0, LIMIT)
clocks = st.integers(0, LIMIT)
forms = st.sampled_from(["int", "text", "none"])


def stored_as(order_us: int, form: str) -> int | str | None:
    """A stored version as its line shows it, near enough for its form."""
    if form == "none":
        return None
    return order_us // 1000 if form == "int" else format_rfc3339(order_us // 1000)


def version(claim: Claim | None, stored_us: int | None, previous: object, now: Any) -> Version:
    """The next version of some record."""
    assert previous is None or isinstance(previous, (int, str))
    return next_version(claim, stored_us, previous, now, collection="plans", id="a")


def claimed(ms: int) -> Claim:
    """A claim in milliseconds."""
    claim = claim_of(ms)
    assert claim is not None
    return claim


@given(st.one_of(st.none(), st.integers(0, LIMIT * 1000)), forms, clocks)
def test_a_stamp_is_the_clock_or_just_after_what_is_stored(
    stored_us: int | None, form: str, now: int
) -> None:
    """Without a claim a write comes after the stored line, and not before the clock."""
    previous = None if stored_us is None else stored_as(stored_us, form)
    found = version(None, stored_us, previous, now)
    floor = now if stored_us is None else max(now, stored_us // 1000 + 1)
    assert (floor * 1000, False) == (found.order_us, found.kept)
    assert stored_us is None or found.order_us > stored_us
    assert found.order_us == parse_instant(found.value), "line and cache order it alike"
    assert isinstance(found.value, str) == isinstance(previous, str), "the form is kept"


@given(times, forms, clocks, st.integers(1, LIMIT))
def test_a_newer_claim_is_kept(stored_ms: int, form: str, now: int, ahead: int) -> None:
    """A version beyond the stored one is taken as it is, in the form of the previous line."""
    previous = stored_as(stored_ms * 1000, form)
    found = version(claimed(stored_ms + ahead), stored_ms * 1000, previous, now)
    assert ((stored_ms + ahead) * 1000, True) == (found.order_us, found.kept)
    assert found.order_us == parse_instant(found.value)
    assert isinstance(found.value, str) == isinstance(previous, str)


@given(st.integers(1, LIMIT), st.integers(0, 999), clocks)
def test_the_stored_version_is_no_conflict_at_the_precision_that_was_carried(
    stored_ms: int, fraction: int, now: int
) -> None:
    """Milliseconds that were read from a finer time are current, and the write is stamped."""
    stored_us = stored_ms * 1000 + fraction
    found = version(claimed(stored_ms), stored_us, stored_ms, now)
    assert version(None, stored_us, stored_ms, now) == found
    assert found.order_us > stored_us


@given(st.integers(2, LIMIT), st.integers(0, 999), clocks, st.data())
def test_an_older_claim_is_refused(
    stored_ms: int, fraction: int, now: int, data: st.DataObject
) -> None:
    """A version before the stored one would vanish at the next replay: the error has both."""
    carried = data.draw(st.integers(1, stored_ms - 1))
    with pytest.raises(StaleRecordError) as caught:
        version(claimed(carried), stored_ms * 1000 + fraction, stored_ms, now)
    assert (carried, stored_ms) == (caught.value.carried, caught.value.stored)


@given(st.integers(0, LIMIT * 1000), st.integers(0, LIMIT * 1000), clocks)
def test_text_claims_are_compared_in_microseconds(stored_us: int, other: int, now: int) -> None:
    """RFC 3339 text carries every digit that orders, so one microsecond decides."""
    assume(stored_us != other)
    low, high = sorted((stored_us, other))
    assert high == version(Claim("text", high, 1), low, None, now).order_us
    with pytest.raises(StaleRecordError):
        version(Claim("text", low, 1), high, None, now)


@given(clocks, st.one_of(st.none(), times))
def test_nothing_can_follow_the_last_instant(now: int, stored: int | None) -> None:
    """At the last moment there is a stamp repeats what is stored: of equals the later line wins."""
    stamp = version(None, MAX_MS * 1000, stored, now)
    assert (MAX_MS * 1000, False) == (stamp.order_us, stamp.kept)
    assert (MAX_MS if stored is None else stored) == stamp.value


@pytest.mark.parametrize("now", [None, "x", 1.5, True, MAX_MS + 1])
def test_a_clock_that_gives_no_time_is_refused(now: Any) -> None:
    """What the clock says must be a time in milliseconds; else the error names the clock."""
    with pytest.raises(InvalidRecordError, match="set the clock"):
        version(None, None, None, now)
