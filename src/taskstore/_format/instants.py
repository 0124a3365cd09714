"""Versions as instants: milliseconds or RFC 3339 text, ordered in microseconds since 1970."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

MIN_MS = -62_135_596_800_000
"""0001-01-01T00:00:00Z, in milliseconds since the epoch."""

MAX_MS = 253_402_300_799_999
"""The last millisecond of 9999-12-31 UTC, in milliseconds since the epoch."""

_MIN_US = MIN_MS * 1000
_MAX_US = MAX_MS * 1000 + 999
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = _EPOCH.toordinal()
_DAY_US = 86_400_000_000

_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]"
    r"([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]|60)(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)


def parse_instant(value: object) -> int:
    """Return the order of an `updated_at`, in microseconds since the epoch.

    Integers are milliseconds. A string is RFC 3339 with its offset (`t`, `z` and a space for the
    `T` are accepted); digits finer than a microsecond are cut off, and a leap second `:60`
    counts as the start of the next second. None counts as 0.

    Raises:
        ValueError: It has neither form, or is outside the years 1 to 9999 in UTC. The message is
            only the reason.
    """
    if value is None:
        return 0
    if type(value) is int:
        if MIN_MS <= value <= MAX_MS:
            return value * 1000
        raise ValueError("updated_at is outside the years 1 to 9999")
    if isinstance(value, str):
        return _parse_text(value)
    raise ValueError(
        "updated_at must be an integer (milliseconds) or an RFC 3339 string, "
        f"not {type(value).__name__}"
    )


def _parse_text(text: str) -> int:
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise ValueError(f"updated_at {_shown(text)} is not an RFC 3339 time with an offset")
    day, hour, minute, second, fraction, sign, offset_hour, offset_minute = found.groups()
    us = _midnight_us(day) + (int(hour) * 3600 + int(minute) * 60 + int(second)) * 1_000_000
    if fraction is not None and second != "60":
        us += int(fraction[:6].ljust(6, "0"))
    if sign is not None:
        offset_us = (int(offset_hour) * 60 + int(offset_minute)) * 60_000_000
        us += -offset_us if sign == "+" else offset_us
    if not _MIN_US <= us <= _MAX_US:
        raise ValueError(f"updated_at {_shown(text)} is outside the years 1 to 9999")
    return us


# A log has few different days, and date arithmetic is half the cost of a parse.
@lru_cache(maxsize=1024)
def _midnight_us(day: str) -> int:
    try:
        ordinal = date(int(day[:4]), int(day[5:7]), int(day[8:])).toordinal()
    except ValueError as error:
        raise ValueError(f"updated_at is not a day of the calendar: {day!r}") from error
    return (ordinal - _EPOCH_DAY) * _DAY_US


def _shown(text: str) -> str:
    return ascii(text) if len(text) <= 60 else ascii(text[:57]) + "..."


@lru_cache(maxsize=64)
def format_rfc3339(ms: int) -> str:
    """Return `ms` (milliseconds since the epoch) as in "2026-01-17T08:46:43.966Z".

    Raises:
        ValueError: The instant is outside the years 1 to 9999.
    """
    if not MIN_MS <= ms <= MAX_MS:
        raise ValueError("updated_at is outside the years 1 to 9999")
    moment = _EPOCH + timedelta(milliseconds=ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def in_form_of(ms: int, previous: object) -> int | str:
    """Return the stamp `ms` in the form that `previous` has: RFC 3339 for text, else integer."""
    return format_rfc3339(ms) if isinstance(previous, str) else ms
