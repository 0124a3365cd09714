"""Checks columns and constraints of a mirrored model that decide whether it can work at all."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table
from sqlalchemy.engine import Dialect

from taskstore._mirror.shape import Mirror
from taskstore.errors import InvalidDeclarationError

__all__ = ["check_conflicts", "check_version"]

_STAMP_MS = 1_700_000_000_123
"""A version to try a column with."""

_OPTIONS = ("on_conflict", "on_conflict_unique", "on_conflict_primary_key")


def check_version(mirror: Mirror, dialect: Dialect) -> None:
    """See whether a stamp comes back from the version column as it was written.

    Raises:
        InvalidDeclarationError: it does not.
    """
    if mirror.version is None:
        return
    try:
        found = mirror.order_of(_there_and_back(mirror, dialect))
    except Exception as error:
        raise InvalidDeclarationError(
            mirror.name,
            field=mirror.version.name,
            reason=f"its column cannot hold a version ({error}): use an Integer for milliseconds, "
            "a DateTime or a String, or updated_at=None to keep it in the log alone",
        ) from error
    if found != _STAMP_MS * 1000:
        raise InvalidDeclarationError(
            mirror.name,
            field=mirror.version.name,
            reason="its column loses a part of a version, which counts milliseconds: let it keep "
            "them, or use updated_at=None to keep the version in the log alone",
        )


def _there_and_back(mirror: Mirror, dialect: Dialect) -> Any:
    """A stamp, as the version column gives it back."""
    assert mirror.version is not None
    value = mirror.version_value(_STAMP_MS)
    type_ = mirror.version.column.type.dialect_impl(dialect)
    bind, result = type_.bind_processor(dialect), type_.result_processor(dialect, None)
    stored = bind(value) if bind is not None else value
    return result(stored) if result is not None else stored


def check_conflicts(name: str, table: Table) -> None:
    """See whether a table would delete rows in favour of others.

    Raises:
        InvalidDeclarationError: it would; names the option.
    """
    for one in (*table.constraints, *table.columns):
        options = one.dialect_options["sqlite"]
        for option in _OPTIONS:
            if str(options.get(option, "")).upper() == "REPLACE":
                raise InvalidDeclarationError(
                    name,
                    reason=f"sqlite_{option}='REPLACE' deletes other rows of {table.name!r} "
                    "without a word, and the log would keep them: drop it, and merge or upsert "
                    "instead",
                )
