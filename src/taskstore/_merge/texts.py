"""The line merge of a long text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

MAX_LINES = 5000
"""Texts with more lines are not compared line by line, which could take minutes."""


class _Hunk(NamedTuple):
    """Lines `start` to `stop` of the base became `lines` on one side."""

    start: int
    stop: int
    lines: list[str]
    side: int


def merge_text(base: str, first: str, second: str, *, newer: int | None) -> tuple[str, bool] | None:
    """Merge two changes of a text by lines.

    Lines that both sides added at one place are all kept, those of the newer side last. If both
    sides changed the same or adjacent lines, the newer side wins.

    Args:
        base: The text before both changes.
        first: The text of one side.
        second: The text of the other side.
        newer: The newer side, 0 or 1; None if both are equally new, and the lines decide.

    Returns:
        The merged text, and whether each change is in it; None for a text of too many lines.
    """
    old = base.split("\n")
    sides = first.split("\n"), second.split("\n")
    if max(len(old), *map(len, sides)) > MAX_LINES:
        return None
    merged: list[str] = []
    is_clean = True
    done = 0
    for group in _groups([*_hunks(old, sides[0], 0), *_hunks(old, sides[1], 1)]):
        start = min(hunk.start for hunk in group)
        stop = max(hunk.stop for hunk in group)
        lines, settled = _settled(old, group, start, stop, newer)
        merged += old[done:start] + lines
        is_clean = is_clean and settled
        done = stop
    return "\n".join(merged + old[done:]), is_clean


def _hunks(old: list[str], new: list[str], side: int) -> list[_Hunk]:
    from difflib import SequenceMatcher  # few merges need it, and each driver call is a process

    codes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return [
        _Hunk(start, stop, new[new_start:new_stop], side)
        for tag, start, stop, new_start, new_stop in codes
        if tag != "equal"
    ]


def _groups(hunks: list[_Hunk]) -> list[list[_Hunk]]:
    """Group hunks that overlap or touch, in the order of the text."""
    groups: list[list[_Hunk]] = []
    stop = -1
    for hunk in sorted(hunks, key=lambda hunk: (hunk.start, hunk.stop, hunk.side)):
        # A merged text shows two changes that touch as one: they must count as one here already,
        # or merging it again would see a conflict that was none.
        if hunk.start <= stop:
            groups[-1].append(hunk)
        else:
            groups.append([hunk])
        stop = max(stop, hunk.stop)
    return groups


def _settled(
    old: list[str], group: list[_Hunk], start: int, stop: int, newer: int | None
) -> tuple[list[str], bool]:
    if len(group) == 1:
        return group[0].lines, True
    texts = [_side_lines(old, group, start, stop, side) for side in (0, 1)]
    if texts[0] == texts[1]:
        return texts[0], True
    if newer is None:
        newer = int(texts[1] > texts[0])
    if start == stop:
        for text, other in (texts, texts[::-1]):
            if _contains(text, other):
                return text, True
        return texts[1 - newer] + texts[newer], True
    return texts[newer], False


def _side_lines(old: list[str], group: list[_Hunk], start: int, stop: int, side: int) -> list[str]:
    lines: list[str] = []
    done = start
    for hunk in group:
        if hunk.side == side:
            lines += old[done : hunk.start] + hunk.lines
            done = hunk.stop
    return lines + old[done:stop]


def _contains(lines: Sequence[str], part: Sequence[str]) -> bool:
    """Return whether `lines` has all of `part`, in its order."""
    rest = iter(lines)
    return all(line in rest for line in part)
