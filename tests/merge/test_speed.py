"""What a merge of large files costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import pytest

from taskstore._format.lines import decode_key
from taskstore._merge.three_way import merge_logs
from tests.merge.repositories import line

LINES = 10_000
EDITS = LINES // 20
ALLOWED = 3


def version(side: int, *, appends: bool) -> bytes:
    """The file after one edit in twenty, on side 0 none."""
    lines = [
        line(f"plan-{n:06}", n, title=f"Title {n}", labels=["a", "b"], body="x" * 300)
        for n in range(LINES)
    ]
    for n in range(EDITS * (side > 0)):
        place = (n * 7919 * side) % LINES
        edited = line(f"plan-{place:06}", LINES + n, title=f"{side}", body="x" * 300)
        if appends:
            lines.append(edited)
        else:
            lines[place] = edited
    return "".join(lines).encode()


def seconds(work: Callable[[], object]) -> float:
    """The processor time of some work, at its best of three times."""
    taken = []
    for _ in range(3):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


def decode(versions: Iterable[bytes]) -> None:
    """Decode every line of some files."""
    for data in versions:
        for raw in data.splitlines():
            decode_key(raw)


@pytest.mark.parametrize("appends", [True, False])
def test_a_merge_costs_no_more_than_three_times_the_decoding(*, appends: bool) -> None:
    """A merge takes at most three times what decoding the three files once takes."""
    versions = [version(side, appends=appends) for side in range(3)]
    decoded = seconds(lambda: decode(versions))
    base, ours, theirs = versions
    assert seconds(lambda: merge_logs(base, ours, theirs)) <= ALLOWED * decoded
