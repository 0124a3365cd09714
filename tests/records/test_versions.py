"""Versions: what a record claims, and the form in which it is stamped."""

from __future__ import annotations

import datetime
from typing import Any

import attrs
import pytest

from taskstore._format.lines import decode_envelope, join_fields
from taskstore._records.declare import record
from taskstore._records.dicts import DictType
from taskstore._records.types import RecordType
from taskstore._records.versions import Claim
from taskstore.errors import InvalidRecordError

MS = 1767225600123
TEXT = "2026-01-01T00:00:00.123Z"
MOMENT = datetime.datetime(2026, 1, 1, microsecond=123000, tzinfo=datetime.UTC)


def kind_of(hint: Any, default: Any = attrs.NOTHING, **options: Any) -> RecordType[Any]:
    """The type of a class with this version field."""
    fields = {"id": attrs.field(type=str), "updated_at": attrs.field(type=hint, default=default)}
    return RecordType.of(record("things")(attrs.make_class("Thing", fields, **options)))


FORMS = [(int, MS), (str, TEXT), (datetime.datetime, MOMENT)]


@pytest.mark.parametrize("in_line", [str(MS), f'"{TEXT}"', '"2026-01-01T01:00:00.123+01:00"'])
@pytest.mark.parametrize(("hint", "expected"), FORMS)
def test_a_version_is_read_in_the_form_of_the_class(hint: Any, expected: Any, in_line: str) -> None:
    """Whatever form the line has; text stays the text that it is."""
    if hint is str and in_line.startswith('"'):
        expected = in_line.strip('"')
    assert expected == kind_of(hint).decode(f'{{"id":"x","updated_at":{in_line}}}').updated_at


def test_a_union_keeps_the_form_of_the_line() -> None:
    """Where the class allows several, each is read as it stands."""
    kind = kind_of(int | str)
    assert [MS, TEXT] == [
        kind.decode(f'{{"id":"x","updated_at":{raw}}}').updated_at for raw in (MS, f'"{TEXT}"')
    ]


@pytest.mark.parametrize(("hint", "expected"), [(int, 0), (str, ""), (int | None, None)])
def test_null_is_no_version(hint: Any, expected: Any) -> None:
    """As if the key were absent."""
    assert expected == kind_of(hint).decode('{"id":"x","updated_at":null}').updated_at
    assert 7 == kind_of(int, 7).decode('{"id":"x","updated_at":null}').updated_at


def test_finer_digits_are_cut_as_the_log_cuts_them() -> None:
    """Else a record just read would claim to be newer than its own line."""
    line = b'{"id":"x","updated_at":"2026-01-01T00:00:00.1239999Z"}'
    for hint, _ in FORMS:
        kind = kind_of(hint)
        claim = kind.claim(kind.decode(line))
        assert claim is not None
        known = decode_envelope(line).order_us
        assert known - known % claim.precision_us == claim.order_us


@pytest.mark.parametrize(("hint", "value"), FORMS)
def test_a_carried_version_is_a_claim(hint: Any, value: Any) -> None:
    """With its value as in the line, and how fine it is."""
    kind = kind_of(hint)
    precision = 1000 if hint is int else 1
    in_line = MS if hint is int else value if hint is str else "2026-01-01T00:00:00.123000Z"
    assert Claim(in_line, MS * 1000, precision) == kind.claim(kind.cls("x", value))
    line = join_fields(kind.encode(kind.cls("x", value)))
    assert (MS * 1000, in_line) == (
        decode_envelope(line).order_us, decode_envelope(line).updated_at
    )  # fmt: skip


@pytest.mark.parametrize("value", [0, None, ""])
def test_nothing_is_no_claim(value: Any) -> None:
    """0, None and the empty text claim nothing and are not written."""
    kind = kind_of(int | str | None)
    assert None is kind.claim(kind.cls("x", value))
    assert {"id": b'"x"'} == kind.encode(kind.cls("x", value))


def test_a_naive_datetime_counts_as_utc() -> None:
    """The line has an offset in any case: without it, it would be none."""
    kind = kind_of(datetime.datetime)
    naive = MOMENT.replace(tzinfo=None)
    assert MS * 1000 == decode_envelope(join_fields(kind.encode(kind.cls("x", naive)))).order_us


@pytest.mark.parametrize("value", ["soon", 1.5, True, 10**18, "2026-01-01T00:00:00", object()])
def test_what_is_no_version_is_refused(value: Any) -> None:
    """Its line would be a problem."""
    kind = kind_of(int | str)
    for call in (kind.encode, kind.claim):
        with pytest.raises(InvalidRecordError) as caught:
            call(kind.cls("x", value))
        assert ("x", "updated_at") == (caught.value.id, caught.value.field)


@pytest.mark.parametrize("stamp", [MS, TEXT])
@pytest.mark.parametrize(("hint", "expected"), FORMS)
def test_a_stamp_takes_the_form_of_the_class(hint: Any, expected: Any, stamp: int | str) -> None:
    """Milliseconds or text become what the class has, in place."""
    kind = kind_of(hint)
    thing = kind.cls("x", None)
    assert thing is kind.stamped(thing, stamp)
    assert expected == thing.updated_at


@pytest.mark.parametrize(("current", "expected"), [(5, MS), (TEXT, TEXT), (None, TEXT), (0, TEXT)])
def test_a_union_is_stamped_in_the_form_it_has(current: Any, expected: Any) -> None:
    """Without one, in that of the stamp."""
    kind = kind_of(int | str | None)
    assert expected == kind.stamped(kind.cls("x", current), TEXT).updated_at


def test_a_frozen_record_is_stamped_as_a_copy() -> None:
    """The one that was given stays as it was."""
    kind = kind_of(int, 0, frozen=True, slots=True)
    thing = kind.cls("x")
    assert [MS, 0] == [kind.stamped(thing, MS).updated_at, thing.updated_at]


def test_a_class_without_version_is_left_alone() -> None:
    """It claims nothing and gets no stamp."""
    cls: type[Any] = attrs.make_class("T", {"id": attrs.field(type=str)})
    kind = RecordType.of(record("things")(cls))
    thing = kind.cls("x")
    assert (None, thing) == (kind.claim(thing), kind.stamped(thing, MS))


def test_dicts_carry_versions_as_they_stand() -> None:
    """A datetime stays one, everything else gets the stamp as it is."""
    rows = DictType("things")
    assert Claim(TEXT, MS * 1000, 1) == rows.claim({"id": "x", "updated_at": TEXT})
    assert None is rows.claim({"id": "x"})
    row: dict[str, Any] = {"id": "x", "updated_at": TEXT}
    assert row is rows.stamped(row, MS)
    assert MS == row["updated_at"]
    assert MOMENT == rows.stamped({"id": "x", "updated_at": MOMENT}, MS)["updated_at"]
