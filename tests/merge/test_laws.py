"""What holds for every merge, whatever was changed."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from hypothesis import example, given

from taskstore._merge.logs import read_log
from taskstore._merge.three_way import merge_logs
from tests.merge.versions import histories, state


def merged(base: bytes, ours: bytes, theirs: bytes) -> bytes:
    """The data of a merge that leaves nothing to a person."""
    found = merge_logs(base, ours, theirs)
    assert not found.is_left
    return found.data


def meaning(record: dict[str, Any], field: str | None = None) -> str:
    """A text that is equal for equal JSON values alone; empty for a missing field."""
    value = record if field is None else record.get(field, ...)
    return "" if value is ... else json.dumps(value, sort_keys=True)


@given(histories())
def test_one_side_alone_is_taken_as_it_is(files: tuple[bytes, bytes, bytes]) -> None:
    """Where one side changed nothing, or both the same, the result has the bytes of the change."""
    base, ours, _ = files
    assert ours == merged(base, ours, base)
    assert ours == merged(base, base, ours)
    assert ours == merged(base, ours, ours)


@given(histories())
def test_it_does_not_matter_which_side_is_ours(files: tuple[bytes, bytes, bytes]) -> None:
    """The result has the same bytes, and so the same state, whichever side is ours."""
    base, ours, theirs = files
    assert merged(base, ours, theirs) == merged(base, theirs, ours)


@given(histories())
def test_merging_again_changes_nothing(files: tuple[bytes, bytes, bytes]) -> None:
    """A result that is merged with either side once more keeps its state."""
    base, ours, theirs = files
    result = merged(base, ours, theirs)
    for side in (ours, theirs):
        again = merged(base, result, side)
        assert state(result) == state(again)
        assert state(result) == state(merged(side, result, side))


@given(histories())
def test_no_one_sided_change_is_lost(files: tuple[bytes, bytes, bytes]) -> None:
    """Each field of a living record that one side alone changed has that side's value."""
    base, ours, theirs = files
    before, first, second = state(base), state(ours), state(theirs)
    result = state(merged(base, ours, theirs))
    for id in first.keys() & second.keys():
        old = before.get(id, {})
        for field in (old.keys() | first[id].keys() | second[id].keys()) - {"updated_at"}:
            values = [meaning(fields, field) for fields in (old, first[id], second[id])]
            for changed, other in ((1, 2), (2, 1)):
                if values[other] == values[0]:
                    assert values[changed] == meaning(result[id], field)


@given(histories())
def test_records_of_one_side_follow_the_rules(files: tuple[bytes, bytes, bytes]) -> None:
    """A record that one side alone has is gone if it was in the base unchanged, and else stays."""
    base, ours, theirs = files
    before, first, second = state(base), state(ours), state(theirs)
    dead = {id for file in files for id, line in read_log(file, {}).winners.items() if line.deleted}
    result = state(merged(base, ours, theirs))
    for one, other in ((first, second), (second, first)):
        for id in one.keys() - other.keys() - dead:
            is_unchanged = id in before and meaning(before[id]) == meaning(one[id])
            assert is_unchanged == (id not in result)


@given(histories())
def test_lines_that_are_no_records_stay(files: tuple[bytes, bytes, bytes]) -> None:
    """A line that is not a record stays unless one side removed it from what the base had."""
    base, ours, theirs = files
    before, first, second, kept = (
        Counter(line.raw for line in read_log(file, {}).lines if line.id is None)
        for file in (base, ours, theirs, merged(base, ours, theirs))
    )
    # Of a repeated line, each further one is a line of its own.
    for raw in before | first | second:
        numbers = range(max(first[raw], second[raw]))
        shared = min(first[raw], second[raw])
        assert kept[raw] == sum(number < shared or number >= before[raw] for number in numbers)


@given(histories())
def test_one_line_per_id_stays_so(files: tuple[bytes, bytes, bytes]) -> None:
    """Where neither side has a second line for an id, the result has none."""
    base, ours, theirs = files
    if read_log(ours, {}).is_one_per_id and read_log(theirs, {}).is_one_per_id:
        assert read_log(merged(base, ours, theirs), {}).is_one_per_id


@given(histories(), histories())
@example(
    (b"", b'{"id":"a","x":1,"updated_at":1}\n', b'{"id":"a","y":1,"updated_at":1}\n'),
    (b"", b'{"id":"a","x":2,"updated_at":2}\n', b'{"id":"a","x":3,"updated_at":2}\n'),
)
def test_clones_that_merge_criss_cross_agree(
    files: tuple[bytes, bytes, bytes], later: tuple[bytes, bytes, bytes]
) -> None:
    """Two clones that merge each other, change on and merge again have equal files.

    Git's base is then the merge of both sides, as it makes it with the driver itself.
    """
    base, ours, theirs = files
    here, there = merged(base, ours, theirs), merged(base, theirs, ours)
    assert here == there
    # Each goes on with lines of its own.
    here, there = here + later[1], there + later[2]
    virtual = merged(base, ours, theirs)
    assert merged(virtual, here, there) == merged(virtual, there, here)
