"""Orders: how records are sorted, as data and in Python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from taskstore._format.names import check_field_name
from taskstore._query.conditions import Field, Order
from taskstore._query.meaning import Kind, Scalar, scalar
from taskstore._query.resolve import RecordFacts, find_field
from taskstore.errors import InvalidFilterError


@attrs.frozen
class Sort:
    """An order by one field, resolved.

    Attributes:
        name: The field.
        kind: How its JSON is read.
        descending: From the greatest to the least.
        default: The JSON value that a missing key counts as.
    """

    name: str
    kind: Kind
    descending: bool
    default: Any = None

    def key(self, record: Mapping[str, Any]) -> Scalar | None:
        """Return what a record's JSON object is sorted by."""
        return scalar(self.kind, record.get(self.name, self.default))


_NEWEST_FIRST = (Sort("updated_at", "version", True), Sort("id", "id", False))


def resolve_order(order_by: object, type_: RecordFacts | None) -> tuple[Sort, ...]:
    """Return the sorts of an `order_by`. They always end with the id, so no two records are equal.

    Args:
        order_by: "priority", "-priority", `where("priority").desc()`, several of these in a list
            or tuple, or None for newest first.
        type_: The facts of the record type; None for plain dicts.

    Raises:
        UnknownFieldError: The type has no field of that name.
        InvalidFilterError: `order_by` has another form.
    """
    if order_by is None:
        return _NEWEST_FIRST
    given = order_by if isinstance(order_by, (list, tuple)) else (order_by,)
    sorts: dict[str, Sort] = {}
    for item in given or _DEFAULT_ORDER:
        order = _order(item)
        place = find_field(type_, order.field, order.owner)
        sort = Sort(place.name, place.kind or "plain", order.descending, place.default)
        sorts.setdefault(sort.name, sort)
    sorts.setdefault("id", Sort("id", "id", False))
    names = list(sorts)
    return tuple(sorts[name] for name in names[: names.index("id") + 1])


_DEFAULT_ORDER = (Order("updated_at", descending=True),)


def _order(item: object) -> Order:
    if isinstance(item, Order):
        return item
    if isinstance(item, Field):
        return item.asc()
    if isinstance(item, str):
        return Order(check_field_name(item.removeprefix("-")), item.startswith("-"))
    raise InvalidFilterError(
        f"cannot order by {item!r}: give a field's name, '-name' for descending, "
        "where(name).desc(), or a list of these"
    )


def sort_key(sorts: Iterable[Sort], record: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return a key by which `sorted` puts records' JSON objects in the order of `sorts`."""
    return tuple(_Key(sort.key(record), sort.descending) for sort in sorts)


def place_key(sorts: Iterable[Sort], values: Iterable[Scalar | None]) -> tuple[Any, ...]:
    """Return the `sort_key` of a record that is sorted by some values, as a page token has them."""
    return tuple(_Key(one, sort.descending) for sort, one in zip(sorts, values, strict=True))


@attrs.define(eq=False, slots=True)
class _Key:
    """A value in an order: None before numbers, numbers before strings."""

    value: Scalar | None
    descending: bool

    @property
    def _rank(self) -> tuple[int, Any]:
        if self.value is None:
            return 0, 0
        return (2 if isinstance(self.value, str) else 1), self.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._rank == other._rank

    __hash__ = None  # type: ignore[assignment]

    def __lt__(self, other: _Key) -> bool:
        if self.descending:
            return other._rank < self._rank
        return self._rank < other._rank
