"""Values that a column of SQLite holds although its type says something else.

SQLite keeps fractions in INTEGER columns, bytes in text columns and infinities in any, and
applications come to rely on it. In lines such a value states what it is, as in ``{"text": "n/a"}``.
So a plain text in a column of numbers can still be told from one: it does not fit the model.

What Python writes into a JSON column although JSON lacks it (NaN, lone surrogates) is in the line
as the text that Python made of it.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from typing import Any


def loose(value: Any, expected: type) -> Any:
    """Return a value that is not of a column's type as JSON builtins.

    Raises:
        ValueError: SQLite does not return such values.
    """
    kind = type(value)
    if kind is float and not math.isfinite(value):
        # SQLite stores NaN as NULL.
        return {"real": "Infinity" if value > 0 else "-Infinity"}
    if kind is float and expected is int:
        return value
    if kind is str and expected is not str:
        return {"text": value}
    if kind is bytes:
        return {"blob": base64.b64encode(value).decode()}
    raise ValueError(f"expected {expected.__name__}, got {kind.__name__}")


def from_loose(found: Any, expected: type) -> Any:
    """Return the value that `loose` turned into JSON builtins.

    Raises:
        ValueError: They were not made by it.
    """
    if type(found) is float and expected is int:
        return found
    if type(found) is dict and len(found) == 1:
        [(kind, value)] = found.items()
        if kind == "real" and value in ("Infinity", "-Infinity"):
            return float(value)
        if kind == "text" and type(value) is str and expected is not str:
            return value
        if kind == "blob" and type(value) is str:
            return bytes_of(value)
    raise ValueError(f"expected {expected.__name__}, got {type(found).__name__}")


_DOCUMENT = "_json"
"""The only key of an object that has a document as text."""


def from_document(value: Any) -> Any:
    """Return the value of a JSON column as JSON builtins."""
    return odd_document(value) if _is_document(value) else value


def odd_document(value: Any) -> Any:
    """Return a value of a JSON column that JSON lacks, or that looks like this, as JSON builtins.

    Raises:
        ValueError: Python cannot write it either.
    """
    return {_DOCUMENT: json.dumps(value)}


def to_document(found: Any) -> Any:
    """Return the value of a JSON column from JSON builtins.

    Raises:
        ValueError: The text of a document is none.
    """
    return json.loads(found[_DOCUMENT]) if _is_document(found) else found


def _is_document(value: Any) -> bool:
    return type(value) is dict and len(value) == 1 and type(value.get(_DOCUMENT)) is str


def bytes_of(text: str) -> bytes:
    """Return the bytes of a base64 text.

    Raises:
        ValueError: It is none.
    """
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from None
