"""The merged order of keys."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from taskstore._merge.lists import merge_order, repeated, text_of

KEYS = [b"a", b"b", b"c", b"d", b"e"]
orders = st.lists(st.sampled_from(KEYS), unique=True)


@st.composite
def histories(draw: Any) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """A list and two changed versions of it, each key in it once."""
    base = draw(orders)
    sides = [list(draw(st.permutations(base) | st.just(base))) for _ in range(2)]
    for side in sides:
        for key in draw(orders):
            if key not in side:
                side.insert(draw(st.integers(0, len(side))), key)
    return base, sides[0], sides[1]


def merged(base: list[bytes], first: list[bytes], second: list[bytes]) -> list[bytes]:
    """The merged order of everything that either side has."""
    kept = {*first, *second}
    return merge_order(base, first, second, kept=kept, later=lambda run, other: run > other)


@given(histories())
def test_the_order_does_not_depend_on_the_sides(
    lists: tuple[list[bytes], list[bytes], list[bytes]],
) -> None:
    """The merged order is the same whichever side comes first, and has each key once."""
    base, first, second = lists
    result = merged(base, first, second)
    assert result == merged(base, second, first)
    assert sorted({*first, *second}) == sorted(result)


@given(histories())
def test_an_order_that_one_side_changed_is_kept(
    lists: tuple[list[bytes], list[bytes], list[bytes]],
) -> None:
    """Where one side has the base's order, the other's is the result, additions included."""
    base, first, _ = lists
    assert first == merged(base, first, base)


@given(histories())
def test_an_order_merged_again_stays(
    lists: tuple[list[bytes], list[bytes], list[bytes]],
) -> None:
    """A merged order that is merged with either side once more is the same."""
    base, first, second = lists
    result = merged(base, first, second)
    assert result == merged(base, result, first)
    assert result == merged(base, result, second)


@given(histories())
def test_sides_that_agree_both_keep_their_order(
    lists: tuple[list[bytes], list[bytes], list[bytes]],
) -> None:
    """Where no two keys stand in different orders, each side's keys keep its own."""
    base, first, second = lists
    common = [key for key in first if key in second]
    if common == [key for key in second if key in first]:
        result = merged(base, first, second)
        assert first == [key for key in result if key in first]
        assert second == [key for key in result if key in second]


def test_the_side_that_moved_keys_leads() -> None:
    """Keys that one side moved are in its order, though the other would lead otherwise."""
    base = [b"a", b"b", b"c"]
    assert [b"c", b"b", b"x", b"a"] == merged(base, [b"c", b"b", b"a"], [b"a", b"b", b"x", b"c"])


def test_additions_in_different_orders_are_sorted() -> None:
    """Keys that both sides added, in different orders, are sorted where they stand."""
    assert [b"a", b"c", b"d", b"e", b"b"] == merged(
        [b"a", b"b"], [b"a", b"e", b"d", b"b"], [b"a", b"d", b"c", b"e", b"b"]
    )


@given(st.lists(st.binary(max_size=2).filter(lambda text: b"\n" not in text)))
def test_repeated_texts_get_keys_of_their_own(texts: list[bytes]) -> None:
    """Each text has a key, from which it can be told; the keys grow no longer with their number."""
    seen: Counter[bytes] = Counter()
    keys = [repeated(text, seen) for text in texts]
    assert len(texts) == len(set(keys))
    assert texts == [text_of(key) for key in keys]
    assert max(map(len, keys), default=0) <= 2 + 1 + 8
