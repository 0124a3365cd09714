"""From a resolved condition to the shape of its SQL and the values in it.

Conditions of one shape share one statement, which is built and compiled once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias

from taskstore._cache.sql.json_fields import Leaf
from taskstore._format.lines import encode_value
from taskstore._query.conditions import And, Condition, FilterOp, Not, Or
from taskstore._query.meaning import MAX_INT, MIN_INT, Test, holds, normal, scalar
from taskstore._query.ordering import Sort
from taskstore._query.resolve import decode_value, index_kind
from taskstore._records.indexing import IndexField

Indexed: TypeAlias = Mapping[str, IndexField]


class Branch(NamedTuple):
    """Several shapes, joined by "and" or "or", or one that is negated."""

    word: Literal["and", "or", "not"]
    parts: tuple[Any, ...]


Tree: TypeAlias = Leaf | Branch


class SortShape(NamedTuple):
    """The shape of one sort: all that decides its SQL."""

    form: str
    name: str
    kind: Any
    descending: bool
    default: int | float | str | None = None


def lower(condition: Condition, indexed: Indexed, values: list[Any]) -> Tree:
    """Return the shape of a resolved condition.

    Args:
        condition: From `resolve`.
        indexed: The collection's indexed fields, by name.
        values: Receives the value of each leaf, in the order of `leaves`.
    """
    if isinstance(condition, Test):
        leaf, value = _leaf(condition, indexed)
        values.append(value)
        return leaf
    if isinstance(condition, Not):
        return Branch("not", (lower(condition.part, indexed, values),))
    if isinstance(condition, (And, Or)):
        word: Literal["and", "or"] = "and" if isinstance(condition, And) else "or"
        return Branch(word, tuple(lower(part, indexed, values) for part in condition.parts))
    raise TypeError(f"{condition!r} is not resolved")


def leaves(tree: Tree) -> Iterator[Leaf]:
    """Return the leaves of a shape, from left to right."""
    if isinstance(tree, Leaf):
        yield tree
    else:
        for part in tree.parts:
            yield from leaves(part)


def _leaf(test: Test, indexed: Indexed) -> tuple[Leaf, Any]:
    operand, value = _operand(test)
    default = default_json = None
    default_holds = test.op is FilterOp.IS_NONE
    if test.default is not None:
        default = scalar(test.kind, test.default)
        default_json = encode_value(test.default).decode()
        default_holds = holds(test.op, normal(test.kind, test.default), test.value)
    leaf = Leaf(
        _form(test, operand, indexed.get(test.name), default_holds),
        test.name,
        test.kind,
        test.op,
        operand,
        default,
        default_json,
        default_holds,
        operand == "str" and test.op is FilterOp.CONTAINS and _is_plain(value),
        test.op is FilterOp.IN and not isinstance(test.value[0], str),
    )
    return leaf, value


def _is_plain(text: str) -> bool:
    return text.isascii() and text.replace(" ", "").replace("-", "").replace("_", "").isalnum()


def _operand(test: Test) -> tuple[str, Any]:
    value = test.value
    if test.op is FilterOp.IS_NONE:
        return "none", None
    if test.op is FilterOp.IN:
        return _list_operand(value)
    if isinstance(value, str):
        return "str", value
    if test.op is FilterOp.CONTAINS or isinstance(value, (list, dict)):
        return "json", json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        if not value.is_integer() or not MIN_INT <= value <= MAX_INT - 1024:
            return "real", value
        value = int(value)
    return ("bit" if value in (0, 1) else "int"), int(value)


def _list_operand(values: tuple[Any, ...]) -> tuple[str, str]:
    """Return a list as one JSON text; SQLite's reader is given nothing that it would change."""
    if any(isinstance(value, float) or "\0" in str(value) for value in values):
        return "odd", json.dumps([json.dumps(value) for value in values])
    kind = "strs" if isinstance(values[0], str) else "ints"
    return kind, json.dumps(values, ensure_ascii=False)


def _form(test: Test, operand: str, field: IndexField | None, default_holds: bool) -> str:
    """Return where a test finds its value: in an index if it agrees with the JSON."""
    if test.kind in ("id", "version"):
        return "column"
    # Members of lists have no index rows.
    if field is None or operand == "json" or test.op is FilterOp.CONTAINS:
        return "json"
    if index_kind(field) != test.kind:
        return "json"
    indexed_default = _default(field)
    if test.op is FilterOp.IS_NONE:
        # Lists and objects have no row either.
        return "index+json" if indexed_default == test.default else "json"
    indexed_holds = holds(test.op, normal(test.kind, indexed_default), test.value)
    if indexed_holds == default_holds:
        return "index"
    return "index+json" if indexed_holds else "json"


def _default(field: IndexField) -> Any:
    return None if field.default is None else _decoded(field.default)


@lru_cache(maxsize=1024)
def _decoded(text: str) -> Any:
    return decode_value(text)


def lower_sort(sort: Sort, indexed: Indexed) -> SortShape:
    """Return the shape of a sort."""
    if sort.kind in ("id", "version"):
        return SortShape("column", sort.name, sort.kind, sort.descending)
    default = None if sort.default is None else scalar(sort.kind, sort.default)
    field = indexed.get(sort.name)
    form = "json"
    if field is not None and index_kind(field) == sort.kind:
        indexed_default = _default(field)
        if indexed_default is not None:
            indexed_default = scalar(sort.kind, indexed_default)
        if indexed_default == default:
            form = "index"
    return SortShape(form, sort.name, sort.kind, sort.descending, default)
