"""One line of a log: which lines are records, and how lines are written.

`decode_envelope` is the only definition of a record line. Everything that reads a log uses it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from types import MappingProxyType
from typing import Any

import attrs
import msgspec

from taskstore._format.instants import parse_instant
from taskstore._format.names import MAX_ID_LENGTH, id_fault

MAX_LINE_BYTES = 16 * 1024 * 1024
"""The greatest length of a line, in bytes without its newline."""

OVERLONG = "longer than 16 MiB"
"""Why a line with more bytes is not a record."""

MAX_DEPTH = 128
"""How deep a line may nest; the record's own object is the first level."""

REVISION_KEY = "$revision"
"""The reserved key: the revision that a line of an evolved collection was written under."""

_MARKERS = (b"<<<<<<<", b"=======", b">>>>>>>", b"|||||||")

STAND_INS = {
    "a pointer of Git LFS in place of the log": "git lfs pull",
    "a log that git-crypt has encrypted": "git-crypt unlock",
}
"""What a filter of git leaves in place of a log where the filter did not run, and the remedy."""

_STAND_INS = dict(
    zip((b"version https://git-lfs.github.com/spec/", b"\0GITCRYPT\0"), STAND_INS, strict=True)
)
STAND_IN_BYTES = max(map(len, _STAND_INS))
"""How many bytes at the beginning of a file `stand_in` needs."""

HARMLESS_LENGTH = 2 * MAX_DEPTH
"""A shorter line can neither nest deeper than MAX_DEPTH nor hold an integer beyond a double."""

_LONGEST_DOUBLE = 308
_SMALL = 10**18
_DIGITS_AS_ZERO = bytes(48 if 48 <= byte <= 57 else 120 for byte in range(256))
_LONG_DIGITS = b"0" * (_LONGEST_DOUBLE + 1)
_LONG_INTEGER = re.compile(rb"(?<![0-9.eE+-])-?([0-9]{309,}+)(?![.eE])")
_ESCAPED_SHORTLY = re.compile(r'["\\/\x08\f\n\r\t]')
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)

_decode = msgspec.json.Decoder().decode
_decode_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode_raw = msgspec.json.Encoder().encode
_encode_text = msgspec.json.Encoder().encode
_encode_container = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False
).encode


class LineError(ValueError):
    """A line that is not a record.

    Attributes:
        reason: What is wrong with it.
        id: The record's id, where one could be read.
    """

    def __init__(self, reason: str, id: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.id = id


@attrs.frozen
class Envelope:
    """The parts of a line that the log itself understands.

    Attributes:
        id: The record's id.
        order_us: The version as microseconds since the epoch; 0 if the line has none.
        deleted: Whether the line is a tombstone.
        updated_at: The version in the line.
    """

    id: str
    order_us: int
    deleted: bool
    updated_at: int | str | None


def decode_envelope(raw: bytes) -> Envelope:
    """Decode one line, with or without its newline, and check that it is a record.

    Raises:
        LineError: It is not a record. The error has the reason.
    """
    id, order_us, deleted, updated_at, _ = decode_key(raw)
    return Envelope(id, order_us, deleted, updated_at)


def may_be_of(raw: bytes, id: str) -> bool:
    """Return whether a line can be one of a record. It only searches, which is quick.

    JSON can spell any character by its number, and a few with a backslash alone.
    """
    if id.encode() in raw or b"\\u" in raw:
        return True
    return b"\\" in raw and _ESCAPED_SHORTLY.search(id) is not None


def decode_key(raw: bytes) -> tuple[str, int, bool, int | str | None, Any]:
    """Do the same as `decode_envelope` for a million lines: return the envelope as a plain tuple.

    The last element is the value of the reserved key; None if there is none.

    Raises:
        LineError: The line is not a record.
    """
    if len(raw) > HARMLESS_LENGTH:
        _check_long(raw)
    try:
        fields = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise LineError(_fault(raw, error)) from None
    if type(fields) is not dict:
        raise LineError("not a JSON object")
    id = fields.get("id")
    # The usual ids are checked here; id_fault gives the reason for all others.
    if not (type(id) is str and id.strip() and len(id) <= MAX_ID_LENGTH):
        raise LineError(f"id {id_fault(id)}" if "id" in fields else "no id")
    updated_at = fields.get("updated_at")
    try:
        order_us = parse_instant(updated_at)
    except ValueError as error:
        raise LineError(str(error), id) from None
    return id, order_us, fields.get("deleted") is True, updated_at, fields.get(REVISION_KEY)


def _check_long(raw: bytes) -> None:
    """Check what the decoder does not: length, depth, and integers beyond a double."""
    if len(raw) > MAX_LINE_BYTES and len(_without_newline(raw)) > MAX_LINE_BYTES:
        raise LineError(OVERLONG)
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _depth(raw) > MAX_DEPTH:
        raise LineError(f"nested deeper than {MAX_DEPTH} levels")
    if has_long_digits(raw):
        for digits in _LONG_INTEGER.findall(_STRING.sub(b"_", raw)):
            if not _fits_double(digits):
                raise LineError("a number beyond the range of a double")


def has_long_digits(raw: bytes) -> bool:
    """Return whether there are more digits in a row than our numbers have."""
    return len(raw) > _LONGEST_DOUBLE and _LONG_DIGITS in raw.translate(_DIGITS_AS_ZERO)


def _without_newline(raw: bytes) -> bytes:
    return raw.removesuffix(b"\n").removesuffix(b"\r")


def _fits_double(digits: bytes) -> bool:
    return len(digits) <= _LONGEST_DOUBLE + 1 and math.isfinite(float(digits))


def _depth(raw: bytes) -> int:
    deepest = depth = 0
    for byte in _STRING.sub(b"", raw):
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def stand_in(data: bytes) -> str | None:
    """Return what is in place of a log, a key of `STAND_INS`; None if that is not known."""
    found = (what for start, what in _STAND_INS.items() if data.startswith(start))
    return next(found, None)


def _fault(raw: bytes, error: Exception) -> str:
    """Return why the decoder refused a line, in the words of the file format."""
    if (what := stand_in(raw)) is not None:
        return what
    if raw.startswith(_MARKERS):
        return "a git conflict marker"
    if b"\x00" in raw:
        return "NUL bytes"
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return "not UTF-8"
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except ValueError as reason:
        return f"not JSON: {reason}"
    # The standard library reads what only msgspec refuses.
    return "a number beyond the range of a double" if "range" in str(error) else "a lone surrogate"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def decode_object(raw: bytes | str) -> dict[str, Any]:
    """Decode a line that is known to be a record. If a key is there twice, the last one counts."""
    fields: dict[str, Any] = _decode(raw)
    return fields


def raw_fields(raw: bytes | str) -> dict[str, bytes]:
    """Return the top-level keys of a good line with the JSON bytes of their values, in order.

    A duplicate key has the position of its first occurrence and the value of its last.
    """
    return {key: bytes(value) for key, value in _decode_raw_fields(raw).items()}


def content_digest(raw: bytes | str) -> bytes:
    """Return a digest of a good line's keys and values, whatever their order."""
    fields = sorted((key, bytes(value)) for key, value in _decode_raw_fields(raw).items())
    return blake2b(repr(fields).encode(), digest_size=16).digest()


def key_spellings(raw: bytes | str) -> dict[str, bytes]:
    """Return the spellings of the top-level keys that a good line writes with escapes.

    The spelling of a key that occurs twice, or that follows such a key, may be missing.
    """
    line = raw.encode() if isinstance(raw, str) else raw
    if b"\\" not in line:
        return {}
    spelled: dict[str, bytes] = {}
    place = line.index(b"{") + 1
    for key, value in raw_fields(line).items():
        found = _STRING.search(line, place)
        if found is None or _decode(found[0]) != key:
            break
        if b"\\" in found[0]:
            spelled[key] = found[0]
        place = line.index(value, found.end()) + len(value)
    return spelled


@lru_cache(maxsize=4096)
def _start(key: str) -> bytes:
    """Return the bytes that a field begins with. A log has few different keys."""
    return b"%b:" % _encode_text(key)


def join_fields(
    fields: Mapping[str, bytes], spellings: Mapping[str, bytes] = MappingProxyType({})
) -> bytes:
    """Return one compact line, without newline, of keys and the JSON bytes of their values.

    Args:
        fields: The values by key.
        spellings: How to write some of the keys; see `key_spellings`.
    """
    if not spellings:
        return b"{%b}" % b",".join([_start(key) + value for key, value in fields.items()])
    return b"{%b}" % b",".join(
        b"%b:%b" % (spellings.get(key) or _encode_text(key), fields[key]) for key in fields
    )


def encode_value(value: Any) -> bytes:
    """Encode JSON builtins (None, bool, int, float, str, list, tuple, dict) compactly in UTF-8.

    Raises:
        ValueError: NaN, an infinity, an integer beyond the range of a double, a lone surrogate,
            a key that is not a string, nesting too deep for a line, or a value that JSON does not
            have. The message is only the reason.
    """
    if type(value) is str:
        return _encode_text_checked(value)
    if type(value) is int and -_SMALL < value < _SMALL:
        return b"%d" % value
    _check_value(value, 1)
    return _encode_text_checked(value) if isinstance(value, str) else _encode_checked(value)


def _encode_text_checked(value: str) -> bytes:
    try:
        # An Enum that is a str has a __str__ of its own.
        return _encode_text(str.__str__(value))
    except UnicodeEncodeError:
        raise ValueError("a lone surrogate") from None


def _encode_checked(value: Any) -> bytes:
    try:
        return _encode_container(value).encode()
    except UnicodeEncodeError:
        raise ValueError("a lone surrogate") from None


def _check_value(value: Any, depth: int) -> None:
    """Refuse what JSON, or a line, cannot represent."""
    if value is None or isinstance(value, bool | str):
        return
    if isinstance(value, int | float):
        _check_number(value)
    elif depth >= MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    elif isinstance(value, list | tuple):
        for item in value:
            _check_value(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"a key must be a string, not {type(key).__name__}")
            _check_value(item, depth + 1)
    else:
        raise ValueError(f"JSON has no value for {type(value).__name__}")


def _check_number(value: int | float) -> None:
    try:
        finite = math.isfinite(value)
    except OverflowError:
        raise ValueError("a number beyond the range of a double") from None
    if not finite:
        raise ValueError(f"JSON has no {value}")


def tombstone_line(id: str, updated_at: int | str) -> bytes:
    """Return the line, without newline, that says a record is gone as of `updated_at`."""
    return _encode_raw({"id": id, "updated_at": updated_at, "deleted": True})
