"""Another program changes a log at every step of a commit, a refresh and a compaction."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskstore import Store, where
from taskstore._log.target import Target
from taskstore.errors import CommitUncertainError, RecordNotFoundError
from tests.crash.scene import (
    TYPES,
    Plan,
    Task,
    check_cache,
    check_released,
    copy,
    served,
    steps,
    told,
)
from tests.log.disk import Tap

THEIRS = b'{"id":"theirs","title":"git","updated_at":5}\n'
MOST = 200


def replace(path: Path) -> None:
    """Put another file in its place, with a line more."""
    draft = path.with_name("draft")
    draft.write_bytes((path.read_bytes() if path.exists() else b"") + THEIRS)
    draft.replace(path)


def check_out(path: Path) -> None:
    """Remove it and make a new one, of another version, as git does."""
    path.unlink(missing_ok=True)
    path.write_bytes(THEIRS)


def remove(path: Path) -> None:
    """Remove it."""
    path.unlink(missing_ok=True)


def truncate(path: Path) -> None:
    """Empty it in place."""
    if path.exists():
        os.truncate(path, 0)


def rewrite(path: Path) -> None:
    """Change a byte in place, and keep the size."""
    if path.exists() and path.stat().st_size:
        with path.open("r+b") as log:
            data = log.read().replace(b'"one"', b'"ONE"')
            log.seek(0)
            log.write(data)


def swap_bytes(path: Path) -> None:
    """Put a file of the same size in its place, with the same times."""
    if path.exists():
        st = path.stat()
        draft = path.with_name("draft")
        draft.write_bytes(path.read_bytes().replace(b'"one"', b'"ONE"'))
        os.utime(draft, ns=(st.st_atime_ns, st.st_mtime_ns))
        draft.replace(path)


def append(path: Path) -> None:
    """Append a line without a lock."""
    with path.open("ab") as log:
        log.write(THEIRS)


def append_half(path: Path) -> None:
    """Append half a line without a lock."""
    with path.open("ab") as log:
        log.write(b'{"id":"half')


ACTS = [replace, check_out, remove, truncate, rewrite, swap_bytes, append, append_half]
BRINGING = (replace, check_out, append)


def commit_single(store: Store) -> list[tuple[str, str]]:
    """One line."""
    store.create(Plan("new"))
    return [("plans", "new")]


def commit_several(store: Store) -> list[tuple[str, str]]:
    """Lines in both logs."""
    with store.transaction():
        store.create_many([Plan("new"), Plan("other")])
        store.create(Task("new"))
    return [("plans", "new"), ("plans", "other"), ("tasks", "new")]


def commit_first(store: Store) -> list[tuple[str, str]]:
    """A log that has yet to be made, beside one that is there."""
    (store.path / "plans.jsonl").unlink()
    return commit_several(store)


def refresh(store: Store) -> list[tuple[str, str]]:
    """A read after a change from outside."""
    with (store.path / "plans.jsonl").open("ab") as log:
        log.write(b'{"id":"outside","updated_at":7}\n')
    store.count(Plan, where("group") == 0)
    return []


def replay_whole(store: Store) -> list[tuple[str, str]]:
    """A sync that reads everything."""
    store.sync(force=True)
    return []


def compact(store: Store) -> list[tuple[str, str]]:
    """A compaction that drops a line and a tombstone."""
    try:
        store.compact(Plan, keep_tombstones_ms=0)
    except RecordNotFoundError:
        # The log has just been removed.
        assert not (store.path / "plans.jsonl").exists()
    return []


COMMITS = [commit_single, commit_several, commit_first]
RUNS = [*COMMITS, refresh, replay_whole, compact]


class Stage:
    """Has another program act once, before or after one file operation."""

    def __init__(self, patch: pytest.MonkeyPatch, tap: Tap, act: Callable[[], None]) -> None:
        self.tap = tap
        self.act = act
        self.number = 0
        self.acted_at = ""
        self.placed = False
        self.late = False
        real = Target.is_placed

        def is_placed(target: Any) -> bool:
            self.placed = real(target)
            return self.placed

        patch.setattr(Target, "is_placed", is_placed)
        tap.before = self.before

    def set(self, number: int) -> None:
        """Act before the operation with this number."""
        self.number, self.acted_at, self.placed, self.late = number, "", False, False
        self.tap.count = 0

    def before(self, count: int, name: str, arguments: Any) -> None:
        """Act, if it is time."""
        if count == self.number and not self.acted_at:
            self.acted_at = name
            # Once all logs have been compared with their paths, the lines are where they belong.
            self.late = self.placed
            self.act()


@pytest.mark.parametrize("collection", ["plans", "tasks"])
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("run", RUNS)
def test_another_program_acts_at_every_step(
    monkeypatch: Any, tap: Tap, template: Path, place: Path, run: Any, act: Any, collection: str
) -> None:
    """What it brought is there, what was acknowledged is there, and the cache says the same."""
    log = place / f"{collection}.jsonl"
    stage = Stage(monkeypatch, tap, lambda: act(log))
    for number in steps(MOST, run, act, collection):
        copy(template, place)
        with Store.open(place, types=TYPES.values()) as store:
            store.count(Plan)
            stage.set(number)
            acknowledged: list[tuple[str, str]] = []
            try:
                acknowledged = run(store)
            except CommitUncertainError:
                pass
            stage.number = 0
            if act is rewrite and run in COMMITS and stage.acted_at in ("write", "set_mtime"):
                # In place, and just around our own write, which hides it: that takes a lock.
                continue
            check_released(store)
            served(store)
            check_cache(store)
            found = told(place)
            if stage.acted_at and act in BRINGING:
                assert (collection, "theirs") in found, f"{number} {stage.acted_at}"
            if not (stage.late and act in (check_out, remove, truncate)):
                lost = [key for key in acknowledged if key not in found]
                assert [] == lost, f"acted before {stage.acted_at} ({number})"
            store.create(Plan("next"))
            check_cache(store)
        if not stage.acted_at:
            return
    pytest.fail(f"it takes less than {MOST} operations")


def test_a_log_that_was_never_read_takes_its_rows_along(
    monkeypatch: Any, tap: Tap, template: Path, place: Path
) -> None:
    """Another program meddles with the first commit to a collection, and later removes its log."""
    log = place / "plans.jsonl"
    stage = Stage(monkeypatch, tap, lambda: append(log))
    for number in range(1, MOST):
        copy(template, place)
        log.unlink()
        with Store.open(place, types=TYPES.values()) as store:
            stage.set(number)
            store.create(Plan("new"))
            stage.number = 0
            log.unlink()
            assert [] == store.list(Plan)
            check_cache(store)
        if not stage.acted_at:
            return
    pytest.fail(f"it takes less than {MOST} operations")
