"""The part of config.toml that the store itself reads: which fields are indexed without a type.

Who works without record classes, as the command line does, says so in a file that git carries:

    [indexes]
    plans = ["status", "priority"]
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from taskstore._format.names import check_collection_name, check_field_name
from taskstore._format.problems import Problem
from taskstore._log.layout import Layout
from taskstore._log.locks import directory_lock
from taskstore.errors import ConfigError, InvalidNameError

__all__ = ["IndexSettings", "change_indexes", "read_indexes"]

_TABLE = "indexes"
_HEADER = re.compile(rf"\s*\[\s*{_TABLE}\s*\]\s*(?:#.*)?")
_ANY_HEADER = re.compile(r"\s*\[")
_EXAMPLE = 'plans = ["status", "priority"]'


@attrs.frozen
class IndexSettings:
    """Which fields the settings index.

    Attributes:
        fields: their names by collection.
        problem: why the settings cannot be used; then nothing is known.
    """

    fields: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    problem: Problem | None = None


def read_indexes(layout: Layout) -> IndexSettings:
    """Read the settings, as they are now.

    Settings that cannot be used are a problem, and no error: the records can be read without.
    """
    try:
        return IndexSettings(_parsed(layout.read_config(), layout))
    except ConfigError as error:
        return IndexSettings(problem=Problem(None, error.path, None, error.reason))


def change_indexes(
    layout: Layout,
    collection: str,
    *,
    add: Iterable[str] = (),
    drop: Iterable[str] = (),
    lock_timeout: float = 30.0,
) -> tuple[str, ...]:
    """Change which fields of a collection the settings index; all else in the file stays.

    Returns:
        The fields that they index now.

    Raises:
        ConfigError: the settings cannot be used, or are written in a way that only a person can
            change.
        InvalidNameError: a name is none.
        StoreAccessError: the operating system refused.
        LockTimeoutError: another writer held the lock for too long.
    """
    check_collection_name(collection)
    added = [check_field_name(name) for name in add]
    dropped = set(drop)
    lock = directory_lock(layout)
    try:
        with lock.hold(lock_timeout):
            text = layout.read_config()
            before = _parsed(text, layout, whole=True)
            names = [name for name in before.get(collection, ()) if name not in dropped]
            names += [name for name in dict.fromkeys(added) if name not in names]
            wanted = {**before, collection: tuple(names)}
            if not names:
                del wanted[collection]
            if wanted != before:
                new = _edited(text, collection, names)
                if not _says(new, layout, wanted):
                    raise ConfigError(
                        layout.config_path,
                        reason=f"[{_TABLE}] is written in a way that cannot be changed from here: "
                        f"write {_line(collection, names)} yourself",
                    )
                layout.write_config(new)
    finally:
        lock.close()
    return tuple(names)


def _parsed(text: str, layout: Layout, *, whole: bool = False) -> dict[str, tuple[str, ...]]:
    path = layout.config_path
    # What goes wrong elsewhere is of no concern to who only reads the table.
    if _TABLE not in text and not whole:
        return {}
    import tomllib  # most stores have no settings

    try:
        table = tomllib.loads(text).get(_TABLE, {})
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(path, reason=f"not TOML: {error}") from None
    if not isinstance(table, dict):
        raise ConfigError(path, reason=f"{_TABLE} must be a table, as in [{_TABLE}] {_EXAMPLE}")
    return {name: _fields(name, value, layout) for name, value in table.items()}


def _fields(name: str, value: Any, layout: Layout) -> tuple[str, ...]:
    try:
        check_collection_name(name)
        if not isinstance(value, list):
            raise TypeError(f"must be a list of field names, as in {_EXAMPLE}")
        return tuple(dict.fromkeys(check_field_name(field) for field in value))
    except (InvalidNameError, TypeError) as error:
        raise ConfigError(layout.config_path, reason=f"[{_TABLE}] {name}: {error}") from None


def _says(text: str, layout: Layout, wanted: Mapping[str, tuple[str, ...]]) -> bool:
    try:
        return _parsed(text, layout) == wanted
    except ConfigError:
        return False


def _line(collection: str, names: Iterable[str]) -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    return f"{collection} = [{quoted}]"


def _edited(text: str, collection: str, names: list[str]) -> str:
    """Return the text with one line of the table set, added or taken out; see what it then says."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    key = re.compile(rf"\s*([\"']?){re.escape(collection)}\1\s*=")
    start = next((n for n, line in enumerate(lines) if _HEADER.fullmatch(line)), None)
    if start is None:
        gap = [""] if lines and lines[-1].strip() else []
        return "\n".join([*lines, *gap, f"[{_TABLE}]", _line(collection, names), ""])
    end = next((n for n in range(start + 1, len(lines)) if _ANY_HEADER.match(lines[n])), len(lines))
    at = next((n for n in range(start + 1, end) if key.match(lines[n])), None)
    new = [_line(collection, names)] if names else []
    if at is None:
        at = start
        new = [lines[start], *new]
    lines[at : at + 1] = new
    return "\n".join([*lines, ""])
