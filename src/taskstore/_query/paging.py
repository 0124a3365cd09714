"""Tokens that mark the end of a page, so that the next page begins there."""

from __future__ import annotations

import base64
import binascii
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from taskstore._query.meaning import MAX_INT, MIN_INT, Scalar
from taskstore._query.ordering import Sort
from taskstore.errors import InvalidFilterError


def page_token(sorts: Sequence[Sort], record: Mapping[str, Any]) -> str:
    """Return the token of the place after a record, in an order.

    Args:
        sorts: The order, from `resolve_order`.
        record: The JSON object of the last line of the page.
    """
    payload = [_signature(sorts), [sort.key(record) for sort in sorts]]
    raw = json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()
    return base64.urlsafe_b64encode(_checksum(raw) + raw).decode().rstrip("=")


def page_values(sorts: Sequence[Sort], token: object) -> tuple[Scalar | None, ...]:
    """Return what the record at the end of a page was sorted by.

    Raises:
        InvalidFilterError: The token is not valid, or belongs to another order.
    """
    signature, values = _decoded(token)
    if signature != _signature(sorts):
        raise InvalidFilterError(
            "the page token belongs to another order_by: start again without `after`"
        )
    if len(values) != len(sorts) or not all(map(_fits, sorts, values)):
        raise _garbled()
    return tuple(values)


def _decoded(token: object) -> tuple[Any, list[Any]]:
    if not isinstance(token, str):
        raise _garbled()
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        data = base64.b64decode(padded, altchars=b"-_", validate=True)
        if data[:4] != _checksum(data[4:]):
            raise _garbled()
        payload = json.loads(data[4:])
    except (binascii.Error, ValueError, RecursionError) as error:
        raise _garbled() from error
    if not isinstance(payload, list) or len(payload) != 2 or not isinstance(payload[1], list):
        raise _garbled()
    signature, values = payload
    return signature, values


def _fits(sort: Sort, value: object) -> bool:
    """Return whether `Sort.key` could give this value. A checksum does not prove that."""
    if sort.kind == "id":
        return isinstance(value, str) and _is_text(value)
    if sort.kind == "version":
        return isinstance(value, int) and not isinstance(value, bool) and _fits_integer(value)
    if isinstance(value, str):
        return _is_text(value)
    if isinstance(value, float):
        return not math.isnan(value)
    return value is None or (isinstance(value, int) and _fits_integer(value))


def _fits_integer(value: int) -> bool:
    return MIN_INT <= value <= MAX_INT


def _is_text(value: str) -> bool:
    """Return whether a text has no lone surrogates. JSON allows them, databases do not."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _signature(sorts: Sequence[Sort]) -> list[str]:
    return [f"{'-' if sort.descending else ''}{sort.name}:{sort.kind}" for sort in sorts]


def _checksum(raw: bytes) -> bytes:
    return zlib.crc32(raw).to_bytes(4, "big")


def _garbled() -> InvalidFilterError:
    return InvalidFilterError(
        "the page token cannot be read: pass on the `next` of a page as it is, or begin again "
        "without `after`"
    )
