"""The version that a record carries: its `updated_at`, in any of its forms."""

from __future__ import annotations

import datetime
from typing import Any

import attrs

from taskstore._format.instants import MAX_MS, format_rfc3339, parse_instant
from taskstore._format.lines import encode_value
from taskstore._records.builtins import exact_time
from taskstore._records.hints import Hint, alternatives, describe, union_members
from taskstore._records.reasons import StructureError

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@attrs.frozen
class Claim:
    """A version that a record carries into a write.

    Attributes:
        value: The value in the record's line.
        order_us: The instant, in microseconds since the epoch.
        precision_us: How fine the carrier is: 1000 for integers in milliseconds, else 1.
    """

    value: int | str
    order_us: int
    precision_us: int


def claim_of(value: Any) -> Claim | None:
    """Return what a record's `updated_at` claims; None, 0 and "" claim nothing.

    Raises:
        StructureError: It is not a version.
    """
    if value is None or value == "" or (value == 0 and type(value) is int):
        return None
    if isinstance(value, datetime.datetime):
        value = _text_of(value)
    try:
        return Claim(value, parse_instant(value), 1 if isinstance(value, str) else 1000)
    except ValueError as error:
        raise StructureError(str(error).removeprefix("updated_at ")) from None


def encode_version(value: Any) -> bytes | None:
    """Return the `updated_at` in a record's line, or None if it claims nothing.

    Raises:
        StructureError: It is not a version.
    """
    if value.__class__ is int and 0 < value <= MAX_MS:
        return b"%d" % value
    claim = claim_of(value)
    return None if claim is None else encode_value(claim.value)


def _text_of(moment: datetime.datetime) -> str:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return str(exact_time(moment).isoformat()).replace("+00:00", "Z")


class VersionForm:
    """The form that a class gives to its versions: int, str or datetime, whatever its lines have.

    Attributes:
        kinds: The declared types, without None.
        optional: Whether None is one of them.
    """

    __slots__ = ("kinds", "optional")

    def __init__(self, hint: Hint) -> None:
        self.kinds = alternatives(hint)
        self.optional = any(found in {None, type(None)} for found in union_members(hint) or ())
        if not self.kinds or not set(self.kinds) <= {int, str, datetime.datetime}:
            raise StructureError(
                f"is the version of a record and must be int (milliseconds), str (RFC 3339) or "
                f"datetime, not {describe(hint)}"
            )

    @property
    def is_native(self) -> bool:
        """Whether msgspec reads such a version as the log does: it rounds times, we cut them."""
        return datetime.datetime not in self.kinds

    def decode(self, value: Any) -> Any:
        """Return a line's `updated_at`, a good one, in the form of the class.

        Raises:
            StructureError: It is null, and the class has no value for that.
        """
        if value is None:
            if self.optional:
                return None
            if int in self.kinds:
                return 0
            if str in self.kinds:
                return ""
            raise StructureError("expected datetime, got null")
        if type(value) in self.kinds:
            return value
        try:
            return self._from_order(parse_instant(value))
        except ValueError as error:
            raise StructureError(str(error).removeprefix("updated_at ")) from None

    def stamped(self, stamp: int | str, current: Any) -> Any:
        """Return a stamp in the form of the class, and where it has several, of `current`."""
        kind = type(current)
        if kind not in self.kinds or not current:
            kind = type(stamp)
        return stamp if kind is type(stamp) and kind in self.kinds else self._recast(stamp, kind)

    def _recast(self, stamp: int | str, kind: type) -> Any:
        return self._from_order(parse_instant(stamp), kind if kind in self.kinds else None)

    def _from_order(self, order_us: int, kind: type | None = None) -> Any:
        kind = kind or self.kinds[0]
        if kind is datetime.datetime:
            return _EPOCH + datetime.timedelta(microseconds=order_us)
        return order_us // 1000 if kind is int else format_rfc3339(order_us // 1000)
