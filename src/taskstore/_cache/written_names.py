"""Which tables and indexes an SQL text would change, for engines without SQLite's authorizer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

__all__ = ["written_names"]

_TOKEN = re.compile(
    r"""--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'"""  # comments and strings are passed over
    r"""|"(?P<double>(?:[^"]|"")*)"|`(?P<back>[^`]*)`|\[(?P<square>[^\]]*)\]"""
    r"""|(?P<word>[^\W\d][\w$]*)|(?P<mark>[.;(])""",
    re.DOTALL,
)
_VERBS = {
    ("insert", "into"),
    ("replace", "into"),
    ("delete", "from"),
    ("drop", "table"),
    ("drop", "index"),
    ("alter", "table"),
}
# What may stand between the verb and the name.
_FILLING = {"or", "abort", "fail", "ignore", "replace", "rollback", "if", "exists"}


@lru_cache(maxsize=1024)
def written_names(sql: str) -> frozenset[str]:
    """Return the names, in lower case and without schema, of what a statement writes.

    What its triggers and views would write is not seen.
    """
    found: set[str] = set()
    tokens = list(_tokens(sql))
    for place, word in enumerate(tokens):
        if word == "update":
            found.add(_name(tokens, place + 1))
        elif word == "on" and "create" in tokens[:place]:
            # The table of an index or a trigger that is made.
            found.add(_name(tokens, place + 1))
        elif word in ("insert", "replace", "delete", "drop", "alter"):
            follower = _skip(tokens, place + 1)
            if follower < len(tokens) and (word, tokens[follower]) in _VERBS:
                found.add(_name(tokens, follower + 1))
    return frozenset(found)


def _tokens(sql: str) -> Iterator[str]:
    for match in _TOKEN.finditer(sql):
        if match.lastgroup is not None:
            yield match[match.lastgroup].replace('""', '"').lower()


def _skip(tokens: list[str], place: int) -> int:
    while place < len(tokens) and tokens[place] in _FILLING:
        place += 1
    return place


def _name(tokens: list[str], place: int) -> str:
    """The name that stands at a place, perhaps after OR IGNORE, IF EXISTS or a schema."""
    place = _skip(tokens, place)
    if tokens[place + 1 : place + 2] == ["."]:
        place += 2
    return tokens[place] if place < len(tokens) else ""
