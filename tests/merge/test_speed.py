"""What a merge of large files costs."""

from __future__ import annotations

import time

from taskstore._format.lines import decode_key
from taskstore._merge.three_way import merge_logs
from tests.merge.repositories import line

LINES = 30_000
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


def test_a_merge_costs_no_more_than_three_times_the_decoding() -> None:
    """A merge takes at most three times what decoding the three files once takes."""
    for appends in (True, False):
        versions = [version(side, appends=appends) for side in range(3)]
        start = time.process_time()
        for data in versions:
            for raw in data.splitlines():
                decode_key(raw)
        decoded = time.process_time()
        merge_logs(versions[0], versions[1], versions[2])
        assert (time.process_time() - decoded) <= ALLOWED * (decoded - start)
