"""Puts rows that refer to rows of their own table after those."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

from taskstore._mirror.shape import Row

__all__ = ["parents_first"]

T = TypeVar("T")


def parents_first(items: Sequence[T], row_of: Callable[[T], Row]) -> list[T]:
    """Return items in an order in which rows come after those that they refer to.

    Args:
        items: whose rows are of one shape.
        row_of: the row of an item.
    """
    links = _own_links(row_of(items[0])) if items else []
    if not links:
        return list(items)
    by_key = {
        (place, _values(row_of(item), referred)): item
        for item in items
        for place, (_, referred) in enumerate(links)
    }
    ordered: dict[int, T] = {}
    for item in items:
        # A walk up the parents; those of a circle come as they are met.
        path = [item]
        met = {id(item)}
        while path:
            row = row_of(path[-1])
            keys = [(place, _values(row, own)) for place, (own, _) in enumerate(links)]
            above = [by_key[key] for key in keys if key in by_key]
            wanted = [one for one in above if id(one) not in ordered and id(one) not in met]
            if wanted:
                path.append(wanted[0])
                met.add(id(wanted[0]))
            else:
                done = path.pop()
                ordered.setdefault(id(done), done)
    return list(ordered.values())


def _own_links(row: Row) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The foreign keys of a table to itself, as the attributes on both of their sides."""
    table = row.shape.tables[0]
    names: dict[Any, str] = {
        column: name for name, field in row.shape.fields.items() for column in field.columns
    }
    found = []
    for constraint in table.foreign_key_constraints:
        own = [element.parent for element in constraint.elements]
        if constraint.referred_table is table:
            referred = [element.column for element in constraint.elements]
            if all(column in names for column in (*own, *referred)):
                found.append(
                    (tuple(names[one] for one in own), tuple(names[one] for one in referred))
                )
    return found


def _values(row: Row, names: tuple[str, ...]) -> tuple[Hashable, ...]:
    return tuple(row.values.get(name) for name in names)
