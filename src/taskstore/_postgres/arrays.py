"""Parameters of PostgreSQL that hold any number of values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import BigInteger, Text, cast
from sqlalchemy.dialects.postgresql import ARRAY


def texts(values: Iterable[str | None]) -> Any:
    """Return an array of texts."""
    return cast(list(values), ARRAY(Text))


def integers(values: Iterable[int]) -> Any:
    """Return an array of integers of 64 bits."""
    return cast(list(values), ARRAY(BigInteger))
