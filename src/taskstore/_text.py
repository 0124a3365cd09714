"""Text for people, in which nothing steers the terminal that shows it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

# C0 and C1 controls and DEL; the marks that change the direction of text (Unicode's Bidi_Control);
# the line and paragraph separators; surrogates, which some streams write as single bytes of C1.
_STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_NAMED = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def visible(text: str) -> str:
    """Return a text on one line, with whatever could steer a terminal shown as an escape."""
    # All that steers is not printable, and nearly every text is.
    return text if text.isprintable() else _STEERING.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    return _NAMED.get(character) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


_SLIP = 0.8
"""How like a known word a new one must be to be taken for a slip: one letter of five."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is most like another one, whatever their case, or None."""
    by_folded = {name.casefold(): name for name in known}
    found = get_close_matches(word.casefold(), by_folded, n=1)
    return by_folded[found[0]] if found else None


def slip(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that a new one is so like that it is probably a slip, or None.

    This is stricter than `nearest`. Any hint helps after a failed lookup, but a new name should
    be questioned only with good reason.
    """
    by_folded = {name.casefold(): name for name in known}
    folded = word.casefold()
    found = get_close_matches(folded, by_folded, n=1, cutoff=_SLIP)
    if not found:
        letters = sorted(folded)
        found = [name for name in by_folded if sorted(name) == letters]
    return by_folded[found[0]] if found else None
