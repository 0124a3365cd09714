"""Checks columns and constraints of a mirrored model that decide whether it can work at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, ForeignKey, Table
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import NoReferencedColumnError, NoReferencedTableError

from taskstore._mirror.model.shape import Field, Mirror
from taskstore.errors import InvalidDeclarationError

_STAMP_MS = 1_700_000_000_123
"""A version to try a column with."""

_OPTIONS = ("on_conflict", "on_conflict_unique", "on_conflict_primary_key")


def check_version(mirror: Mirror, dialect: Dialect) -> None:
    """See whether a stamp comes back from the version column as it was written.

    Raises:
        InvalidDeclarationError: It does not.
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
    """See whether the table of a subclass would delete rows in favour of others.

    What is left in the table of the base class would have no type then.

    Raises:
        InvalidDeclarationError: It would; names the option.
    """
    for one in (*table.constraints, *table.columns):
        options = one.dialect_options["sqlite"]
        for option in _OPTIONS:
            if str(options.get(option, "")).upper() == "REPLACE":
                raise InvalidDeclarationError(
                    name,
                    reason=f"sqlite_{option}='REPLACE' deletes other rows of {table.name!r} "
                    "silently, and the log would keep them: drop that option, and use "
                    "merge() or an upsert",
                )


def check_references(mirrors: Sequence[Mirror]) -> None:
    """Check that every foreign key in the log refers to something in the log.

    Raises:
        InvalidDeclarationError: One does not, and was not accepted; names the remedies.
    """
    tables = {table.fullname: (mirror, table) for mirror in mirrors for table in _tables_of(mirror)}
    for mirror in mirrors:
        for field, key in _foreign_keys(mirror):
            if field.name in mirror.local:
                continue
            table, column = _target(key)
            if table not in tables:
                reason = f"it refers to the table {table!r}, which is not mirrored"
                remedy = "mirror that one too, "
            elif _is_left_out(*tables[table], column):
                reason = f"it refers to {table}.{column}, which stays out of the log"
                remedy = "take that column in, "
            else:
                continue
            if not _is_key(mirror, field):
                remedy += f'leave it out with exclude=["{field.name}"], '
            raise InvalidDeclarationError(
                mirror.name,
                field=field.name,
                reason=f"{reason}, so its values mean nothing in other clones: {remedy}"
                f'or accept that with local=["{field.name}"]',
            )


def _tables_of(mirror: Mirror) -> Iterator[Table]:
    return (table for shape in mirror.shapes for table in shape.tables)


def _foreign_keys(mirror: Mirror) -> Iterator[tuple[Field, ForeignKey]]:
    for shape in mirror.shapes:
        for field in shape.fields.values():
            for column in field.columns:
                # A set, whose order changes from run to run.
                for key in sorted(column.foreign_keys, key=_target):
                    yield field, key


def _target(key: ForeignKey) -> tuple[str, str]:
    """The table and the column that a foreign key refers to, which nobody may have declared."""
    try:
        return key.column.table.fullname, key.column.name
    except (NoReferencedTableError, NoReferencedColumnError):
        table, _, column = key.target_fullname.rpartition(".")
        return table, column


def _is_left_out(mirror: Mirror, table: Table, name: str) -> bool:
    """Return whether a column that is not in the primary key is in no line."""
    carried: set[Column[Any]] = {
        column
        for shape in mirror.shapes
        for field in shape.fields.values()
        for column in field.columns
    }
    if mirror.version is not None:
        carried.update(mirror.version.columns)
    return any(
        column.name == name and not column.primary_key and column not in carried
        for column in table.columns
    )


def _is_key(mirror: Mirror, field: Field) -> bool:
    return any(column.primary_key for column in field.columns) or field.name in mirror.key


def check_together(mirrors: Sequence[Mirror], taken: frozenset[str]) -> None:
    """Check that collections and tables are distinct, and that references can be followed.

    Args:
        mirrors: All of the store.
        taken: The names of our own tables.

    Raises:
        InvalidDeclarationError: They are not, or cannot; says what to do.
    """
    collections: dict[str, str] = {}
    tables: dict[str, str] = {}
    for mirror in mirrors:
        other = collections.setdefault(mirror.collection, mirror.name)
        if other != mirror.name:
            raise InvalidDeclarationError(
                mirror.name,
                reason=f"its collection {mirror.collection!r} is that of {other}: give each its "
                "own, and of a hierarchy only its base",
            )
        for table in {table for shape in mirror.shapes for table in shape.tables}:
            if table.name in taken:
                raise InvalidDeclarationError(
                    mirror.name,
                    reason=f"the store has a table of its own called {table.name!r}: give those of "
                    "the store a prefix with models=taskstore.models.build_models(prefix=...)",
                )
            if (other := tables.setdefault(table.name, mirror.name)) != mirror.name:
                raise InvalidDeclarationError(
                    mirror.name,
                    reason=f"the table {table.name!r} is mirrored with {other}: mirror one of the "
                    "two, and leave the other out (exclude=[...] of mirror_all)",
                )
    check_references(mirrors)
    local = {
        column: mirror
        for mirror in mirrors
        for column in mirror.table.primary_key.columns
        if not any(column in field.columns for field in mirror.base.fields.values())
    }
    for mirror in mirrors:
        for shape in mirror.shapes:
            for field in shape.fields.values():
                if field.translated is None and field.name not in mirror.local:
                    _check_reference(mirror, field, local)


def _check_reference(mirror: Mirror, field: Field, local: Mapping[Column[Any], Mirror]) -> None:
    for column in field.columns:
        for key in column.foreign_keys:
            parent = local.get(key.column)
            if parent is not None:
                raise InvalidDeclarationError(
                    mirror.name,
                    field=field.name,
                    reason=f"it refers to {parent.table.name}.{key.column.name}, which each clone "
                    f"counts for itself: let it refer to {parent.key[0]!r}, or exclude it",
                )
