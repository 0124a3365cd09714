"""Add to the text of a config.toml and keep every byte that a person wrote.

Only whole lines are added. The new text is then read again, so a file with an unusual form is
refused instead of damaged.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from taskstore._format.config import decode_config, parse_toml
from taskstore.errors import ConfigError

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_HEADER = re.compile(r"\s*\[")


def add_policies(text: str, wanted: Mapping[str, Mapping[str, str]], path: str) -> str:
    """Return the settings with the merge policies that they lack.

    Args:
        text: The settings.
        wanted: Policies by collection and field. A field that already has one keeps it.
        path: Where the settings come from, for messages.

    Raises:
        ConfigError: They are no TOML, or of a form that only a person can add to.
    """
    for collection, policies in wanted.items():
        before = _parsed(text, path, "merge")
        known = before.get("merge", {}).get(collection, {})
        lines = [
            f"{_key(field)} = {json.dumps(policy)}"
            for field, policy in policies.items()
            if field not in known
        ]
        if lines:
            after = {**before, "merge": {**before.get("merge", {})}}
            after["merge"][collection] = {**policies, **known}
            text = _checked(_in_table(text, f"merge.{_key(collection)}", lines), after, lines, path)
    return text


def add_types(text: str, modules: Sequence[str], path: str) -> str:
    """Return the settings with the names of modules that hold record types.

    Raises:
        ConfigError: They are no TOML, or name other modules already.
    """
    before = _parsed(text, path, "types")
    known = before.get("types", [])
    if set(modules) <= set(known):
        return text
    line = f"types = {json.dumps([*known, *(name for name in modules if name not in known)])}"
    lines = text.splitlines(keepends=True)
    if known:
        found = [n for n, old in enumerate(lines) if re.match(r"types\s*=", old)]
        lines[found[0] : found[0] + 1] = [line + "\n"] if found else []
    else:
        # Keys that belong to no table come before the first table.
        first = next((n for n, old in enumerate(lines) if _HEADER.match(old)), len(lines))
        if first and not lines[first - 1].endswith("\n"):
            lines[first - 1] += "\n"
        lines[first:first] = [line + "\n", *(["\n"] if first < len(lines) else [])]
    after = {**before, "types": parse_toml(line)["types"]}
    return _checked("".join(lines), after, [line], path)


def _parsed(text: str, path: str, table: str) -> dict[str, Any]:
    decode_config(text).check(table, path)
    return parse_toml(text)


def _checked(text: str, wanted: Mapping[str, Any], lines: Sequence[str], path: str) -> str:
    with contextlib.suppress(ValueError):  # said below, in words that help
        if parse_toml(text) == wanted:
            return text
    raise ConfigError(
        path, reason=f"it cannot be edited automatically: add {'; '.join(lines)} yourself"
    )


def _in_table(text: str, table: str, added: Sequence[str]) -> str:
    """Return the text with lines added at the end of a table, which is created if missing."""
    lines = text.splitlines(keepends=True)
    header = re.compile(rf"\s*\[\s*{re.escape(table)}\s*\]\s*(?:#.*)?")
    start = next((n for n, line in enumerate(lines) if header.fullmatch(line.rstrip())), None)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    rows = [f"{row}\n" for row in added]
    if start is None:
        return "".join([*lines, *(["\n"] if lines else []), f"[{table}]\n", *rows])
    rest = range(start + 1, len(lines))
    end = next((n for n in rest if _HEADER.match(lines[n])), len(lines))
    while end > start + 1 and not lines[end - 1].strip():
        end -= 1
    return "".join([*lines[:end], *rows, *lines[end:]])


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)
