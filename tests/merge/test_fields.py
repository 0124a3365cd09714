"""Two changes of one record, field by field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taskstore._merge.three_way import Merged, merge_logs
from tests.merge.repositories import line


def merge(
    base: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any], **policies: str
) -> dict[str, Any]:
    """The merged record, the same from both sides. Theirs is newer unless it says otherwise."""
    records = ({"updated_at": 1} | base, {"updated_at": 2} | ours, {"updated_at": 3} | theirs)
    texts = [line("a", fields.pop("updated_at"), **fields).encode() for fields in records]
    first = merge_logs(texts[0], texts[1], texts[2], policies)
    assert first.data == merge_logs(texts[0], texts[2], texts[1], policies).data
    again = merge_logs(texts[0], first.data, texts[1], policies)
    assert first.data == again.data
    found: dict[str, Any] = json.loads(first.data)
    del found["id"]
    return found


def conflicts(ours: str, theirs: str) -> Merged:
    """A merge of two lines that were added."""
    return merge_logs(b"", ours.encode(), theirs.encode())


def test_a_field_changed_on_one_side_keeps_that_change() -> None:
    """Changed, added and removed fields of both sides are all in the result."""
    base = {"title": "A", "status": "open", "old": 1}
    assert {"title": "A", "status": "done", "new": 2, "updated_at": 3} == merge(
        base, {"title": "A", "status": "done", "old": 1}, {"title": "A", "status": "open", "new": 2}
    )


def test_the_newer_record_wins_a_field_that_both_changed() -> None:
    """A field that both sides changed has the newer record's value, also where it is gone."""
    base = {"x": 1, "y": 1}
    assert {"x": 3, "updated_at": 3} == merge(base, {"x": 2, "y": 2}, {"x": 3})
    assert {"x": 2, "y": 2, "updated_at": 9} == merge(
        base, {"x": 2, "y": 2, "updated_at": 9}, {"x": 3}
    )


def test_equal_times_are_settled_by_the_values() -> None:
    """Of two changes with one time the greater value wins, field by field."""
    assert {"x": 3, "y": 9, "updated_at": 3} == merge(
        {"x": 1, "y": 1}, {"x": 2, "y": 9, "updated_at": 3}, {"x": 3, "y": 8}
    )


def test_times_are_compared_as_instants() -> None:
    """RFC 3339 and milliseconds are compared as the instants that they are."""
    early, late = "2026-01-17T10:00:00+02:00", 1768639603000
    assert {"x": 3, "updated_at": late} == merge(
        {"x": 1}, {"x": 2, "updated_at": early}, {"x": 3, "updated_at": late}
    )


def test_nested_objects_are_merged_field_by_field() -> None:
    """Changes of different keys of a nested object both survive, at any depth."""
    base = {"meta": {"a": 1, "deep": {"b": 1, "c": 1}}}
    assert {"meta": {"a": 2, "deep": {"b": 2, "c": 3}}, "updated_at": 3} == merge(
        base,
        {"meta": {"a": 2, "deep": {"b": 2, "c": 2}}},
        {"meta": {"a": 1, "deep": {"b": 1, "c": 3}}},
    )


def test_lists_are_merged_as_sets() -> None:
    """What either side added to a list stays, and what either removed is gone."""
    assert {"labels": ["b", "o", "t"], "updated_at": 3} == merge(
        {"labels": ["a", "b", "c"]}, {"labels": ["b", "c", "o"]}, {"labels": ["a", "b", "t"]}
    )


def test_a_list_that_one_side_sorted_keeps_that_order() -> None:
    """The side that moved elements decides on the order; the other's additions fit in."""
    assert {"labels": ["c", "new", "b", "a"], "updated_at": 3} == merge(
        {"labels": ["a", "b", "c"]}, {"labels": ["c", "b", "a"]}, {"labels": ["a", "b", "c", "new"]}
    )


def test_a_list_with_an_element_twice_is_one_value() -> None:
    """A list that is no set has the newer side's value."""
    assert {"path": [1, 1, 3], "updated_at": 3} == merge(
        {"path": [1, 1]}, {"path": [1, 1, 2]}, {"path": [1, 1, 3]}
    )


def test_objects_with_an_id_in_lists_are_merged_as_records() -> None:
    """Elements with an `id` are merged field by field, by times of their own; an edit beats a
    removal, and a deletion the older edit.
    """
    notes = [{"id": n, "text": "old", "by": "me"} for n in range(5)]
    ours = [
        notes[0] | {"text": "ours", "updated_at": 9},
        notes[1] | {"text": "edited"},
        notes[3] | {"by": "you"},
        notes[4] | {"text": "late"},
        {"id": 5},
    ]
    theirs = [
        notes[0] | {"text": "theirs", "updated_at": 8},
        notes[2],
        notes[3] | {"text": "new"},
        notes[4] | {"deleted": True},
        {"id": 6},
    ]
    found = merge({"notes": notes}, {"notes": ours}, {"notes": theirs})["notes"]
    assert [
        notes[0] | {"text": "ours", "updated_at": 9},
        notes[1] | {"text": "edited"},
        notes[3] | {"text": "new", "by": "you"},
        notes[4] | {"deleted": True},
        {"id": 5},
        {"id": 6},
    ] == found


@pytest.mark.parametrize(
    ("policy", "base", "ours", "theirs", "expected"),
    [
        ("newest", 1, 5, 2, 2),
        ("max", 1, 5, 2, 5),
        ("min", 1, 5, 2, 2),
        ("max", 1, 2.5, 2, 2.5),
        ("max", "a", "c", "b", "c"),
        ("min", "a", "c", "b", "b"),
        ("max", None, "2026-01-01T12:00:00+02:00", "2026-01-01T11:00:00Z", "2026-01-01T11:00:00Z"),
        ("max", 1, 2, None, 2),
        ("min", 1, 2, None, 2),
        ("max", 1, 2, "text", "text"),
        ("max", {"a": 1, "b": 1}, {"a": 5, "b": 2}, {"a": 2, "b": 5}, {"a": 5, "b": 5}),
        ("union", ["a", "b"], ["b", "o"], ["a", "t"], ["b", "o", "a", "t"]),
        ("union", ["a", "a"], ["a", "a", "o"], ["a", "a", "t"], ["a", "a", "o", "t"]),
        ("union", {"l": ["a"]}, {"l": ["o"]}, {"l": ["a", "t"]}, {"l": ["o", "a", "t"]}),
        ("text", "1\n2\n3\n4", "1!\n2\n3\n4", "1\n2\n3\n4!", "1!\n2\n3\n4!"),
        ("text", "1\n2\n3", "1\no\n3", "1\nt\n3", "1\nt\n3"),
        ("text", "1", "1\no", "1\nt", "1\no\nt"),
        ("text", 1, 2, 3, 3),
    ],
)
def test_a_policy_settles_two_changes(
    policy: str, base: Any, ours: Any, theirs: Any, expected: Any
) -> None:
    """Each policy has its value for two changes, and `newest` where it does not apply."""
    found = merge({"f": base}, {"f": ours}, {"f": theirs}, f=policy)["f"]
    assert expected == found
    # Where one side alone changed the field, no policy is asked.
    assert ours == merge({"f": base}, {"f": ours}, {"f": base, "g": 1}, f=policy)["f"]


def test_fail_leaves_both_lines_between_markers() -> None:
    """Under `fail` the two lines that differ in that field alone stand between markers."""
    texts = [line("a", n, f=n, g=g).encode() for n, g in ((1, 1), (2, 2), (3, 1))]
    found = merge_logs(texts[0], texts[1], texts[2], {"f": "fail"})
    assert found.is_left
    assert (
        f"<<<<<<< ours\n{line('a', 3, f=2, g=2)}=======\n{line('a', 3, f=3, g=2)}>>>>>>> theirs\n"
    ) == found.data.decode()


def test_raw_values_keep_their_bytes() -> None:
    """A merged line has each value as it was written, and the keys in the newer side's order."""
    base = b'{"id":"a","n":1.50,"s":"\\u00e9","updated_at":1}\n'
    ours = b'{"id":"a","n":1.50,"s":"\\u00e9","o":{"x": 1},"updated_at":3}\n'
    theirs = b'{"id":"a","n":1e2,"s":"\\u00e9","updated_at":2}\n'
    assert b'{"id":"a","n":1e2,"s":"\\u00e9","o":{"x": 1},"updated_at":3}\n' == (
        merge_logs(base, ours, theirs).data
    )


def test_true_and_one_are_different_values() -> None:
    """A change from 1 to true, or to 1.0, is a change."""
    assert {"f": True, "g": 1.0, "updated_at": 3} == merge(
        {"f": 1, "g": 1}, {"f": True, "g": 1}, {"f": 1, "g": 1.0}
    )


def test_conflicts_name_id_field_and_values() -> None:
    """A conflict has the id, the path of the field, both values and whose was taken."""
    (found,) = conflicts(line("a", 2, m={"x": 1}), line("a", 1, m={"x": 2})).conflicts
    assert ("a", "m.x", b"1", b"2", "ours") == (
        found.id,
        found.field,
        found.ours,
        found.theirs,
        found.taken,
    )


def test_what_both_sides_did_alike_is_no_conflict() -> None:
    """Two equal changes, and a time that both sides moved, are not reported."""
    assert () == conflicts(line("a", 2, x=1), line("a", 3, x=1)).conflicts


def test_a_time_that_was_set_back_alone_stays_so() -> None:
    """Where nothing is decided by time, and no other line is left, a time may go back."""
    assert {"x": 2, "updated_at": -5} == merge(
        {"x": 1}, {"x": 2, "updated_at": 1}, {"x": 1, "updated_at": -5}
    )


def test_a_time_that_decided_does_not_go_back() -> None:
    """Where a change was taken for its time, the result has the greater of both times."""
    assert {"x": 2, "updated_at": 10} == merge(
        {"x": 1, "updated_at": 10}, {"x": 2, "updated_at": 10}, {"x": 3, "updated_at": 5}
    )


def test_an_edit_beats_a_deletion_that_is_as_new() -> None:
    """Of a deletion and an edit with one time the edit holds, in records and in lists."""
    item = {"id": 1, "text": "old"}
    found = merge(
        {"notes": [item]},
        {"notes": [item | {"deleted": True}], "updated_at": 3},
        {"notes": [item | {"text": "new"}]},
    )
    assert [item | {"text": "new"}] == found["notes"]
    assert {"x": 2, "updated_at": 3} == merge(
        {"x": 1}, {"deleted": True, "updated_at": 3}, {"x": 2, "updated_at": 3}
    )


def test_a_key_keeps_its_spelling() -> None:
    """A key that is written with escapes stays so in a record that had to be put together."""
    old = '{"id":"a","caf\\u00e9":1,"m":{"\\u0078":1,"y":1},"z":1,"updated_at":%d}\n'
    base = old % 1
    ours = (old % 2).replace('"caf\\u00e9":1', '"caf\\u00e9":2').replace('"y":1', '"y":2')
    theirs = (old % 3).replace('"z":1', '"z":3').replace('"\\u0078":1', '"\\u0078":4')
    merged = '{"id":"a","caf\\u00e9":2,"m":{"\\u0078":4,"y":2},"z":3,"updated_at":3}\n'
    for first, second in ((ours, theirs), (theirs, ours)):
        found = merge_logs(base.encode(), first.encode(), second.encode())
        assert merged.encode() == found.data
