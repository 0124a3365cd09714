"""The SQL functions that read what SQLite's own JSON functions read differently.

`json_extract` takes the first of duplicate keys, cuts strings at NUL, does not find keys that are
written with escapes, and rounds long numbers as the platform does. Lines with any of these are
read here, with the decoder that reads the log.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from weakref import ref

from taskstore._format.lines import decode_object
from taskstore._query.conditions import FilterOp
from taskstore._query.meaning import holds, normal, scalar


def taskstore_value(
    data_json: str, name: str, kind: str = "plain", default: Any = None
) -> int | float | str | None:
    """Return a field as a number or a string; None if it is neither.

    Args:
        data_json: The record's line.
        name: The field.
        kind: How its JSON is read before it is compared.
        default: What a missing key counts as, already so read.
    """
    record = decode_object(data_json)
    if name not in record:
        return default  # type: ignore[no-any-return]
    return scalar(kind, record[name])  # type: ignore[arg-type]


def taskstore_holds(
    data_json: str, name: str, kind: str, op: str, operand: str, default: str | None, text: int
) -> bool:
    """Return whether a field passes a test.

    Args:
        data_json: The record's line.
        name: The field.
        kind: How its JSON is read before it is compared.
        op: A FilterOp's value.
        operand: What it is compared with, as JSON or as it is.
        default: What a missing key counts as, as JSON; None for null.
        text: Whether the operand is a string as it is.
    """
    record = decode_object(data_json)
    raw = record[name] if name in record else _decoded(default or "null")
    value = operand if text else _decoded(operand)
    return holds(FilterOp(op), normal(kind, raw), value)  # type: ignore[arg-type]


def taskstore_scalar(text: str) -> Any:
    """Return a number or string that was passed as JSON."""
    return json.loads(text)


@lru_cache(maxsize=256)
def _decoded(text: str) -> Any:
    # A filter's value may be an infinity, which no line can have.
    return json.loads(text)


FUNCTIONS: tuple[tuple[str, int, Callable[..., Any]], ...] = (
    ("taskstore_value", 2, taskstore_value),
    ("taskstore_value", 4, taskstore_value),
    ("taskstore_holds", 7, taskstore_holds),
    ("taskstore_scalar", 1, taskstore_scalar),
)
"""Name, number of arguments and implementation of each function."""


TAUGHT = "taskstore-functions"
"""The key in the `info` of a connection that knows them."""

# The functions themselves raise these, for an invalid line or an unknown operand.
_OWN_ERRORS = (ValueError, TypeError, LookupError, RecursionError)


def register_functions(dbapi_connection: Any) -> None:
    """Teach a SQLite connection (of the driver) our functions; the same values every time.

    What a signal handler raises in one of them is kept in `lost` of the connection.
    """
    for name, arguments, function in FUNCTIONS:
        dbapi_connection.create_function(
            name, arguments, _keeping(dbapi_connection, function), deterministic=True
        )


def ensure_functions(pooled: Any) -> None:
    """Teach a connection from a pool our functions, unless it has learnt them.

    Filters on fields without an index need them, on an application's engine too.
    """
    from taskstore._cache.engine.bridge import on_driver  # it needs SQLAlchemy

    if TAUGHT not in pooled.info:
        on_driver(pooled, register_functions)
        pooled.info[TAUGHT] = True


def _keeping(dbapi_connection: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        # The connection keeps the function.
        known = ref(dbapi_connection)
    except TypeError:
        # An application's own connection, which has no place for what is lost.
        return function

    def call(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except BaseException as error:
            connection = known()
            if connection is not None and not isinstance(error, _OWN_ERRORS):
                connection.lost = error
            raise

    return call
