"""The settings of a store, and the part of them that it writes: fields indexed without a type.

Tools without record classes, such as the command line, read them from a tracked file:

    [indexes]
    plans = ["status", "priority"]
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from taskstore._format.config import Config, decode_config
from taskstore._format.names import check_collection_name, check_field_name
from taskstore._format.problems import Problem
from taskstore._log.layout import Layout
from taskstore._log.locks import directory_lock
from taskstore.errors import ConfigError

_TABLE = "indexes"
_HEADER = re.compile(rf"\s*\[\s*{_TABLE}\s*\]\s*(?:#.*)?")
_ANY_HEADER = re.compile(r"\s*\[")


def read_settings(layout: Layout) -> Config:
    """Return the present settings. Unusable ones are faults, not errors."""
    try:
        return decode_config(layout.read_config())
    except ConfigError as error:
        return Config(faults={"": error.reason})


def settings_problems(layout: Layout) -> list[Problem]:
    """Return why settings, or other small files of a store, cannot be used.

    Records can be read and written without any of them.
    """
    path = str(layout.config_path)
    found = [Problem(None, path, None, why) for why in read_settings(layout).faults.values()]
    ignore = layout.ignore_problem()
    return found if ignore is None else [*found, ignore]


def change_indexes(
    layout: Layout,
    collection: str,
    *,
    add: Iterable[str] = (),
    drop: Iterable[str] = (),
    lock_timeout: float = 30.0,
) -> tuple[str, ...]:
    """Change the indexed fields of a collection in the settings. All else in the file stays.

    Returns:
        The fields that are indexed now.

    Raises:
        ConfigError: The settings cannot be used, or are written in a way that only a person can
            change.
        InvalidNameError: A name is not valid.
        StoreAccessError: The operating system refused.
        LockTimeoutError: Another writer held the lock for too long.
    """
    check_collection_name(collection)
    added = [check_field_name(name) for name in add]
    dropped = set(drop)
    lock = directory_lock(layout)
    try:
        with lock.hold(lock_timeout):
            text = layout.read_config()
            config = decode_config(text)
            config.check(_TABLE, layout.config_path)
            before = config.indexes
            names = [name for name in before.get(collection, ()) if name not in dropped]
            names += [name for name in dict.fromkeys(added) if name not in names]
            wanted = {**before, collection: tuple(names)}
            if not names:
                del wanted[collection]
            if wanted != before:
                layout.write_config(_changed(text, collection, names, wanted, layout))
    finally:
        lock.close()
    return tuple(names)


def _changed(
    text: str,
    collection: str,
    names: list[str],
    wanted: Mapping[str, tuple[str, ...]],
    layout: Layout,
) -> str:
    """Return the text with the wanted fields.

    Raises:
        ConfigError: Only a person can write it, or it would exceed a limit.
    """
    new = _edited(text, collection, names)
    config = decode_config(new)
    if config.indexes == wanted:
        return new
    reason = config.faults.get(_TABLE) or (
        f"[{_TABLE}] is written in a way that cannot be changed from here: "
        f"write {_line(collection, names)} yourself"
    )
    raise ConfigError(layout.config_path, reason=reason)


def _line(collection: str, names: Iterable[str]) -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    return f"{collection} = [{quoted}]"


def _edited(text: str, collection: str, names: list[str]) -> str:
    """Return the text with one line of the table set, added or removed, and its content."""
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
