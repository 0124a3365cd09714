"""Which tables and indexes an SQL text would change, for engines without SQLite's authorizer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

__all__ = ["deletes", "set_names", "written_names"]

_TOKEN = re.compile(
    r"""--[^\n]*|/\*.*?\*/|(?P<string>'(?:[^']|'')*')"""  # comments are passed over
    r"""|"(?P<double>(?:[^"]|"")*)"|`(?P<back>[^`]*)`|\[(?P<square>[^\]]*)\]"""
    r"""|(?P<word>[^\W\d][\w$]*)|(?P<mark>[.;(),])""",
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
_DELETING = {
    ("delete", "from"),
    ("replace", "into"),
    ("insert", "or", "replace"),
    ("update", "or", "replace"),
    ("drop", "table"),
}
# What ends the assignments of a SET.
_ENDS = {"where", "returning"}
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


@lru_cache(maxsize=1024)
def deletes(sql: str) -> bool:
    """Whether a statement may delete rows, also to put others in their place."""
    tokens = list(_tokens(sql))
    found: set[tuple[str, ...]] = {
        *pairwise(tokens),
        *zip(tokens, tokens[1:], tokens[2:], strict=False),
    }
    return not found.isdisjoint(_DELETING)


@lru_cache(maxsize=1024)
def set_names(sql: str) -> frozenset[str]:
    """Return the names, in lower case, of the columns that a statement gives other values.

    Of an INSERT these are the columns of its DO UPDATE.
    """
    found: set[str] = set()
    depth, targets = 0, False
    of_set = -1
    for match in _TOKEN.finditer(sql):
        if match.lastgroup is None:
            continue
        word = _text(match)
        if match.lastgroup == "mark":
            depth += {"(": 1, ")": -1}.get(word, 0)
            targets = targets if word == "(" else word == "," and (targets or depth == of_set)
            continue
        if targets:
            found.add(_unquoted(word))
            targets = depth > of_set
        elif match.lastgroup == "word" and word == "set":
            of_set, targets = depth, True
        elif match.lastgroup == "word" and word in _ENDS and depth == of_set:
            of_set = -1
    return frozenset(found)


def _tokens(sql: str) -> Iterator[str]:
    for match in _TOKEN.finditer(sql):
        if match.lastgroup is not None:
            yield _text(match)


def _text(match: re.Match[str]) -> str:
    """A token; a string keeps a quote in front, so that it is never taken for a keyword."""
    assert match.lastgroup is not None
    text = match[match.lastgroup].lower()
    return text[:-1] if match.lastgroup == "string" else text.replace('""', '"')


def _unquoted(name: str) -> str:
    """A name; SQLite takes a string for one where nothing else can stand."""
    return name[1:].replace("''", "'") if name.startswith("'") else name


def _skip(tokens: list[str], place: int) -> int:
    while place < len(tokens) and tokens[place] in _FILLING:
        place += 1
    return place


def _name(tokens: list[str], place: int) -> str:
    """The name that stands at a place, perhaps after OR IGNORE, IF EXISTS or a schema."""
    place = _skip(tokens, place)
    if tokens[place + 1 : place + 2] == ["."]:
        place += 2
    return _unquoted(tokens[place]) if place < len(tokens) else ""
