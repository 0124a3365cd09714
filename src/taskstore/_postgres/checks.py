"""Refuse what cannot be mirrored on PostgreSQL yet, before anything is written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import BigInteger, DateTime, Integer, Table, UniqueConstraint
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.sql import text

from taskstore._mirror.model.shape import Mirror
from taskstore._postgres.allocation import sequence_of
from taskstore._postgres.names import quoted_table
from taskstore._postgres.parts import keys_in
from taskstore.errors import InvalidDeclarationError, UnsupportedError

_LOCAL = (
    "on PostgreSQL rows that key= identifies cannot have numbers that others refer to yet: leave "
    "out key=, or let them refer to its column"
)


def check_mirrors(mirrors: Iterable[Mirror]) -> None:
    """Refuse models that work on SQLite alone.

    Raises:
        InvalidDeclarationError: There is one; says what to do.
    """
    for mirror in mirrors:
        _check_keys(mirror)
        for table in mirror.tables:
            if not _is_unique(mirror, table):
                raise _error(
                    mirror,
                    f"on PostgreSQL its key in {table.name!r} needs a primary key or unique "
                    "constraint",
                )
        if mirror.version is not None:
            _check_version(mirror)


def _check_keys(mirror: Mirror) -> None:
    if mirror.number is not None:
        raise _error(mirror, _LOCAL, mirror.number.name)
    for field in mirror.key_fields:
        column = field.column
        is_small = isinstance(column.type, Integer) and not isinstance(column.type, BigInteger)
        if is_small and column.default is not None and mirror.table.autoincrement_column is column:
            raise _error(mirror, "random numbers need a BigInteger column", field.name)


def _check_version(mirror: Mirror) -> None:
    assert mirror.version is not None
    if mirror.version.column.table is not mirror.table:
        raise _error(
            mirror,
            f"on PostgreSQL its version has to be in {mirror.table.name!r} alone",
            mirror.version.name,
        )
    type_ = mirror.version.column.type
    is_wide = isinstance(type_, BigInteger) or (
        isinstance(type_, Integer) and type(type_).__name__ == "BIGINT"
    )
    if not (is_wide or isinstance(type_, DateTime)):
        raise _error(
            mirror,
            "on PostgreSQL a version is a BigInteger (milliseconds) or a DateTime: change the "
            "column, or use updated_at=None to keep the version in the log alone",
            mirror.version.name,
        )


def _is_unique(mirror: Mirror, table: Table) -> bool:
    columns = {*keys_in(mirror, table)}
    unique = [set(table.primary_key.columns)]
    unique += [set(one.columns) for one in table.constraints if isinstance(one, UniqueConstraint)]
    unique += [set(index.columns) for index in table.indexes if index.unique]
    unique += [{column} for column in table.columns if column.unique]
    return columns in unique


def check_database(engine: Engine) -> None:
    """Refuse a database that cannot hold every text.

    Raises:
        UnsupportedError: Its encoding is not UTF-8.
    """
    with engine.connect() as connection:
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        raise UnsupportedError(
            operation=f"a database in the encoding {encoding}",
            remedy="move its tables to one that CREATE DATABASE ... ENCODING 'UTF8' has made",
        )


def check_tables(connection: Connection, mirrors: Iterable[Mirror]) -> None:
    """Refuse tables that are not there, or whose rows other tables hold.

    Raises:
        InvalidDeclarationError: There is one; says what to do.
    """
    for mirror in mirrors:
        for table in mirror.tables:
            _check_table(connection, mirror, quoted_table(table, connection.dialect))
        if mirror.is_counted and not sequence_of(connection, mirror):
            raise _error(
                mirror,
                f"no sequence counts the key of {mirror.table.name!r}: make it an identity column, "
                'or use ids="random"',
                mirror.key[0],
            )


def _check_table(connection: Connection, mirror: Mirror, name: str) -> None:
    found = connection.execute(_KIND, {"name": name}).one_or_none()
    if found is None:
        raise _error(mirror, f"there is no table {name}: create it with your migrations")
    kind, is_inherited, has_rules = found
    if kind != "r" or is_inherited:
        raise _error(
            mirror,
            f"{name} is partitioned, inherited or no table, whose writes PostgreSQL does not "
            "report in one place: it cannot be mirrored",
        )
    if has_rules:
        raise _error(
            mirror,
            f"{name} has INSTEAD rules, so PostgreSQL may do something else than a statement says: "
            "use triggers instead",
        )


def check_rows_visible(connection: Connection, mirrors: Iterable[Mirror]) -> None:
    """Refuse tables whose rows are hidden from the role that is to log them.

    Raises:
        InvalidDeclarationError: There is one; says what to do.
    """
    for mirror in mirrors:
        for table in mirror.tables:
            name = quoted_table(table, connection.dialect)
            if connection.execute(_HIDES, {"name": name}).scalar_one():
                raise _error(
                    mirror,
                    f"row-level security hides rows of {name} from this role: give the role "
                    "BYPASSRLS, or connect as the owner of the table",
                )


_HIDES: Any = text("SELECT pg_catalog.row_security_active(pg_catalog.to_regclass(:name)::oid)")
_KIND: Any = text(
    "SELECT c.relkind, EXISTS (SELECT 1 FROM pg_catalog.pg_inherits i "
    "WHERE c.oid IN (i.inhrelid, i.inhparent)), "
    "EXISTS (SELECT 1 FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND r.is_instead) "
    "FROM pg_catalog.pg_class c "
    "WHERE c.oid = pg_catalog.to_regclass(:name)"
)


def _error(mirror: Mirror, reason: str, field: str | None = None) -> InvalidDeclarationError:
    return InvalidDeclarationError(mirror.name, field=field, reason=reason)
