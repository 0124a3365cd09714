"""Primary keys that a database numbers, and random numbers for them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import attrs
from sqlalchemy import (
    BindParameter,
    Column,
    ColumnDefault,
    ColumnElement,
    Table,
    Text,
    cast,
    column,
    false,
    func,
    inspect,
    literal_column,
    select,
    table,
)
from sqlalchemy.exc import NoInspectionAvailable, NoReferencedColumnError, NoReferencedTableError
from sqlalchemy.orm import Mapper
from sqlalchemy.types import UserDefinedType

BITS = 53
"""How many bits of an integer JavaScript and a double can hold exactly."""

_RANDOM = "taskstore_random"


def random_number() -> int:
    """Return a positive number of 53 bits."""
    return secrets.randbelow(2**BITS - 1) + 1


def counted_key(table: Any) -> Column[Any] | None:
    """Return the primary key that the database numbers; None if it does not."""
    column: Column[Any] | None = next(iter(table.primary_key.columns), None)
    if column is None or len(table.primary_key.columns) > 1:
        return None
    if is_random(column):
        return column
    # With an explicit autoincrement=True it is told whatever its defaults are.
    has_default = column.default is not None and not column.default.is_sequence
    has_default |= column.server_default is not None and not _is_identity(column)
    return column if column is table.autoincrement_column and not has_default else None


def number_randomly(target: Any) -> None:
    """Give the counted key of a class or table a default that draws random numbers.

    Later calls change nothing, and neither do calls for what is not mapped or not counted. It is
    to come before anything is inserted: SQLAlchemy keeps the statements that it has compiled.
    """
    table = next(iter(tables_of(target)), None)
    column = None if table is None else counted_key(table)
    if column is not None and not is_random(column):
        default: Any = ColumnDefault(random_number)
        default._set_parent_with_dispatch(column)
        column.info[_RANDOM] = True


def is_random(column: Column[Any]) -> bool:
    """Return whether a column gets random numbers."""
    return bool(column.info.get(_RANDOM))


def tables_of(target: Any) -> tuple[Table, ...]:
    """Return the tables of a class, or the table that is given; none of a class not yet mapped."""
    if isinstance(target, Table):
        return (target,)
    try:
        mapper: Mapper[Any] = inspect(target)
    except NoInspectionAvailable:
        return ()
    return tuple(table for table in mapper.tables if isinstance(table, Table))


def _is_identity(column: Column[Any]) -> bool:
    return bool(getattr(column.server_default, "is_identity", False))


class Translated(UserDefinedType[Any]):
    """A column whose values are ids for code that reads and binds them.

    A number that has no id is read as the number that it is; an id that has no number is bound as
    NULL.

    Args:
        collection: Whose records are meant.
        keys: The name of the table that has the pairs.
        own: Whether the number is the key of the row itself, so that only rows that are there
            count.
        strict: Whether an expression has one type in the database. Then a number without an id is
            read as text.
    """

    cache_ok = True

    def __init__(self, collection: str, keys: str, own: bool = False, strict: bool = False) -> None:
        self.collection = collection
        self.keys = keys
        self.own = own
        self.strict = strict

    def get_col_spec(self, **_: Any) -> str:
        """Return the type that such a column has."""
        return "INTEGER"

    def bind_expression(self, bindvalue: BindParameter[Any]) -> ColumnElement[Any]:
        """Find the number of an id."""
        return self._found("number", "id", bindvalue)

    def column_expression(self, colexpr: ColumnElement[Any]) -> ColumnElement[Any]:
        """Find the id of a number."""
        as_it_is = cast(colexpr, Text) if self.strict else colexpr
        return func.coalesce(self._found("id", "number", colexpr), as_it_is)

    def among(self, element: ColumnElement[Any], ids: Sequence[str]) -> ColumnElement[bool]:
        """Return the condition that a column has the number of one of some ids."""
        keys = self._keys()
        return element.in_(self._select(keys, "number").where(keys.c.id.in_(ids)))

    def _found(self, wanted: str, by: str, value: Any) -> ColumnElement[Any]:
        keys = self._keys()
        found = self._select(keys, wanted).where(keys.c[by] == value)
        wanted_one: ColumnElement[Any] = found.correlate_except(keys).scalar_subquery()
        return wanted_one

    def _keys(self) -> Any:
        names = ("collection", "id", "number", "gone")
        return table(self.keys, *map(column, names)).alias("taskstore_pairs")

    def _select(self, keys: Any, wanted: str) -> Any:
        # A collection's name has no quotes; said in full, it does not get among the parameters.
        found = select(keys.c[wanted]).where(
            keys.c.collection == literal_column(f"'{self.collection}'")
        )
        return found.where(keys.c.gone == false()) if self.own else found


@attrs.frozen
class Numbers:
    """Tells which columns are counted keys, or refer to one.

    Attributes:
        keys: The name of the table that has ids and numbers.
        strict: As of `Translated`.
        referred: The collections whose numbers are in columns that were asked for.
    """

    keys: str
    strict: bool = False
    referred: set[str] = attrs.field(factory=set)
    _collections: dict[Column[Any], str] = attrs.field(factory=dict)

    def add(self, column: Column[Any], collection: str) -> None:
        """Note the counted key of the rows of a collection."""
        self._collections[column] = collection

    def of(self, *columns: Column[Any]) -> Translated | None:
        """Return how the numbers in the columns of an attribute become ids; None for others."""
        for each in columns:
            if each in self._collections:
                return Translated(self._collections[each], self.keys, own=True, strict=self.strict)
        for each in columns:
            collection = self._referred(each, set())
            if collection is not None:
                self.referred.add(collection)
                return Translated(collection, self.keys, strict=self.strict)
        return None

    def own(self, column: Column[Any]) -> Translated | None:
        """Return how a counted key becomes an id; None if no rows refer to it."""
        collection = self._collections.get(column)
        if collection not in self.referred:
            return None
        return Translated(collection, self.keys, own=True, strict=self.strict)

    def _referred(self, column: Column[Any], seen: set[Column[Any]]) -> str | None:
        """The collection whose key a column has, be it by way of other columns."""
        if column in self._collections:
            return self._collections[column]
        seen.add(column)
        for key in column.foreign_keys:
            try:
                target = key.column
            except (NoReferencedTableError, NoReferencedColumnError):
                continue
            found = None if target in seen else self._referred(target, seen)
            if found is not None:
                return found
        return None
