"""The word that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["nearest", "slip"]

_SLIP = 0.8
"""How like a known word a new one must be to be taken for a slip: one letter of five."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is most like another one, whatever their case, or None."""
    by_folded = {name.casefold(): name for name in known}
    found = get_close_matches(word.casefold(), by_folded, n=1)
    return by_folded[found[0]] if found else None


def slip(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that a new one is so like that it is probably a slip, or None.

    That is stricter than `nearest`: who asks in vain wants any hint, but who makes something new
    is to be stopped for a reason only.
    """
    by_folded = {name.casefold(): name for name in known}
    folded = word.casefold()
    found = get_close_matches(folded, by_folded, n=1, cutoff=_SLIP)
    if not found:
        letters = sorted(folded)
        found = [name for name in by_folded if sorted(name) == letters]
    return by_folded[found[0]] if found else None
