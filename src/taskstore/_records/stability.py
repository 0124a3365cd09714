"""Line stability: an update keeps every byte of a line that it need not change."""

from __future__ import annotations

from collections.abc import Callable, Mapping

__all__ = ["Canonical", "merge_fields", "replace_fields"]

Canonical = Callable[[str, bytes], bytes | None]
"""How the codec would write the value that a field has in a line; None if it does not fit."""


def merge_fields(
    previous: Mapping[str, bytes],
    fields: Mapping[str, bytes],
    *,
    defaults: Callable[[str], bytes | None],
    canonical: Canonical,
) -> dict[str, bytes]:
    """Return a line's fields after an update by a record that may not know all of them.

    Args:
        previous: The line's fields, in its order.
        fields: The record's fields, in the order of its class.
        defaults: What a field that the line lacks would be read as.
        canonical: See `Canonical`.
    """
    merged = dict(previous)
    for name, raw in fields.items():
        before = previous.get(name)
        if before is None:
            if raw != defaults(name):
                merged[name] = raw
        elif not _same(name, before, raw, canonical):
            merged[name] = raw
    return merged


def replace_fields(
    previous: Mapping[str, bytes], fields: Mapping[str, bytes], *, canonical: Canonical
) -> dict[str, bytes]:
    """Return a line's fields after an update by a record that is the whole of it."""
    merged = {}
    for name, before in previous.items():
        raw = fields.get(name)
        if raw is not None:
            merged[name] = before if _same(name, before, raw, canonical) else raw
    return merged | {name: raw for name, raw in fields.items() if name not in previous}


def _same(name: str, before: bytes, raw: bytes, canonical: Canonical) -> bool:
    """Whether two spellings mean the same value: 1e2 and 100.0, an escaped and a plain letter."""
    if before == raw:
        return True
    known = canonical(name, before)
    return known is not None and (known == raw or known == canonical(name, raw))
