"""What is a record line, and how lines are taken apart and joined."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taskstore._format.instants import parse_instant
from taskstore._format.lines import (
    MAX_DEPTH,
    MAX_LINE_BYTES,
    Envelope,
    LineError,
    decode_envelope,
    decode_object,
    encode_value,
    join_fields,
    key_spellings,
    raw_fields,
    tombstone_line,
)
from tests.examples import share

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
STAMPS: st.SearchStrategy[object] = st.sampled_from(
    [0, 5, -7, None, True, 1.0, "2026-01-17T08:46:43.9Z", "x", 10**40, []]
)
RECORDS = st.builds(
    lambda head, body: {**body, **head},
    st.fixed_dictionaries(
        {},
        optional={
            "id": TEXT | st.sampled_from(["a", " ", None, 3]),
            "updated_at": STAMPS,
            "deleted": st.sampled_from([True, False, None, 1, "true"]),
        },
    ),
    st.dictionaries(TEXT, JSON, max_size=4),
)


def judge(raw: bytes) -> Envelope | None:
    """Judge a line as the format's rules read, with the standard library alone."""
    if len(raw.removesuffix(b"\n").removesuffix(b"\r")) > MAX_LINE_BYTES:
        return None
    try:
        value = json.loads(raw.decode(), parse_constant=lambda name: 1 / 0)
        if not isinstance(value, dict) or not numbers_fit(value):
            return None
        # What is decoded has every key and every string, also those of overwritten duplicates.
        json.loads(raw.decode(), object_pairs_hook=check_pairs)
        order = parse_instant(value.get("updated_at"))
    except (ValueError, ZeroDivisionError):
        return None
    id = value.get("id")
    if not isinstance(id, str) or not id.strip() or len(id) > 256:
        return None
    return Envelope(id, order, value.get("deleted") is True, value.get("updated_at"))


def check_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Build an object, with what is wrong in any pair of it raised."""
    for key, value in pairs:
        json.dumps([key, value], ensure_ascii=False).encode()
        if not numbers_fit(value):
            raise ValueError(value)
    found = Object(pairs)
    found.depth = 1 + max((depth(value) for _, value in pairs), default=0)
    if found.depth > MAX_DEPTH:
        raise ValueError("too deep")
    return found


class Object(dict[str, object]):
    """A decoded object that remembers how deep it was with its overwritten keys."""

    depth = 0


def depth(value: object) -> int:
    """How deep a decoded value nests."""
    if isinstance(value, Object):
        return value.depth
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


def numbers_fit(value: object) -> bool:
    """Whether all numbers of a decoded value are doubles."""
    if isinstance(value, dict):
        return all(map(numbers_fit, value.values()))
    if isinstance(value, list):
        return all(map(numbers_fit, value))
    try:
        return not isinstance(value, int | float) or math.isfinite(value)
    except OverflowError:
        return False


def verdict(raw: bytes) -> Envelope | None:
    """The decoder's verdict on a line."""
    try:
        return decode_envelope(raw)
    except LineError:
        return None


@given(RECORDS, st.booleans())
def test_the_decoder_and_the_rules_agree(record: Any, ascii_only: Any) -> None:
    """Of any JSON object, the decoder's verdict is that of the rules."""
    raw = json.dumps(record, ensure_ascii=ascii_only).encode()
    assert judge(raw) == verdict(raw)


PIECES = [
    b"\xff", b"\x00", b"\\ud800", b"\\ude00", b"\\ud83d\\ude00", b"1e999", b"-1e400", b"NaN",
    b"Infinity", b"9" * 309, b"1" * 309, b"1" * 309 + b"e5", b"1e-" + b"0" * 310 + b"5", b"01",
    b"1.", b".5", b"-", b"{", b"}", b"[", b"]", b'"', b",", b"\\", b"\t", b" ", b"\r", b"\x0b",
    b"<<<<<<< HEAD", b"\xef\xbb\xbf", b'"id":"b",', b'"id":1,', b'"updated_at":true,',
    b'"updated_at":7,', b'"deleted":true,', b'"deleted":null,', b"[" * 127 + b"]" * 127,
    b"[" * 128 + b"]" * 128, b"true", b"nul", b"\x7f", b"\\u0000", b"\\x", b"/*x*/", b"'",
]  # fmt: skip


@given(RECORDS, st.lists(st.tuples(st.integers(0, 400), st.sampled_from(PIECES)), max_size=3))
@example({"id": "a", "x": 0}, [(15, b"[" * 127 + b"]" * 127 + b",")])
@share(4)
def test_mutated_lines_are_judged_by_the_rules(record: Any, changes: Any) -> None:
    """Of damaged lines too: nothing is let pass, and nothing refused, by the decoder alone."""
    raw = json.dumps(record, ensure_ascii=False).encode()
    for at, piece in changes:
        raw = raw[:at] + piece + raw[at:]
    assert judge(raw) == verdict(raw)


@given(RECORDS, st.sampled_from(PIECES), st.booleans())
def test_odd_values_are_judged_by_the_rules(record: Any, piece: Any, twice: Any) -> None:
    """The same for an odd piece in the place of a value, also of an overwritten duplicate key."""
    fields = json.dumps({"id": "a", **record}, ensure_ascii=False).encode()[1:]
    raw = b'{"odd":%b,%b%b' % (piece, b'"odd":1,' if twice else b"", fields)
    assert judge(raw) == verdict(raw)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not JSON"),
        (b"<<<<<<< HEAD", "conflict marker"),
        (b"=======", "conflict marker"),
        (b">>>>>>> theirs", "conflict marker"),
        (b"||||||| base", "conflict marker"),
        (b'{"id":"a","x":"\xff"}', "UTF-8"),
        (b'{"id":"a"}\x00', "NUL"),
        (b'{"id":"a","x":NaN}', "NaN"),
        (b'{"id":"a"} x', "not JSON"),
        (b'["id"]', "not a JSON object"),
        (b"{}", "no id"),
        (b'{"id":7}', "id must be a string"),
        (b'{"id":" "}', "cannot be empty"),
        (b'{"id":"a","updated_at":1.0}', "updated_at"),
        (b'{"id":"a","x":"\\ud800"}', "lone surrogate"),
        (b'{"id":"a","x":1e999}', "range of a double"),
        (b'{"id":"a","x":' + b"9" * 400 + b"}", "range of a double"),
        (b'{"id":"a","x":' + b"9" * 5000 + b"}", "range of a double"),
        (b'{"id":"a","x":' + b"[" * 128 + b"]" * 128 + b"}", "deeper than 128"),
        (b'{"id":"a","x":' + b"[" * 9999 + b"]" * 9999 + b"}", "deeper than 128"),
        (b'{"id":"a"}' + b" " * MAX_LINE_BYTES, "16 MiB"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_reasons(raw: Any, reason: Any) -> None:
    """What is not a record is refused with a reason that a person understands."""
    with pytest.raises(LineError, match=re.escape(reason)):
        decode_envelope(raw)


def test_a_conflict_marker_in_a_string_is_text() -> None:
    """Markers count at the start of a line only."""
    raw = b'{"id":"a","x":"<<<<<<< HEAD"}'
    assert Envelope("a", 0, False, None) == decode_envelope(raw)


@pytest.mark.parametrize("text", [b"1", b"null", b'"true"', b"false", b"[true]"])
def test_only_true_is_a_tombstone(text: Any) -> None:
    """`deleted` is exactly true, or the line is alive."""
    assert not decode_envelope(b'{"id":"a","deleted":%b}' % text).deleted


def test_the_last_of_duplicate_keys_counts() -> None:
    """For the id, the time and the tombstone alike, also after one that is unusable."""
    raw = b'{"id":1,"id":"b","updated_at":true,"updated_at":2,"deleted":true,"deleted":0}'
    assert Envelope("b", 2000, False, 2) == decode_envelope(raw)
    assert {"id": "b", "updated_at": 2, "deleted": 0} == decode_object(raw)


@given(JSON)
def test_values_survive_encoding(value: Any) -> None:
    """What is encoded is decoded to the same value, in compact UTF-8 on one line."""
    raw = encode_value(value)
    assert value == json.loads(raw)
    assert b"\n" not in raw
    expected = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert expected.encode() == raw


@given(st.dictionaries(TEXT, JSON, max_size=5))
def test_fields_survive_a_line(record: Any) -> None:
    """A line taken apart and joined is the same line, byte by byte."""
    raw = join_fields({key: encode_value(value) for key, value in record.items()})
    fields = raw_fields(raw)
    assert list(record) == list(fields)
    assert raw == join_fields(fields)
    assert record == decode_object(raw) == decode_object(raw.decode())


def test_raw_fields_keep_the_spelling() -> None:
    """Numbers, escapes and inner spaces stay as they stand in the line."""
    raw = b'{"a": 1.50, "b" :[1,  2],"c":"\\u00e9","a":1e2}'
    assert {"a": b"1e2", "b": b"[1,  2]", "c": b'"\\u00e9"'} == raw_fields(raw)


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        [math.inf],
        "\ud800",
        {"\udc00": 1},
        [10**400],
        {1: 2},
        object(),
        {"a": {1, 2}},
        b"",
    ],
)
def test_what_json_cannot_carry(value: Any) -> None:
    """A value that would not come back as it is is refused."""
    with pytest.raises(ValueError, match=r"JSON has no|surrogate|double|key must"):
        encode_value(value)


def test_encoded_depth_is_what_a_line_may_have() -> None:
    """The deepest value that is written is the deepest that is read."""
    value: list[object] = []
    for _ in range(MAX_DEPTH - 2):
        value = [value]
    deepest = join_fields({"id": b'"a"', "x": encode_value(value)})
    assert "a" == decode_envelope(deepest).id
    with pytest.raises(ValueError, match="deeper"):
        encode_value([value])


@given(TEXT.filter(str.strip), st.integers(0, 10**12))
def test_tombstones(id: Any, ms: Any) -> None:
    """A tombstone line is read as one."""
    assert Envelope(id, ms * 1000, True, ms) == decode_envelope(tombstone_line(id, ms))


def test_escaped_keys_keep_their_spelling() -> None:
    """What a line spells with escapes in its top-level keys is spelled so again when joined."""
    line = rb'{"id":"a","caf\u00e9":{"caf\u00e9":1},"plain":"\n","\u0074ag":"x\"y"}'
    assert line == join_fields(raw_fields(line), key_spellings(line))
