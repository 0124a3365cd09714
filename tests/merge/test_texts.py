"""The line merge of long texts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taskstore._merge.texts import MAX_LINES, merge_text

texts = st.lists(st.sampled_from("abcd"), max_size=8).map("\n".join)
sides = st.sampled_from([0, 1, None])


def text(base: str, first: str, second: str, newer: int | None) -> str:
    """The merged text."""
    found = merge_text(base, first, second, newer=newer)
    assert found is not None
    return found[0]


@given(texts, texts, sides)
def test_a_change_of_one_side_is_taken_whole(base: str, changed: str, newer: int | None) -> None:
    """A text that one side alone changed, or both the same, is that side's."""
    assert (changed, True) == merge_text(base, changed, base, newer=newer)
    assert (changed, True) == merge_text(base, changed, changed, newer=newer)


@given(texts, texts, texts, sides)
def test_the_sides_can_be_exchanged(base: str, first: str, second: str, newer: int | None) -> None:
    """The result is the same whichever side comes first."""
    other = None if newer is None else 1 - newer
    assert text(base, first, second, newer) == text(base, second, first, other)


def test_additions_at_one_place_are_all_kept() -> None:
    """Lines that both sides put at one place stay, the newer side's last, and stay so."""
    merged = text("1\n2", "1\n2\no", "1\n2\nt", 0)
    assert "1\n2\nt\no" == merged
    assert merged == text("1\n2", merged, "1\n2\nt", None)
    assert merged == text("1\n2", merged, "1\n2\no", None)


def test_lines_that_both_changed_are_the_newer_side_s() -> None:
    """Of lines that both changed the newer side's are taken; what lies apart is kept of both."""
    found = merge_text("1\n2\n3\n4\n5", "1\no\n3\n4\n5!", "0\n1\nt\n3\n4\n5", newer=1)
    assert ("0\n1\nt\n3\n4\n5!", False) == found


def test_very_long_texts_are_not_compared() -> None:
    """A text of too many lines is not merged by lines."""
    assert merge_text("", "\n" * MAX_LINES, "a", newer=0) is None


def test_changes_that_touch_are_one() -> None:
    """Changes of neighbouring lines count as one place, so that merging again agrees."""
    assert ("1\nt\n3", False) == merge_text("1\n2\n3", "o\n2\n3", "1\nt\n3", newer=1)
