"""Filters, orders and pages as SQL over the cache's tables.

`compile` gives one expression, for statements of the user's own; the store's statements are put
together in `statements`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Double,
    Integer,
    Text,
    and_,
    bindparam,
    case,
    false,
    func,
    literal,
    not_,
    or_,
    true,
    tuple_,
)
from sqlalchemy.dialects import sqlite

from taskstore._cache.schema.models import Models
from taskstore._cache.sql.condition_shapes import (
    Branch,
    Indexed,
    SortShape,
    Tree,
    lower,
    lower_sort,
)
from taskstore._cache.sql.index_fields import (
    column_test,
    index_seek,
    index_test,
    indexed_scalar,
    record_columns,
)
from taskstore._cache.sql.json_fields import Leaf, json_scalar, json_test
from taskstore._query.conditions import And, Condition, FilterOp
from taskstore._query.ordering import resolve_order
from taskstore._query.resolve import RecordFacts, resolve

TYPES: Mapping[str, Any] = {"bit": Integer(), "int": Integer(), "real": Double()}
TEXT = Text()
_DIALECT = sqlite.dialect()

Bind: TypeAlias = Callable[[Leaf], ColumnElement[Any]]


def compile(
    condition: Condition | None,
    models: Models,
    collection: str,
    record_type: RecordFacts | None,
    indexed: Indexed,
) -> ColumnElement[bool]:
    """Return a condition as an expression over the records table that is never NULL.

    It picks the collection too; that the enclosing statement does so again costs its speed.

    Args:
        condition: A filter or several joined; None for all records.
        models: The cache's models.
        collection: The collection's name.
        record_type: The facts of the record type; None for plain dicts.
        indexed: The collection's indexed fields, by name.

    Raises:
        UnknownFieldError: The type has no field of that name.
        InvalidFilterError: A value cannot be compared with.
    """
    values: list[Any] = []
    resolved = And(()) if condition is None else resolve(condition, record_type)
    tree = lower(resolved, indexed, values)
    given = iter(values)

    def bind(leaf: Leaf) -> ColumnElement[Any]:
        return bindparam(None, next(given), type_=TYPES.get(leaf.operand, TEXT), unique=True)

    where = bindparam(None, collection, type_=TEXT, unique=True)
    return where_clause(tree, models, where, bind, best_driver(tree))


def order_columns(
    order_by: object, models: Models, record_type: RecordFacts | None, indexed: Indexed
) -> list[ColumnElement[Any]]:
    """Return what a statement of the user's own is to ORDER BY; see `resolve_order`."""
    shapes = [lower_sort(sort, indexed) for sort in resolve_order(order_by, record_type)]
    return [directed(shape, sort_value(shape, models)) for shape in shapes]


def where_clause(
    tree: Tree, models: Models, collection: ColumnElement[Any], bind: Bind, driver: int | None
) -> ColumnElement[bool]:
    """Return the SQL of a shape, with the choice of the collection.

    Args:
        tree: The shape.
        models: The cache's models.
        collection: The collection's name.
        bind: Gives the value of each leaf, from left to right.
        driver: The number of the top-level leaf whose index gives the candidates, if one does.
    """
    record = record_columns(models)
    found: list[ColumnElement[bool]] = []
    first: tuple[Leaf, ColumnElement[Any]] | None = None
    others: list[tuple[Leaf, ColumnElement[Any]]] = []
    if driver is None:
        found.append(record.collection == collection)
    for number, part in enumerate(parts_of(tree)):
        if number == driver and isinstance(part, Leaf):
            first = part, bind(part)
            if part.form == "index+json":
                found.append(json_test(part, record.data_json, first[1]))
        elif driver is not None and isinstance(part, Leaf) and part.form == "index":
            others.append((part, bind(part)))
        else:
            found.append(_expression(part, models, bind))
    if first is not None:
        # With both columns, and no other word on the collection, SQLite has but one way to
        # begin: else it may walk the whole collection for the sake of the order.
        key = tuple_(record.collection, record.id)
        leaf, operand = first
        found.insert(0, key.in_(index_seek(leaf, models, collection, operand, others)))
    return and_(*found)


def _expression(tree: Tree, models: Models, bind: Bind) -> ColumnElement[bool]:
    if isinstance(tree, Leaf):
        return _leaf(tree, models, bind(tree))
    parts = [_expression(part, models, bind) for part in tree.parts]
    if tree.word == "not":
        return not_(parts[0])
    return and_(true(), *parts) if tree.word == "and" else or_(false(), *parts)


def _leaf(leaf: Leaf, models: Models, operand: ColumnElement[Any]) -> ColumnElement[bool]:
    data = record_columns(models).data_json
    if leaf.form == "column":
        return column_test(leaf, models, operand)
    if leaf.form == "json":
        return json_test(leaf, data, operand)
    by_index = index_test(leaf, models, operand)
    if leaf.form == "index":
        return by_index
    # CASE, because AND guarantees no order, and reading the line is slower.
    by_json = case((json_test(leaf, data, operand), literal(1)), else_=literal(0))
    return case((by_index, by_json), else_=literal(0)) == literal(1)


def parts_of(tree: Tree) -> tuple[Tree, ...]:
    """Return the shapes that must all hold."""
    return tree.parts if isinstance(tree, Branch) and tree.word == "and" else (tree,)


_EXACT = (FilterOp.EQ, FilterOp.IN)


def candidates(tree: Tree) -> dict[int, Leaf]:
    """Return the top-level tests that an index can give the candidates for, by their numbers."""
    return {
        number: part
        for number, part in enumerate(parts_of(tree))
        if isinstance(part, Leaf)
        and part.form in ("index", "index+json")
        and part.op is not FilterOp.IS_NONE
    }


def best_driver(tree: Tree) -> int | None:
    """Return the test to begin with if all hits are wanted and nothing else is known."""
    numbers = candidates(tree)
    exact = (number for number, leaf in numbers.items() if leaf.op in _EXACT)
    return next(exact, next(iter(numbers), None))


def sort_value(shape: SortShape, models: Models) -> ColumnElement[Any]:
    record = record_columns(models)
    if shape.form == "column":
        column: ColumnElement[Any] = record.id if shape.kind == "id" else record.updated_at_us
        return column
    if shape.form == "index":
        return indexed_scalar(models, shape.name)
    return json_scalar(record.data_json, shape.name, shape.kind, shape.default)


def directed(shape: SortShape, by: ColumnElement[Any]) -> ColumnElement[Any]:
    # SQLite puts NULL before numbers and numbers before text, as `Sort.key` means it.
    return by.desc() if shape.descending else by.asc()


def following(
    shapes: Sequence[SortShape], models: Models, binds: Sequence[ColumnElement[Any] | None]
) -> ColumnElement[bool]:
    """Return the condition for rows after given values; None means NULL."""
    follows: ColumnElement[bool] = false()
    for shape, bind in zip(reversed(shapes), reversed(binds), strict=True):
        by = sort_value(shape, models)
        equal = by.is_(None) if bind is None else by.is_not_distinct_from(bind)
        follows = or_(_beyond(shape, by, bind), and_(equal, follows))
    first, bind = shapes[0], binds[0]
    if first.form == "column" and bind is not None:
        # Says nothing new, but an index can be entered with it.
        by = sort_value(first, models)
        follows = and_(by <= bind if first.descending else by >= bind, follows)
    return follows


def _beyond(
    shape: SortShape, by: ColumnElement[Any], bind: ColumnElement[Any] | None
) -> ColumnElement[bool]:
    if bind is None:
        return false() if shape.descending else by.is_not(None)
    if shape.form == "column":
        return by < bind if shape.descending else by > bind
    beyond = by < bind if shape.descending else by > bind
    return func.coalesce(beyond, literal(int(shape.descending))) == literal(1)
