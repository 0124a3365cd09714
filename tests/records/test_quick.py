"""The line of a new record that is made at one go."""

from __future__ import annotations

import datetime
import enum
import uuid

from hypothesis import given
from hypothesis import strategies as st

from taskstore._format.lines import decode_envelope, encode_value, join_fields
from taskstore._records.declare import record
from taskstore._records.types import RecordType
from taskstore.errors import InvalidRecordError


class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"


@record("things")
class Thing:
    id: str
    text: str = ""
    number: int = 0
    flag: bool | None = None
    level: Level = Level.LOW
    key: uuid.UUID | None = None
    day: datetime.date | None = None
    raw: bytes = b""
    updated_at: int = 0


KIND = RecordType.of(Thing)

anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.text(st.characters()),
    st.just("9" * 400),
    st.sampled_from(Level),
    st.uuids(),
    st.dates(),
    st.binary(max_size=20),
    st.floats(),
)


def slowly(thing: Thing, stamp: int | str) -> bytes:
    """The line as it is made field by field."""
    return join_fields({**KIND.encode(thing), "updated_at": encode_value(stamp)})


@given(
    st.builds(
        Thing,
        id=st.just("a"),
        text=st.text(st.characters()) | anything,
        number=st.integers() | anything,
        flag=st.booleans() | anything,
        level=st.sampled_from(Level) | anything,
        key=st.uuids() | anything,
        day=st.dates() | anything,
        raw=st.binary() | anything,
    ),
    st.integers(1, 10**12) | st.just("2026-01-01T00:00:00Z"),
)
def test_it_is_the_line_that_the_fields_make(thing: Thing, stamp: int | str) -> None:
    """What is written at once is byte for byte what is written field by field, and a record."""
    line = KIND.quick_line(thing, stamp)
    if line is not None:
        assert slowly(thing, stamp) == line
        assert "a" == decode_envelope(line).id


def test_every_sure_class_is_written_at_once() -> None:
    """Enums, ids, dates and bytes need no closer look either."""
    thing = Thing("a", "é", 1, True, Level.HIGH, uuid.UUID(int=1), datetime.date(2026, 1, 1), b"x")
    assert slowly(thing, 5) == KIND.quick_line(thing, 5)


@record("plain")
class Plain:
    id: str
    text: str = ""
    number: int = 0


@given(st.text(st.characters()), st.integers())
def test_what_the_fields_refuse_is_never_written(text: str, number: int) -> None:
    """Where the quick way gives no line the careful one decides; where it gives one, both agree."""
    kind, plain = RecordType.of(Plain), Plain("a", text, number)
    line = kind.quick_line(plain, 1)
    try:
        expected: bytes | None = join_fields({**kind.encode(plain), "updated_at": b"1"})
    except InvalidRecordError:
        expected = None
    assert line in (None, expected)


def test_usual_records_are_written_at_once() -> None:
    """Texts, numbers, truth values and nothing need no closer look; a subclass does."""
    kind = RecordType.of(Plain)
    assert b'{"id":"a","text":"b","number":3,"updated_at":7}' == kind.quick_line(
        Plain("a", "b", 3), 7
    )

    class Child(Plain):
        pass

    assert None is kind.quick_line(Child("a"), 7)
