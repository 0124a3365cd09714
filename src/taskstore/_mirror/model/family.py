"""Which classes share the tables of a mirrored one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Table
from sqlalchemy.orm import Mapper


def line_of(mapper: Mapper[Any]) -> Iterator[Mapper[Any]]:
    """Yield a class and those above it whose tables its rows are in, the nearest first.

    With concrete inheritance a class has all columns in a table of its own.
    """
    for one in mapper.iterate_to_root():
        yield one
        if one.concrete:
            return


def root_of(mapper: Mapper[Any]) -> Mapper[Any]:
    """Return the class that represents a class in the log."""
    return list(line_of(mapper))[-1]


def family_of(root: Mapper[Any]) -> list[Mapper[Any]]:
    """Return a class and those below it whose rows are in its collection."""
    return [one for one in root.self_and_descendants if root_of(one) is root]


def is_root(mapper: Mapper[Any]) -> bool:
    """Return whether a class has a collection of its own.

    One that is mapped to the union of the classes below it has no rows.
    """
    if isinstance(mapper.local_table, Table) or len(family_of(mapper)) > 1:
        return root_of(mapper) is mapper
    return root_of(mapper) is mapper and len(list(mapper.self_and_descendants)) == 1
