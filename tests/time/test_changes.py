"""The change feed: since a cursor, as it comes, and for consumers with a name."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from taskstore import (
    AsyncStore,
    ChangeEvent,
    CursorError,
    LogWriteError,
    Store,
    StoreReadOnlyError,
    record,
)
from taskstore._api import changes
from taskstore._format.names import CONSUMERS
from tests.cli.programs import on_pipe
from tests.merge.repositories import LOG, line
from tests.time import consuming
from tests.time.histories import Change, build, run

KILLS = int(os.environ.get("TASKSTORE_KILLS", "5"))


@record("plans")
class Plan:
    """A plan."""

    id: str
    updated_at: int = 0


@pytest.fixture
def store(directory: Path) -> Iterator[Store]:
    """A store of two plans and a note."""
    with Store.open(directory, types=[Plan]) as opened:
        opened.create_many([Plan("a"), Plan("b")])
        opened.create({"id": "n"}, collection="notes")
        yield opened


def said(events: Iterable[ChangeEvent]) -> list[tuple[str, str | None]]:
    """The kinds and ids of events."""
    return [(event.kind, event.id) for event in events]


def test_changes_since_a_cursor_are_those_after_it(store: Store) -> None:
    """All from the beginning; after any event what follows it; of some collections only."""
    events = list(store.changes())
    assert [("change", "n"), ("change", "a"), ("change", "b")] == said(events)
    for position, event in enumerate(events):
        assert said(events[position + 1 :]) == said(store.changes(event.cursor))
    store.delete(Plan, "a")
    assert [("delete", "a")] == said(store.changes(events[-1].cursor))
    assert [("change", "n")] == said(store.changes(collections=["notes"]))
    assert 3 == len(list(store.changes(collections=[Plan])))
    with pytest.raises(CursorError):
        next(store.changes("garbled"))


def test_a_change_that_is_not_committed_is_not_seen(store: Store) -> None:
    """Neither while its transaction runs, nor when it was rolled back."""
    cursor = list(store.changes())[-1].cursor
    with pytest.raises(RuntimeError), store.transaction():
        store.create(Plan("c"))
        assert [] == said(store.changes(cursor))
        raise RuntimeError
    assert [] == said(store.changes(cursor))


def test_a_log_of_consumers_that_is_no_file_keeps_no_cursor(store: Store) -> None:
    """Changes are read all the same; to acknowledge one is refused with the reason."""
    log = store.path / f"{CONSUMERS}.jsonl"
    log.symlink_to(log.name)
    consumer = store.consumer("mailer")
    events = list(consumer.changes())
    assert 3 == len(events)
    with pytest.raises(LogWriteError, match=log.name):
        consumer.acknowledge(events[-1])
    assert events == list(consumer.changes())


@pytest.mark.parametrize("rewrites", ["compaction", "checkout", "merge"])
def test_a_rewritten_log_is_read_again(tmp_path: Path, rewrites: str) -> None:
    """After a compaction, a checkout, or a merge of older lines: a reset, and all of the log."""
    first = line("a", 1000, x=1)
    ours, theirs = first + line("a", 2000, x=2), first + line("b", 1500)
    merged = theirs + line("a", 2000, x=2)
    build(
        tmp_path,
        [Change((), first), Change((0,), theirs), Change((0,), ours), Change((1, 2), merged)],
    )
    run(tmp_path, "checkout", "-q", "-B", "work", "main^2")
    with Store.open(tmp_path / ".taskstore") as store:
        cursor = list(store.changes())[-1].cursor
        assert [] == said(store.changes(cursor))
        if rewrites == "compaction":
            store.compact("plans")
        elif rewrites == "checkout":
            run(tmp_path, "checkout", "-q", "main~1")
        else:
            run(tmp_path, "checkout", "-q", "main")
        expected = {"compaction": "a", "checkout": "ab", "merge": "aba"}[rewrites]
        events = list(store.changes(cursor))
        assert [("reset", None), *(("change", id) for id in expected)] == said(events)
        assert [] == said(store.changes(events[-1].cursor))
        assert (tmp_path / LOG).read_text().count("\n") == len(expected)


def test_following_sees_what_comes(store: Store) -> None:
    """From a cursor on, until it is stopped."""
    stop = threading.Event()
    seen: list[str | None] = []
    begun = threading.Event()
    cursor = list(store.changes())[-1].cursor

    def follow() -> None:
        for event in store.follow(cursor, interval=0.01, stop=stop):
            seen.append(event.id)
            begun.set()
            if event.id == "z":
                stop.set()

    thread = threading.Thread(target=follow)
    thread.start()
    store.create(Plan("y"))
    assert begun.wait(30)
    store.create(Plan("z"))
    thread.join(30)
    assert ["y", "z"] == seen


def test_a_consumer_goes_on_where_it_was(store: Store) -> None:
    """What is not acknowledged comes again, in another store too; names are apart."""
    consumer = store.consumer("mailer", collections=[Plan])
    first, second = consumer.changes()
    assert [("change", "a"), ("change", "b")] == said(consumer.changes())
    consumer.acknowledge(first)
    with Store.open(store.path) as again:
        other = again.consumer("mailer", collections=["plans"])
        assert [("change", "b")] == said(other.changes())
        other.acknowledge(second)
    assert [] == said(consumer.changes())
    assert 2 == len(list(store.consumer("other", collections=[Plan]).changes()))
    assert [] == said(store.consumer("late", start=second.cursor, collections=[Plan]).changes())
    assert CONSUMERS not in {event.collection for event in store.changes()}


def test_a_place_is_committed_with_what_is_written(store: Store) -> None:
    """A transaction that is rolled back has acknowledged nothing."""
    consumer = store.consumer("mailer", collections=[Plan])
    for event in consumer.changes():
        with pytest.raises(RuntimeError), store.transaction():
            store.create({"id": str(event.id)}, collection="seen")
            consumer.acknowledge(event)
            raise RuntimeError
    assert [("change", "a"), ("change", "b")] == said(consumer.changes())
    for event in consumer.changes():
        with store.transaction():
            store.create({"id": str(event.id)}, collection="seen")
            consumer.acknowledge(event)
    assert ["a", "b"] == sorted(row["id"] for row in store.list("seen"))
    assert [] == said(consumer.changes())


def test_places_belong_to_one_clone(tmp_path: Path) -> None:
    """Git ignores the log that keeps them, and one that a clone brings all the same is not used."""
    build(tmp_path / "one", [Change((), line("a", 1000))])
    with Store.open(tmp_path / "one" / ".taskstore") as store:
        consumer = store.consumer("mailer")
        (event,) = consumer.changes()
        consumer.acknowledge(event)
        assert [] == said(consumer.changes())
    assert CONSUMERS not in run(tmp_path / "one", "status", "--porcelain", "-uall").decode()
    run(tmp_path / "one", "add", "-f", ".taskstore")
    run(tmp_path / "one", "commit", "-q", "-m", "brought")
    run(tmp_path, "clone", "-q", "one", "two")
    with Store.open(tmp_path / "two" / ".taskstore") as store:
        assert [("change", "a")] == said(store.consumer("mailer").changes())


def test_the_log_of_places_is_compacted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not grow for ever."""
    monkeypatch.setattr(changes, "_COMPACTED_BYTES", 1000)
    consumer = store.consumer("mailer")
    for event in list(consumer.changes()) * 10:
        consumer.acknowledge(event)
    list(consumer.changes())
    assert 1 == store.path.joinpath(f"{CONSUMERS}.jsonl").read_text().count("\n")
    assert [] == said(consumer.changes())


def test_a_reader_cannot_acknowledge(store: Store) -> None:
    """A store for reading has changes, and keeps no places."""
    with Store.open(store.path, read_only=True) as reader:
        consumer = reader.consumer("mailer")
        event = next(consumer.changes())
        with pytest.raises(StoreReadOnlyError):
            consumer.acknowledge(event)


def test_watch_goes_on_for_a_consumer(store: Store) -> None:
    """`watch --consumer` prints what it has not printed for this name, and the store remembers."""
    call = ("watch", "plans", "--consumer", "mailer", "--once", "--json")
    done = on_pipe(*call, cwd=store.path.parent)
    assert ["a", "b"] == [json.loads(text)["id"] for text in done.stdout.splitlines()]
    store.create(Plan("c"))
    done = on_pipe(*call, cwd=store.path.parent)
    assert ["c"] == [json.loads(text)["id"] for text in done.stdout.splitlines()]
    assert "" == on_pipe(*call, cwd=store.path.parent).stdout
    assert [] == said(store.consumer("mailer", collections=[Plan]).changes())
    assert 2 == on_pipe(*call, "--since", "0", cwd=store.path.parent).status


def test_the_feed_of_asyncio(store: Store) -> None:
    """Changes, following and consumers of an asyncio store."""

    async def use() -> tuple[list[str | None], list[str | None], list[str | None]]:
        async with AsyncStore.open(store.path) as opened:
            first = [event.id async for event in opened.changes(collections=["plans"])]
            consumer = opened.consumer("mailer", collections=["plans"])
            followed: list[str | None] = []
            async for event in consumer.follow(interval=0.01):
                followed.append(event.id)
                await consumer.acknowledge(event)
                if event.id == "b":
                    await opened.create({"id": "c"}, collection="plans")
                if event.id == "c":
                    break
            return first, followed, [event.id async for event in consumer.changes()]

    assert (["a", "b"], ["a", "b", "c"], []) == asyncio.run(use())


def test_a_killed_consumer_misses_nothing_and_does_nothing_twice(directory: Path) -> None:
    """Killed at any moment: what it wrote is there once for each change, in the end."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    with Store.open(directory) as store:
        for kill in range(KILLS + 1):
            store.create_many([{"id": f"{kill}-{n}"} for n in range(20)], collection="plans")
            process = subprocess.Popen(
                [sys.executable, consuming.__file__, str(directory)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            assert process.stdout is not None
            # It is killed at a moment after some of its changes, the last time after all of them.
            left = 20 * (kill + 1) - store.count("seen")
            count = left if kill == KILLS else rng.randrange(1, left)
            said_ids = [process.stdout.readline() for _ in range(count)]
            process.kill()
            _, errors = process.communicate()
            assert all(said_ids), errors.decode()
        assert 20 * (KILLS + 1) == store.count("seen")
        assert store.verify().ok
