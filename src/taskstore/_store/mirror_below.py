"""What the database does by itself below the rows that a flush deletes or changes.

It is told by the statements that the unit of work sends: which rows go, and which columns change,
is known for certain only then. Orphans, listeners, and defaults of an UPDATE come after the flush
has begun.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs
from sqlalchemy import BindParameter, ColumnElement, Table, and_, literal, select
from sqlalchemy.engine import Connection
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression

from taskstore._cache.written_names import set_names
from taskstore._mirror.affected import Affected, Change, acts
from taskstore._mirror.links import enforced
from taskstore._mirror.registry import Mirrors
from taskstore._store.changes import Key
from taskstore.errors import UntrackedWriteError

if TYPE_CHECKING:
    from taskstore._mirror.shape import Mirror

__all__ = ["Below"]


@attrs.frozen
class _Sent:
    """A DELETE or UPDATE of the unit of work.

    Attributes:
        table: that it writes.
        where: the names of the parameters that its rows are found by, by column.
        change: what it does to them.
    """

    table: Table
    where: Mapping[Any, str]
    change: Change

    def before(self, values: Mapping[str, Any]) -> ColumnElement[bool]:
        """Where its rows are before it runs."""
        return and_(*(c == literal(values[name], c.type) for c, name in self.where.items()))

    def after(self, values: Mapping[str, Any]) -> ColumnElement[bool]:
        """Where they are when it has run.

        Raises:
            UntrackedWriteError: that cannot be told.
        """
        changed = self.change.columns or frozenset()
        names = {c: c.key if c.name.lower() in changed else name for c, name in self.where.items()}
        unknown = [name for name in names.values() if name not in values]
        if unknown:
            raise UntrackedWriteError(
                statement=f"an SQL expression for {unknown[0]!r} of {self.table.name!r}, which "
                "others refer to and follow",
                remedy="give it a value",
            )
        return and_(*(c == literal(values[name], c.type) for c, name in names.items()))


class Below:
    """The mirrored rows that one flush makes the database change.

    Attributes:
        found: collection and id of each, under every id that it has had.
    """

    def __init__(self, connection: Connection, mirrors: Mirrors) -> None:
        self.found: dict[Key, None] = {}
        self._connection = connection
        self._mirrors = mirrors
        self._enforced = enforced(connection)

    def before(self, statement: str, context: Any) -> None:
        """Note what a statement is about to change.

        Raises:
            UntrackedWriteError: rows would get keys that cannot be told.
        """
        sent = _sent(statement, context)
        if sent is None:
            return
        affected = self._affected(sent)
        mirror = self._renamed(sent)
        if affected is None and mirror is None:
            return
        for values in context.compiled_parameters:
            condition = sent.before(values)
            if mirror is not None:
                self._note(mirror, condition)
            if affected is not None:
                affected.below(sent.table, condition, sent.change)

    def after(self, statement: str, context: Any) -> None:
        """Note what has followed a changed value."""
        sent = _sent(statement, context)
        if sent is None or sent.change.is_deletion:
            return
        affected = self._affected(sent)
        if affected is None:
            return
        for values in context.compiled_parameters:
            affected.below(sent.table, sent.after(values), sent.change)

    def _affected(self, sent: _Sent) -> Affected | None:
        """A walk; None where there is nothing to be found."""
        links = self._mirrors.links.to(self._connection, sent.table.name)
        if not self._enforced or not any(acts(link, sent.change) for link in links):
            return None
        return Affected(self._connection, self._mirrors, self.found)

    def _renamed(self, sent: _Sent) -> Mirror | None:
        """The mirror whose rows lose a key that their instances may not know as it is stored."""
        mirror = self._mirrors.by_table.get(sent.table.name.lower())
        if mirror is None or mirror.is_association or sent.table is not mirror.table:
            return None
        names = {field.column.name.lower() for field in mirror.key_fields}
        if not sent.change.is_deletion:
            return mirror if names & (sent.change.columns or frozenset()) else None
        primary = {column.name.lower() for column in sent.table.primary_key}
        return None if mirror.reads_key_as_bound and names == primary else mirror

    def _note(self, mirror: Mirror, condition: ColumnElement[bool]) -> None:
        columns = [field.column for field in mirror.key_fields]
        for key in self._connection.execute(select(*columns).where(condition)):
            self.found[mirror.collection, mirror.id_of(key)] = None


def _sent(statement: str, context: Any) -> _Sent | None:
    """What the unit of work sends; None where it deletes and updates nothing."""
    is_of_unit_of_work = "compiled_cache" in context.execution_options
    if not is_of_unit_of_work or not (context.isdelete or context.isupdate):
        return None
    compiled = context.compiled
    table = compiled.statement.table
    columns = None if context.isdelete else set_names(statement)
    where = {
        column: compiled.bind_names.get(parameter, parameter.key)
        for column, parameter in _equalities(compiled.statement.whereclause, table)
    }
    primary = {column: where[column] for column in table.primary_key if column in where}
    # A version would no longer be found after the statement.
    is_by_key = bool(primary) and len(primary) == len(table.primary_key)
    return _Sent(table, primary if is_by_key else where, Change(columns))


def _equalities(clause: Any, table: Table) -> Iterator[tuple[Any, BindParameter[Any]]]:
    for element in visitors.iterate(clause):
        if isinstance(element, BinaryExpression) and element.operator is operators.eq:
            column: Any = table.columns.get(getattr(element.left, "key", ""))
            if column is not None and isinstance(element.right, BindParameter):
                yield column, element.right
