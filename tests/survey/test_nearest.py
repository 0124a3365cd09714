"""Which words are taken for slips, and which for new ones."""

from __future__ import annotations

import pytest

from taskstore._text import nearest, slip


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("titel", "title", "title"),
        ("Titles", "title", "title"),
        ("plnas", "plans", "plans"),
        ("nmae", "name", "name"),
        ("owner", "done", None),
        ("notes", "note_at", None),
        ("x", "priority", None),
    ],
)
def test_only_what_is_very_like_a_known_word_is_a_slip(
    word: str, known: str, meant: str | None
) -> None:
    """A letter too many, too few or in another place is a slip; what is less like is new."""
    assert meant == slip(word, ["other", known])


def test_a_hint_may_be_further_off() -> None:
    """For who asks in vain, any word that is somewhat like is worth a hint."""
    assert "done" == nearest("owner", ["done", "title"])
