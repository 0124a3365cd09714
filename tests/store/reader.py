"""A reader of logs in plain `json`, written from the description of the format alone.

It shares no code with the library, so that the two can only agree by both being right.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple


class Line(NamedTuple):
    """The line that counts for an id: its version in microseconds, text and content."""

    order_us: int
    text: str
    record: dict[str, Any]

    @property
    def deleted(self) -> bool:
        """Whether the record is dead."""
        return self.record.get("deleted") is True


def replay(data: bytes) -> dict[str, Line]:
    """For each id the line with the greatest time; among equals the later one."""
    winners: dict[str, Line] = {}
    for raw in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        try:
            line = _read(raw)
        except (ValueError, TypeError, KeyError):
            continue
        if line.record["id"] not in winners or line.order_us >= winners[line.record["id"]].order_us:
            winners[line.record["id"]] = line
    return winners


def _read(raw: bytes) -> Line:
    text = raw.decode().strip(" \t\r\n")
    record = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    json.dumps(record, ensure_ascii=False).encode()
    if not str.strip(record["id"]) or len(record["id"]) > 256:
        raise ValueError("no id")
    return Line(order_of(record.get("updated_at")), text, record)


def order_of(value: object) -> int:
    """A version in microseconds since the epoch."""
    if value is None:
        return 0
    if isinstance(value, str):
        return (datetime.fromisoformat(value) - datetime.fromtimestamp(0, UTC)) // timedelta(
            microseconds=1
        )
    if type(value) is not int:
        raise ValueError("no version")
    return value * 1000


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)


def _refuse(text: str) -> float:
    raise ValueError(text)
