"""The record types of an application, found in the modules that declare them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from taskstore._records.declaration import COLLECTION
from taskstore._records.types import RecordType
from taskstore.errors import TaskstoreError

__all__ = ["TypesError", "load_types", "policies_of"]


class TypesError(TaskstoreError):
    """A module that is to hold record types cannot be imported, or holds none."""

    module: str
    reason: str

    def __init__(self, module: str, *, reason: str) -> None:
        super().__init__(f"types of {module}: {reason}", module=module, reason=reason)


def load_types(modules: Iterable[str], *, folder: Path | None = None) -> list[RecordType[Any]]:
    """Import modules and return the record types that they have, also imported ones.

    Args:
        modules: Names such as `package.module`.
        folder: A directory to look in as well. A module that is named by a file of the repository
            is not looked for there: a clone alone must not make anybody run its code.

    Raises:
        TypesError: A module cannot be imported, or has no record type.
    """
    found: dict[type[Any], RecordType[Any]] = {}
    with _importable(folder):
        for name in modules:
            types = list(_types_in(name))
            if not types:
                raise TypesError(name, reason="no class in it is declared with @record")
            found.update((type.cls, type) for type in types)
    return list(found.values())


def policies_of(types: Iterable[RecordType[Any]]) -> dict[str, dict[str, str]]:
    """Return the merge policies that record types name, by collection and field."""
    found: dict[str, dict[str, str]] = {}
    for type in types:
        if type.merge_policies:
            found.setdefault(type.collection, {}).update(type.merge_policies)
    return found


def _types_in(name: str) -> Iterator[RecordType[Any]]:
    try:
        module = import_module(name)
    except Exception as error:
        raise TypesError(name, reason=f"{type(error).__name__}: {error}") from error
    for value in list(vars(module).values()):
        if isinstance(value, type) and COLLECTION in vars(value):
            try:
                yield RecordType.of(value)
            except TaskstoreError as error:
                raise TypesError(name, reason=str(error)) from error


@contextmanager
def _importable(folder: Path | None) -> Iterator[None]:
    if folder is None:
        yield
        return
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
