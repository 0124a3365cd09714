"""What other programs leave in a log: it is read as what it means, and never lost."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taskstore import InvalidRecordError, RecordNotFoundError, Store, where
from tests.store.plans import Clock, Plan, append, ids, log_lines, log_path, read_log, rewrite

pytestmark = pytest.mark.public

BAD: dict[str, bytes] = {
    "no JSON": b"{nope",
    "half a line": b'{"id":"x","title":"ha',
    "trailing garbage": b'{"id":"x"} {"id":"y"}',
    "a list": b'["id"]',
    "a string": b'"id"',
    "no id": b'{"title":"x"}',
    "an empty id": b'{"id":""}',
    "a number for an id": b'{"id":7}',
    "a garbled time": b'{"id":"x","updated_at":"yesterday"}',
    "a boolean time": b'{"id":"x","updated_at":true}',
    "a far future": b'{"id":"x","updated_at":99999999999999999999}',
    "not UTF-8": b'{"id":"x","title":"\xff"}',
    "NUL bytes": b"\x00\x00\x00",
    "NaN": b'{"id":"x","n":NaN}',
    "infinity": b'{"id":"x","n":1e999}',
    "a lone surrogate": b'{"id":"x","t":"\\ud800"}',
    "deep nesting": b'{"id":"x","t":' + b"[" * 200 + b"]" * 200 + b"}",
    "conflict marker, ours": b"<<<<<<< HEAD",
    "conflict marker, middle": b"=======",
    "conflict marker, theirs": b">>>>>>> branch",
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_bad_line_is_reported_and_never_erased(store: Store, bad: bytes) -> None:
    """A line that is not a record is named by file and line; the rest is served, and it stays."""
    store.create(Plan("a"))
    append(store.path, bad, {"id": "b", "updated_at": 1})
    report = store.sync()
    [problem] = report.problems
    assert (str(log_path(store.path)), 2) == (problem.path, problem.line)
    assert f"{problem.path}:2: {problem.reason}" == str(problem)
    assert ["a", "b"] == ids(store)
    store.update(Plan("b", "new"))
    store.delete(Plan, "a")
    store.create(Plan("c"))
    store.sync(force=True)
    store.rebuild_indexes(Plan)
    assert bad == read_log(store.path).splitlines()[1]
    assert ["b", "c"] == ids(store)
    assert 1 == store.sync().collections["plans"].problem_count


def test_a_conflict_marker_inside_a_text_is_text(store: Store) -> None:
    """`<<<<<<<` and its kin are markers at the start of a line only."""
    text = "<<<<<<< HEAD\n=======\n>>>>>>> theirs"
    store.create(Plan("a", text))
    append(store.path, {"id": "<<<<<<<", "title": "=======", "updated_at": 1})
    assert [] == store.sync(force=True).problems
    assert text == store.get_one(Plan, "a").title
    assert "=======" == store.get_one(Plan, "<<<<<<<").title


def test_a_conflicted_log_serves_both_sides(store: Store) -> None:
    """Of a log that git left with conflict markers every record is served, the latest of each."""
    rewrite(
        store.path,
        b'{"id":"a","updated_at":1}\n<<<<<<< HEAD\n{"id":"b","title":"ours","updated_at":2}\n'
        b'=======\n{"id":"b","title":"theirs","updated_at":3}\n{"id":"c"}\n>>>>>>> side\n',
    )
    assert [2, 4, 7] == [problem.line for problem in store.sync().problems]
    assert ["a", "b", "c"] == ids(store)
    assert "theirs" == store.get_one(Plan, "b").title


def test_several_lines_of_an_id_reduce_to_the_latest(store: Store) -> None:
    """Duplicates, as a union merge leaves them, count as one record: the greatest time wins."""
    rewrite(
        store.path,
        b'{"id":"a","title":"2","updated_at":2}\n{"id":"a","title":"3","updated_at":3}\n'
        b'{"id":"a","title":"1","updated_at":1}\n{"id":"a","title":"3","updated_at":3}\n',
    )
    assert [] == store.sync().problems
    assert ["3"] == [plan.title for plan in store.list(Plan)]


@pytest.mark.parametrize("tail", [False, True], ids=["replay", "tail"])
def test_among_equal_times_the_later_line_wins(store: Store, tail: bool) -> None:
    """Two lines of the same millisecond: the later one is served, whichever way it was read."""
    first, second = (
        {"id": "a", "title": "1", "updated_at": 5},
        {"id": "a", "title": "2", "updated_at": 5},
    )
    append(store.path, first)
    if tail:
        assert "1" == store.get_one(Plan, "a").title
    append(store.path, second)
    assert "2" == store.get_one(Plan, "a").title
    store.sync(force=True)
    assert "2" == store.get_one(Plan, "a").title


def test_two_updates_in_one_millisecond_are_ordered_in_the_log(store: Store, clock: Clock) -> None:
    """With a clock that stands still each write is stamped later than the one before."""
    store.create(Plan("a", "0"))
    for number in range(1, 5):
        store.save(Plan("a", str(number)))
    stamps = [line["updated_at"] for line in log_lines(store.path)]
    assert [clock.now + number for number in range(5)] == stamps
    (store.path / "taskstore.db").unlink()
    assert "4" == store.get_one(Plan, "a").title


def test_an_older_line_does_not_revive_a_dead_record(store: Store, clock: Clock) -> None:
    """A line older than a deletion stays without effect, by a tail as by a replay."""
    store.create(Plan("a"))
    store.delete(Plan, "a")
    append(store.path, {"id": "a", "title": "ghost", "updated_at": clock.now - 1})
    assert [] == store.list(Plan)
    assert "tail" != store.sync().collections["plans"].action
    store.sync(force=True)
    assert store.get(Plan, "a") is None
    append(store.path, {"id": "a", "title": "alive", "updated_at": clock.now + 1_000})
    assert "alive" == store.get_one(Plan, "a").title


def test_only_a_tombstone_deletes(store: Store) -> None:
    """`deleted` kills with exactly `true`; a record that others do not mention stays."""
    for number, value in enumerate((False, None, 1, "true", [], {})):
        append(store.path, {"id": f"p{number}", "deleted": value, "updated_at": 1})
    append(
        store.path,
        {"id": "dead", "updated_at": 1},
        {"id": "dead", "deleted": True, "updated_at": 1},
    )
    assert [f"p{number}" for number in range(6)] == ids(store)


def test_a_tombstone_in_another_form_of_time_counts(store: Store) -> None:
    """Integers and RFC 3339 texts, with any offset, order as the instants that they are."""
    append(store.path, {"id": "a", "updated_at": 1_700_000_000_000})
    append(store.path, {"id": "a", "deleted": True, "updated_at": "2023-11-14T23:13:20.001+01:00"})
    assert [] == store.list(Plan)
    store.create(Plan("a"))
    assert "2023-11-14T22:13:20.002Z" == log_lines(store.path)[-1]["updated_at"]


def test_unknown_keys_survive_an_update(store: Store) -> None:
    """What a newer version wrote stays in the line, byte for byte, in its place."""
    append(
        store.path,
        b'{"id":"a", "new":{"x":1.50, "y":[ 1 ]},"title":"t","caf\xc3\xa9":"\\u00e9",'
        b'"status":"draft","big":123456789012345678901,"updated_at":5}',
    )
    plan = store.get_one(Plan, "a")
    plan.title = "u"
    store.update(plan)
    expected = (
        b'{"id":"a","new":{"x":1.50, "y":[ 1 ]},"title":"u","caf\xc3\xa9":"\\u00e9",'
        b'"status":"draft","big":123456789012345678901,"updated_at":%d}' % plan.updated_at
    )
    assert expected == read_log(store.path).splitlines()[-1]


@pytest.mark.parametrize(
    "ending", [b"\r\n", b"\n\n\n", b"\n \t\n"], ids=["CRLF", "blank", "spaces"]
)
def test_other_line_ends_are_read_as_what_they_mean(store: Store, ending: bytes) -> None:
    """CRLF, blank lines and a byte-order mark are no problems, and no part of a record."""
    rewrite(
        store.path, b"\xef\xbb\xbf" + b'{"id":"a","updated_at":1}' + ending + b'{"id":"b"}' + ending
    )
    assert [] == store.sync().problems
    assert ["a", "b"] == ids(store)
    assert {"id": "a", "updated_at": 1} == store.get("plans", "a")


def test_a_write_after_an_unended_line_glues_nothing(store: Store) -> None:
    """A last line without newline is a record, and stays one when another is appended."""
    rewrite(store.path, b'{"id":"a","updated_at":1}')
    assert ["a"] == ids(store)
    store.create(Plan("b"))
    assert ["a", "b"] == ids(store)
    assert ["a", "b"] == [line["id"] for line in log_lines(store.path)]


def test_a_tail_torn_at_any_byte_costs_no_other_record(directory: Path) -> None:
    """A log cut within its last line keeps all others, and the next write is not glued to it."""
    whole = b'{"id":"a","updated_at":1}\n{"id":"b","title":"\xc3\xa9","updated_at":2}\n'
    start = whole.index(b"\n") + 1
    with Store.open(directory, types=[Plan]) as store:
        for stop in range(start, len(whole) + 1):
            rewrite(directory, whole[:stop])
            found = ids(store)
            assert (["a", "b"] if stop >= len(whole) - 1 else ["a"]) == found
            store.save(Plan("c"))
            assert [*found, "c"] == ids(store)
            assert (
                whole[:stop].rstrip(b"\n") == read_log(directory)[: len(whole[:stop].rstrip(b"\n"))]
            )
            store.sync(force=True)
            assert [*found, "c"] == ids(store)


def test_a_write_keeps_what_the_cache_has_never_seen(directory: Path) -> None:
    """A store that does not refresh writes without dropping a line that others appended."""
    with Store.open(directory, types=[Plan], refresh=False) as store:
        store.create(Plan("a"))
        append(directory, {"id": "b", "updated_at": 1}, b"{broken")
        store.update(Plan("a", "new"))
        store.delete(Plan, "a")
    lines = read_log(directory).splitlines()
    assert (5, b'{"id": "b", "updated_at": 1}', b"{broken") == (len(lines), lines[1], lines[2])
    with Store.open(directory, types=[Plan]) as store:
        assert ["b"] == ids(store)


def test_two_clones_converge_in_one_round(tmp_path: Path) -> None:
    """Two stores that take over each other's lines hold the same, and reading writes nothing."""
    stores = [Store.open(tmp_path / name, types=[Plan]) for name in ("one", "two")]
    randoms = random.Random(7)
    for store in stores:
        for number in range(40):
            store.save(Plan(f"p{randoms.randrange(10)}", f"{store.path.name} {number}"))
    lines = sorted({line for store in stores for line in read_log(store.path).splitlines(True)})
    for store in stores:
        rewrite(store.path, b"".join(lines))
        store.save_many(store.list(Plan))
    assert stores[0].list(Plan) == stores[1].list(Plan)
    assert read_log(stores[0].path) == read_log(stores[1].path) == b"".join(lines)
    for store in stores:
        store.close()


@pytest.mark.parametrize("name", ["bad name", "a.b", "x" * 65, "ä", "", "-" * 64 + "-"])
def test_a_stray_file_is_reported_and_not_loaded(store: Store, name: str) -> None:
    """A `*.jsonl` whose stem is not a collection's name is named in the report, and left alone."""
    stray = store.path / f"{name}.jsonl"
    stray.write_bytes(b'{"id":"a"}\n')
    report = store.sync()
    assert [str(stray)] == [problem.path for problem in report.strays]
    assert {} == dict(report.collections)
    assert not store.is_stale()
    assert b'{"id":"a"}\n' == stray.read_bytes()


@pytest.mark.parametrize("kind", ["directory", "link", "dangling link"])
def test_what_is_no_regular_file_is_not_loaded(store: Store, tmp_path: Path, kind: str) -> None:
    """A `*.jsonl` that is a directory or a link is reported and not followed."""
    outside, path = tmp_path / "outside", store.path / "plans.jsonl"
    if kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(outside)
        if kind == "link":
            outside.write_bytes(b'{"id":"a"}\n')
    [stray] = store.sync().strays
    assert str(path) == stray.path
    assert "not a regular file" in stray.reason
    assert [] == store.list(Plan)
    assert not store.is_stale()


@pytest.mark.parametrize("kind", ["directory", "link"])
def test_a_log_that_became_something_else_stops_nothing(
    store: Store, tmp_path: Path, kind: str
) -> None:
    """A log that is replaced by a directory or link counts as gone; all others are served."""
    store.create(Plan("a"))
    store.create({"id": "b"}, collection="others")
    path = log_path(store.path)
    path.rename(tmp_path / "moved")
    if kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "moved")
    with Store.open(store.path, types=[Plan]) as other:
        assert [] == other.list(Plan)
        assert 1 == other.count("others")
        assert [str(path)] == [stray.path for stray in other.sync().strays]
    assert ["b"] == [row["id"] for row in store.list("others")]


def test_a_row_that_does_not_fit_names_record_field_and_reason(store: Store) -> None:
    """A stored record that the class cannot hold raises with collection, id and field."""
    append(
        store.path,
        {"id": "a", "title": 7, "updated_at": 1},
        {"id": "b", "title": "t", "updated_at": 2},
    )
    with pytest.raises(InvalidRecordError, match="plans/a, field 'title'") as caught:
        store.list(Plan)
    assert ("plans", "a", "title") == (caught.value.collection, caught.value.id, caught.value.field)
    with pytest.raises(InvalidRecordError):
        store.get(Plan, "a")
    assert "t" == store.get_one(Plan, "b").title
    with pytest.warns(UserWarning, match="1 of 2 rows of 'plans'"):
        assert 1 == store.rebuild_indexes(Plan)
    with pytest.raises(RecordNotFoundError, match="'c' in collection 'plans'"):
        store.get_one(Plan, "c")


SECOND_PROCESS = """
import sys, json
with open(sys.argv[1], "ab") as log:
    for number in range(5):
        row = {"id": f"p{number}", "status": "active", "updated_at": 1}
        log.write(json.dumps(row).encode() + b"\\n")
"""


def test_lines_of_another_process_are_seen(store: Store) -> None:
    """A process that knows nothing of the library appends; an open store finds it by its index."""
    store.create(Plan("a"))
    path: Any = log_path(store.path)
    subprocess.run([sys.executable, "-c", SECOND_PROCESS, path], check=True)
    assert 5 == store.count(Plan, where(Plan.status) == "active")
    assert 6 == len({json.loads(line)["id"] for line in read_log(store.path).splitlines()})
