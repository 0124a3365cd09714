"""Statements for what a store asks of a collection, built and compiled once for each shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import attrs
from sqlalchemy import ColumnElement, Integer, Select, bindparam, func, literal, select
from sqlalchemy.dialects import sqlite

from taskstore._cache.schema.models import Models
from taskstore._cache.sql.compile import (
    TEXT,
    TYPES,
    best_driver,
    candidates,
    directed,
    following,
    parts_of,
    sort_value,
    where_clause,
)
from taskstore._cache.sql.condition_shapes import (
    Indexed,
    SortShape,
    Tree,
    leaves,
    lower,
    lower_sort,
)
from taskstore._cache.sql.index_fields import index_seek, record_columns
from taskstore._cache.sql.json_fields import Leaf
from taskstore._query.conditions import And, Condition
from taskstore._query.meaning import Scalar
from taskstore._query.ordering import Sort, resolve_order
from taskstore._query.paging import page_token, page_values
from taskstore._query.resolve import RecordFacts, resolve

PROBE_LIMIT = 1000
"""How many index rows a probe counts at most."""

_DIALECT = sqlite.dialect()


@attrs.frozen
class _Shape:
    """What decides the text of a statement."""

    models: Models
    tree: Tree
    what: str | tuple[str, ...]
    driver: int | None = None
    sorts: tuple[SortShape, ...] = ()
    after: tuple[str, ...] | None = None
    window: tuple[bool, bool] = (False, False)


@attrs.define(eq=False)
class _Template:
    statement: Select[Any]
    text: str | None = None
    names: tuple[str, ...] = ()
    constants: Mapping[str, Any] = attrs.field(factory=dict)

    def compiled(self) -> str:
        if self.text is None:
            # pyformat-free: one name for each place, in the order of the question marks.
            compiled = self.statement.compile(dialect=_DIALECT)
            self.constants = compiled.params
            self.names = tuple(compiled.positiontup or ())
            self.text = str(compiled)
        return self.text


@attrs.frozen
class Prepared:
    """A statement and the values to run it with.

    Attributes:
        statement: For `session.execute(statement, parameters)`.
        parameters: By name.
    """

    template: _Template = attrs.field(repr=False)
    parameters: Mapping[str, Any]

    @property
    def statement(self) -> Select[Any]:
        """The statement; the same object for all questions of its shape."""
        return self.template.statement

    def driver_sql(self) -> tuple[str, tuple[Any, ...]]:
        """Return the same for `connection.exec_driver_sql`, at a tenth of the cost."""
        text = self.template.compiled()
        constants, given = self.template.constants, self.parameters
        return text, tuple(
            given[name] if name in given else constants[name] for name in self.template.names
        )


@attrs.frozen
class RecordQuery:
    """A question to one collection: what `list`, `page`, `count` and their kin ask.

    Attributes:
        sorts: The order, resolved.
    """

    models: Models
    collection: str
    tree: Tree
    values: Sequence[Any]
    sorts: tuple[Sort, ...]
    shapes: tuple[SortShape, ...]

    @classmethod
    def of(
        cls,
        models: Models,
        collection: str,
        condition: Condition | None,
        *,
        record_type: RecordFacts | None,
        indexed: Indexed,
        order_by: object = None,
    ) -> RecordQuery:
        """Resolve a question.

        Args:
            models: The cache's models.
            collection: The collection's name.
            condition: From `all_of`; None for all records.
            record_type: The facts of the record type; None for plain dicts.
            indexed: The collection's indexed fields, by name.
            order_by: See `resolve_order`.

        Raises:
            UnknownFieldError: The type has no field of that name.
            InvalidFilterError: A value cannot be compared with, or the order is none.
        """
        values: list[Any] = []
        resolved = And(()) if condition is None else resolve(condition, record_type)
        tree = lower(resolved, indexed, values)
        sorts = resolve_order(order_by, record_type)
        shapes = tuple(lower_sort(sort, indexed) for sort in sorts)
        return cls(models, collection, tree, values, sorts, shapes)

    def rows(
        self,
        *columns: str,
        limit: int | None = None,
        offset: int | None = None,
        after: str | None = None,
        counts: Sequence[int] | None = None,
    ) -> Prepared:
        """Return the statement for the records themselves, in order.

        Args:
            columns: Of the records table; none for the ORM entity StoredRecord.
            limit: At most so many rows.
            offset: How many rows to skip.
            after: The token of a page, whose end they follow.
            counts: The row that `probe` returned.

        Raises:
            InvalidFilterError: The token is garbled, or was made for another order.
        """
        parameters = self._parameters()
        kinds = None
        if after is not None:
            place = page_values(self.sorts, after)
            kinds = tuple(_place_kind(item) for item in place)
            parameters.update((f"after_{n}", item) for n, item in enumerate(place))
        if limit is not None:
            parameters["limit"] = limit
        if offset is not None:
            parameters["offset"] = offset
        window = (limit is not None, offset is not None)
        driver = self._choose(limit is not None, counts)
        shape = _Shape(self.models, self.tree, columns, driver, self.shapes, kinds, window)
        return Prepared(_template(shape), parameters)

    def count(self) -> Prepared:
        """Return the statement for the number of records."""
        shape = _Shape(self.models, self.tree, "count", self._choose(False, None))
        return Prepared(_template(shape), self._parameters())

    def exists(self, counts: Sequence[int] | None = None) -> Prepared:
        """Return the statement that has a row if any record qualifies.

        Args:
            counts: The row that `probe` returned.
        """
        shape = _Shape(self.models, self.tree, "exists", self._choose(True, counts))
        return Prepared(_template(shape), self._parameters())

    def probe(self) -> Prepared | None:
        """Return a quick statement whose one row makes the next one faster; None if it cannot.

        With a LIMIT it is best to walk the records in order and look up the fields of each,
        unless few pass a test: then those should be found by its index. The probe counts them,
        up to `PROBE_LIMIT`.
        """
        if not candidates(self.tree):
            return None
        return Prepared(_template(_Shape(self.models, self.tree, "probe")), self._parameters())

    def token(self, record: Mapping[str, Any]) -> str:
        """Return the token of the page that follows a record, given as its line's JSON object."""
        return page_token(self.sorts, record)

    def _parameters(self) -> dict[str, Any]:
        parameters = {f"value_{n}": value for n, value in enumerate(self.values)}
        parameters["collection"] = self.collection
        return parameters

    def _choose(self, limited: bool, counts: Sequence[int] | None) -> int | None:
        """Return the test whose index gives the candidates, None to walk the records in order."""
        if counts:
            fewest, driver = min(zip(counts, candidates(self.tree), strict=True))
            if fewest < PROBE_LIMIT:
                return driver
        # Only columns have an order to walk in; for any other all hits must be found first.
        walks = limited and self.shapes[0].form == "column"
        return None if walks else best_driver(self.tree)


def _place_kind(item: Scalar | None) -> str:
    if item is None:
        return "none"
    return "str" if isinstance(item, str) else "int" if isinstance(item, int) else "real"


@lru_cache(maxsize=512)
def _template(shape: _Shape) -> _Template:
    collection = bindparam("collection", type_=TEXT)
    if shape.what == "probe":
        return _Template(_probe(shape, collection))
    numbers = iter(range(len(list(leaves(shape.tree)))))

    def bind(leaf: Leaf) -> ColumnElement[Any]:
        return bindparam(f"value_{next(numbers)}", type_=TYPES.get(leaf.operand, TEXT))

    where = where_clause(shape.tree, shape.models, collection, bind, shape.driver)
    statement = _selected(shape).where(where)
    if shape.after is not None:
        binds = [
            None if kind == "none" else bindparam(f"after_{n}", type_=TYPES.get(kind, TEXT))
            for n, kind in enumerate(shape.after)
        ]
        statement = statement.where(following(shape.sorts, shape.models, binds))
    return _Template(_windowed(shape, statement))


def _selected(shape: _Shape) -> Select[Any]:
    record = record_columns(shape.models)
    if shape.what == "count":
        return select(func.count()).select_from(shape.models.StoredRecord)
    if shape.what == "exists":
        return select(literal(1)).select_from(shape.models.StoredRecord).limit(1)
    if not shape.what:
        return select(shape.models.StoredRecord)
    columns: Any = select(*(record[name] for name in shape.what))
    return columns  # type: ignore[no-any-return]


def _windowed(shape: _Shape, statement: Select[Any]) -> Select[Any]:
    for sort in shape.sorts:
        statement = statement.order_by(directed(sort, sort_value(sort, shape.models)))
    limited, skipping = shape.window
    if limited:
        statement = statement.limit(bindparam("limit", type_=Integer()))
    if skipping:
        statement = statement.offset(bindparam("offset", type_=Integer()))
    return statement


def _probe(shape: _Shape, collection: ColumnElement[Any]) -> Select[Any]:
    counts = []
    for leaf, number in _numbered(shape.tree):
        operand = bindparam(f"value_{number}", type_=TYPES.get(leaf.operand, TEXT))
        found = index_seek(leaf, shape.models, collection, operand)
        some = found.limit(literal(PROBE_LIMIT)).subquery()
        counts.append(select(func.count()).select_from(some).scalar_subquery())
    statement: Any = select(*counts)
    return statement  # type: ignore[no-any-return]


def _numbered(tree: Tree) -> Iterator[tuple[Leaf, int]]:
    """Return the candidates with the numbers of their values."""
    chosen = set(candidates(tree))
    first = 0
    for number, part in enumerate(parts_of(tree)):
        if number in chosen:
            assert isinstance(part, Leaf)
            yield part, first
        first += len(list(leaves(part)))
