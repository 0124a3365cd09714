"""Following logs: what is committed is seen once, and a rewritten log starts over."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskstore import CursorError, Store
from taskstore._log.layout import Layout
from taskstore._watch.cursor import Cursor, Place
from taskstore._watch.follow import ChangeEvent, Follower

Follow = Callable[..., Follower]

SAME_CHECKSUM = ((b"original", b"aaaf5m"), (b"stranger", b"p3vaaa"))
"""Ids and texts with which two lines have the same CRC-32."""


@pytest.fixture
def store(directory: Path) -> Iterator[Store]:
    """A store with two plans."""
    with Store.open(directory) as store:
        store.create_many([{"id": "a"}, {"id": "b"}], collection="plans")
        yield store


@pytest.fixture
def follow(store: Store) -> Iterator[Follow]:
    """Makes followers of the store's directory."""
    made: list[Follower] = []

    def make(cursor: str | None = None, **options: object) -> Follower:
        place = None if cursor is None else Cursor.parse(cursor)
        made.append(Follower(Layout(store.path), place, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for follower in made:
        follower.close()


def said(events: Iterator[ChangeEvent]) -> list[tuple[str, str | None]]:
    """The kinds of events, and the ids."""
    return [(event.kind, event.id) for event in events]


def test_it_begins_at_the_end(store: Store, follow: Follow) -> None:
    """Without a cursor only what is committed from now on is seen, each change once."""
    follower = follow()
    assert [] == said(follower.poll())
    store.create({"id": "c"}, collection="plans")
    store.delete("plans", "a")
    assert [("change", "c"), ("delete", "a")] == said(follower.poll())
    assert [] == said(follower.poll())
    store.create({"id": "n"}, collection="new")
    assert [("change", "n")] == said(follower.poll())


def test_a_cursor_goes_on_where_it_was(store: Store, follow: Follow) -> None:
    """After each event its cursor, in another process as well, gives what follows and no more."""
    events = list(follow("0").poll())
    assert [("change", "a"), ("change", "b")] == said(iter(events))
    assert [("change", "b")] == said(follow(str(events[0].cursor)).poll())
    assert [] == said(follow(str(events[1].cursor)).poll())


def test_a_rewritten_log_starts_over(store: Store, follow: Follow) -> None:
    """A log whose earlier bytes changed is told of, and then all that it has."""
    follower = follow()
    cursor = str(follower.cursor)
    log = store.path / "plans.jsonl"
    text = log.read_text()
    log.write_text(text.replace('"a"', '"z"'))
    expected = [("reset", None), ("change", "z"), ("change", "b")]
    assert expected == said(follower.poll())
    assert expected == said(follow(cursor).poll())
    log.write_text(text.splitlines(keepends=True)[0])
    assert [("reset", None), ("change", "a")] == said(follower.poll())


def test_a_rewrite_with_the_same_checksum_starts_over(store: Store, follow: Follow) -> None:
    """Other bytes with the length and the CRC-32 of the old ones are detected."""
    log = store.path / "plans.jsonl"
    one, other = (b'{"id":"%b","x":"%b"}\n' % pair for pair in SAME_CHECKSUM)
    assert (len(one), zlib.crc32(one)) == (len(other), zlib.crc32(other))
    log.write_bytes(one)
    follower = follow()
    log.write_bytes(other)
    assert [("reset", None), ("change", "stranger")] == said(follower.poll())


def test_an_older_cursor_starts_over(store: Store, follow: Follow) -> None:
    """The cursor of an older version, with a checksum, gives everything again."""
    assert [("reset", None), ("change", "a"), ("change", "b")] == said(
        follow("plans:11:00000abc").poll()
    )


def test_a_log_that_is_gone_is_told_of(store: Store, follow: Follow) -> None:
    """A removed log is a reset; if it comes back, it is new."""
    follower = follow()
    log = store.path / "plans.jsonl"
    text = log.read_text()
    log.unlink()
    events = list(follower.poll())
    assert [("reset", "the log is gone")] == [(event.kind, event.reason) for event in events]
    log.write_text(text)
    assert [("change", "a"), ("change", "b")] == said(follower.poll())


def test_the_same_bytes_are_no_change(store: Store, follow: Follow) -> None:
    """A touch, or a file replaced by its copy, is not told of."""
    follower = follow()
    log = store.path / "plans.jsonl"
    os.utime(log)
    assert [] == said(follower.poll())
    copy = store.path / "copy.tmp"
    copy.write_bytes(log.read_bytes())
    copy.replace(log)
    assert [] == said(follower.poll())


def test_what_is_not_committed_is_not_seen(store: Store, follow: Follow) -> None:
    """Lines of a transaction that a crash left half written are not told of."""
    follower = follow()
    with Store.open(store.path) as other, other.transaction():
        other.create({"id": "c"}, collection="plans")
        assert [] == said(follower.poll())
    assert [("change", "c")] == said(follower.poll())


def test_half_a_line_is_waited_for(store: Store, follow: Follow) -> None:
    """A last line that is not whole is waited for; one that only lacks its newline counts."""
    follower = follow()
    log = store.path / "plans.jsonl"
    line = json.dumps({"id": "c", "x": 1})
    for part, expected in ((line[:9], []), (line[9:], [("change", "c")]), ("\n", [])):
        with log.open("a") as file:
            file.write(part)
        assert expected == said(follower.poll())
    assert [] == said(follow(str(follower.cursor)).poll())


def test_a_line_that_is_no_record_is_a_problem(store: Store, follow: Follow) -> None:
    """Lines that are no record are told of with the reason, blank ones not."""
    follower = follow()
    with (store.path / "plans.jsonl").open("a") as file:
        file.write("\n<<<<<<< ours\n")
    events = list(follower.poll())
    assert [("problem", "a git conflict marker")] == [(e.kind, e.reason) for e in events]


def test_only_what_is_asked_for_is_followed(store: Store, follow: Follow) -> None:
    """Named collections are followed, others not."""
    follower = follow("0", collections={"other"})
    store.create({"id": "x"}, collection="other")
    assert [("change", "x")] == said(follower.poll())


def test_a_cursor_survives_as_text() -> None:
    """A cursor is read back from its text; other texts are refused."""
    cursor = Cursor({"b": Place(12, "0a" * 20), "a-1": Place()})
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4"
    assert f"a-1:0:{empty},b:12:{'0a' * 20}" == str(cursor)
    assert cursor == Cursor.parse(str(cursor))
    assert (Cursor(), "0") == (Cursor.parse("0"), str(Cursor()))
    twice = "a:1:00000000,a:2:00000000"
    faulty = ("", "x", "a:1", "a:1:zz", "a:-1:00000000", "a b:1:00000000", "a:1:00000000,", twice)
    for text in faulty:
        with pytest.raises(CursorError):
            Cursor.parse(text)


@pytest.mark.parametrize("replaces", ["a folder", "a pipe", "a link to itself", "a link outside"])
def test_what_replaces_a_log_and_is_no_file_ends_that_log_alone(
    store: Store, follow: Follow, tmp_path: Path, replaces: str
) -> None:
    """As the store does, the follower takes the log for gone, and goes on with the others."""
    follower, other = follow(), follow()
    log = store.path / "plans.jsonl"
    log.rename(tmp_path / "outside")
    if replaces == "a folder":
        log.mkdir()
    elif replaces == "a pipe":
        os.mkfifo(log)
    else:
        log.symlink_to(log.name if replaces == "a link to itself" else tmp_path / "outside")
    store.create({"id": "z"}, collection="zebras")
    for each in (follower, other):
        assert [("reset", None), ("change", "z")] == said(each.poll())
    assert [("change", "z")] == said(follow("0").poll())
    log.rmdir() if log.is_dir() and not log.is_symlink() else log.unlink()
    (tmp_path / "outside").rename(log)
    assert [("change", "a"), ("change", "b")] == said(follower.poll())
