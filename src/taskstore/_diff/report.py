"""Differences as Markdown for a pull request, and as a page of HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from taskstore._diff.changes import MISSING, RecordChange
from taskstore._diff.text import as_json
from taskstore._text import visible

Changes = Sequence[tuple[str, RecordChange]]
"""Collections with the changes of their records."""

_LONG = 300
"""How many characters of a value are shown."""

_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")
_STYLE = (
    "body{font-family:sans-serif;max-width:60em;margin:2em auto}"
    "table{border-collapse:collapse;width:100%}"
    "td,th{border:1px solid #ccc;padding:.3em .5em;text-align:left;vertical-align:top}"
    "code{white-space:pre-wrap;overflow-wrap:anywhere}"
    "td.old{background:#fdd}td.new{background:#dfd}"
)


class _Name(str):
    """A name, which is shown without quotes."""

    __slots__ = ()


@attrs.frozen
class Count:
    """How many records of a collection differ.

    Attributes:
        collection: The collection.
        created, changed, deleted: How many are of each kind.
        fields: How many values differ.
    """

    collection: str
    created: int
    changed: int
    deleted: int
    fields: int


def counts(changes: Changes) -> list[Count]:
    """Return how many records differ, for each collection in which any does."""
    found = []
    for name in dict.fromkeys(name for name, _ in changes):
        own = [change for other, change in changes if other == name]
        kinds = [change.kind for change in own]
        created, changed, deleted = map(kinds.count, ("created", "changed", "deleted"))
        fields = sum(len(change.fields) for change in own)
        found.append(Count(name, created, changed, deleted, fields))
    return found


def to_markdown(changes: Changes, *, only_counts: bool = False) -> Iterator[str]:
    """Yield the lines of a text that a forge shows as tables.

    Values are text whatever they contain: no markup, link, mention or HTML.
    """
    if not changes:
        yield "No record differs."
        return
    yield "| collection | created | changed | deleted |"
    yield "|---|---|---|---|"
    for count in counts(changes):
        numbers = f"{count.created} | {count.changed} | {count.deleted}"
        yield f"| {_literal(_Name(count.collection))} | {numbers} |"
    for name, change in () if only_counts else changes:
        yield ""
        yield f"**{_literal(_Name(f'{name}/{change.id}'))}**: {change.kind}"
        if change.fields:
            yield ""
            yield "| field | old | new |"
            yield "|---|---|---|"
            for field in change.fields:
                sides = f"{_literal(field.old)} | {_literal(field.new)}"
                yield f"| {_literal(_Name(field.field))} | {sides} |"


def to_html(changes: Changes, *, only_counts: bool = False) -> Iterator[str]:
    """Yield the lines of a page that needs no other files and runs no scripts."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Changes</title>'
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    yield f"<style>{_STYLE}</style></head><body>"
    yield "<table><tr><th>collection<th>created<th>changed<th>deleted</tr>"
    for count in counts(changes):
        numbers = f"<td>{count.created}<td>{count.changed}<td>{count.deleted}"
        yield f"<tr><td>{_escaped(count.collection)}{numbers}</tr>"
    yield "</table>"
    for name, change in () if only_counts else changes:
        yield f"<h3>{_escaped(f'{name}/{change.id}')}: {change.kind}</h3>"
        if change.fields:
            yield "<table><tr><th>field<th>old<th>new</tr>"
            for field in change.fields:
                old, new = _escaped(_text(field.old)), _escaped(_text(field.new))
                sides = f'<td class="old"><code>{old}</code><td class="new"><code>{new}</code>'
                yield f"<tr><td>{_escaped(field.field)}{sides}</tr>"
            yield "</table>"
    yield "</body></html>"


def _text(value: Any) -> str:
    if value is MISSING:
        return ""
    text = as_json(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."


def _escaped(text: str) -> str:
    return html.escape(visible(text))


def _literal(value: Any) -> str:
    """Return a value as plain text in Markdown: names as they are, other values as JSON."""
    text = visible(value if isinstance(value, _Name) else _text(value))
    if not text:
        return ""
    # A character written as its number has no special meaning in Markdown.
    return f"<code>{_PUNCTUATION.sub(lambda found: f'&#{ord(found.group())};', text)}</code>"
