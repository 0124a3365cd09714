"""The record types of an application, found in the modules that declare them."""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from taskstore._format.config import check_module_name
from taskstore._records.declaration import COLLECTION
from taskstore._records.types import RecordType
from taskstore.errors import TaskstoreError


class TypesError(TaskstoreError):
    """A module for record types cannot be imported, or has no record types."""

    module: str
    reason: str

    def __init__(self, module: str, *, reason: str) -> None:
        super().__init__(f"types of {module}: {reason}", module=module, reason=reason)


def load_types(modules: Iterable[str], *, folder: Path | None = None) -> list[RecordType[Any]]:
    """Import modules and return their record types, including those that they import.

    Args:
        modules: Names such as `package.module`.
        folder: A further directory to search. By default, the working directory is not searched,
            unless a package is installed there, because it may be the clone of a stranger.

    Raises:
        TypesError: A module cannot be imported, is a program, or has no record type.
    """
    found: dict[type[Any], RecordType[Any]] = {}
    with _searching(folder):
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
        module = import_module(check_module_name(name))
    except Exception as error:
        raise TypesError(name, reason=f"{type(error).__name__}: {error}") from error
    for value in list(vars(module).values()):
        if isinstance(value, type) and COLLECTION in vars(value):
            try:
                yield RecordType.of(value)
            except TaskstoreError as error:
                raise TypesError(name, reason=str(error)) from error


def place_of(name: str) -> str | None:
    """Return the place that a module would be imported from; None if it is not found.

    This imports nothing.
    """
    with _searching(None):
        try:
            found = find_spec(name.partition(".")[0])
        except ValueError:  # of a module that was made by hand
            return None
    if found is None:
        return None
    return found.origin or next(iter(found.submodule_search_locations or ()), None)


@contextmanager
def _searching(folder: Path | None) -> Iterator[None]:
    """Search modules where packages are installed, and in `folder` if it is given."""
    before = sys.path[:]
    sys.path[:] = _installed(before) if folder is None else [str(folder), *before]
    try:
        yield
    finally:
        sys.path[:] = before


def _installed(entries: list[str]) -> list[str]:
    """Leave the working directory out, which Python or PYTHONPATH may have put there."""
    try:
        here = os.path.realpath(os.getcwd())
    except FileNotFoundError:
        here = ""
    if here in map(os.path.realpath, _packages()):
        here = ""
    return [entry for entry in entries if os.path.isabs(entry) and os.path.realpath(entry) != here]


def _packages() -> Iterator[str]:
    """Yield the directories of installed packages, and those that their .pth files name."""
    for folder in {*site.getsitepackages(), site.getusersitepackages()}:
        yield folder
        for path in Path(folder).glob("*.pth"):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                if line.strip() and not line.startswith(("#", "import ", "import\t")):
                    yield os.path.join(folder, line.strip())
