"""The author of each field's last change, and how to undo it."""

from __future__ import annotations

import asyncio
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from taskstore import (
    AsyncStore,
    CommitNotFoundError,
    GitError,
    RecordExistsError,
    RecordNotFoundError,
    RevertConflictError,
    Store,
    StoreAccessError,
)
from taskstore._git import growth, history
from taskstore._git.history import versions
from taskstore.models import RecordVersion
from tests.cli.programs import on_pipe
from tests.merge.repositories import line
from tests.time.histories import Change, build, random_changes, read_plainly, run

HISTORIES = int(os.environ.get("TASKSTORE_HISTORIES", "8"))


def blamed(store: Store, id: str) -> dict[str, str | None]:
    """The commit's subject for each field."""
    return {found.field: found.subject for found in store.blame("plans", id)}


class SlowBlame:
    """Blame by the lines of every commit, compared with those of its parents."""

    def __init__(self, changes: list[Change]) -> None:
        self.changes = changes
        self.lines = [set((change.log or "").splitlines()) for change in changes]
        self.brought: dict[str, int] = {}
        for number, change in enumerate(changes):
            old = set().union(*(self.lines[parent] for parent in change.parents))
            for raw in self.lines[number] - old:
                self.brought.setdefault(raw, number)

    def known(self, number: int) -> set[int]:
        """A commit and all before it."""
        found = {number}
        for parent in self.changes[number].parents:
            found |= self.known(parent)
        return found

    def place(self, raw: str) -> tuple[int, int]:
        """The commit that brought a line, and where the line is in its log."""
        number = self.brought[raw]
        return number, (self.changes[number].log or "").splitlines().index(raw)

    def sources(self, raw: str) -> list[str]:
        """The lines that one was made from."""
        new, number = json.loads(raw), self.brought[raw]
        last = (new["updated_at"], self.place(raw))
        # Of equal times the later line counts, wherever both were brought.
        older = sorted(
            (old["updated_at"], self.place(other), other)
            for other in self.brought
            if (old := json.loads(other))["id"] == new["id"]
            and (old["updated_at"], self.place(other)) < last
        )
        same = [other for *_, other in older if self.brought[other] == number]
        if same:
            return same[-1:]
        found = []
        for parent in self.changes[number].parents:
            known = self.known(parent)
            found += [other for *_, other in older if self.brought[other] in known][-1:]
        return found

    def subject(self, raw: str, field: str) -> str:
        """The subject of the commit that gave a field of a line its value."""
        for other in self.sources(raw):
            was = json.loads(other)
            if was.get("deleted") is not True and was.get(field) == json.loads(raw)[field]:
                return self.subject(other, field)
        return f"change {self.brought[raw]}"


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("seed", range(HISTORIES))
def test_blame_is_what_a_slow_comparison_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, small: bool
) -> None:
    """With branches, merges and compactions: the same commit for each field, both ways to look."""
    if not small:
        monkeypatch.setattr(growth, "_SMALL", 0)
    changes = random_changes(random.Random(seed), 25, lossless=True)
    build(tmp_path, changes)
    slow = SlowBlame(changes)
    text = changes[-1].log or ""
    with Store.open(tmp_path / ".taskstore") as store:
        for id, record in read_plainly(text.encode()).items():
            raw = next(each for each in text.splitlines() if json.loads(each) == record)
            fields = [name for name in record if name not in ("id", "updated_at")]
            assert {name: slow.subject(raw, name) for name in fields} == blamed(store, id)


def test_a_merge_changed_nothing_that_a_side_has(tmp_path: Path) -> None:
    """Each field of a merged line belongs to the commit of the side that it came from."""
    base = line("a", 1000, x=1, y=1, z=1)
    one, other = base + line("a", 1001, x=2, y=1, z=1), base + line("a", 1002, x=1, y=2, z=1)
    merged = one + line("a", 1002, x=1, y=2, z=1) + line("a", 1003, x=2, y=2, z=1)
    build(
        tmp_path,
        [Change((), base), Change((0,), one), Change((0,), other), Change((1, 2), merged)],
    )
    with Store.open(tmp_path / ".taskstore") as store:
        assert {"x": "change 1", "y": "change 2", "z": "change 0"} == blamed(store, "a")


def test_what_is_not_committed_has_no_commit(tmp_path: Path) -> None:
    """A change in the work tree is nobody's yet; without a repository all are."""
    build(tmp_path, [Change((), line("a", 1000, x=1, y=1))])
    with Store.open(tmp_path / ".taskstore") as store:
        store.patch("plans", "a", x=2)
        assert {"x": None, "y": "change 0"} == blamed(store, "a")
        with pytest.raises(RecordNotFoundError):
            store.blame("plans", "b")
    with Store.open(tmp_path.parent / "alone" / ".taskstore") as store:
        store.create({"id": "a", "x": 1}, collection="plans")
        assert {"x": None} == blamed(store, "a")


def test_an_answer_is_kept_as_long_as_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked again, no history is read; after a commit, or a change that is not one, it is."""
    build(tmp_path, [Change((), line("a", 1000, x=1, y=1))])
    asked: list[str] = []

    def counted(log: Path, id: str, *arguments: Any, **options: Any) -> Any:
        asked.append(id)
        return versions(log, id, *arguments, **options)

    monkeypatch.setattr(history, "versions", counted)
    with Store.open(tmp_path / ".taskstore") as store:
        for _ in range(2):
            assert {"x": "change 0", "y": "change 0"} == blamed(store, "a")
        assert ["a"] == asked
        store.patch("plans", "a", x=2)
        assert {"x": None, "y": "change 0"} == blamed(store, "a")
        run(tmp_path, "commit", "-q", "-a", "-m", "second")
        assert {"x": "second", "y": "change 0"} == blamed(store, "a")
        assert {"x": "second", "y": "change 0"} == blamed(store, "a")
        assert 3 == len(asked)
        for kept in (tmp_path / ".git").rglob("blame-*.json"):
            kept.write_text("[")
        assert {"x": "second", "y": "change 0"} == blamed(store, "a")


def test_blame_looks_behind_a_compaction(tmp_path: Path) -> None:
    """Older versions that the log does not have any more still count."""
    first, second = line("a", 1000, x=1, y=1), line("a", 1001, x=2, y=1)
    build(tmp_path, [Change((), first), Change((0,), first + second), Change((1,), second)])
    with Store.open(tmp_path / ".taskstore") as store:
        assert {"x": "change 1", "y": "change 0"} == blamed(store, "a")


def test_the_end_of_a_shallow_clone_is_marked(tmp_path: Path) -> None:
    """What the oldest commit of a shallow clone has may be older."""
    first = line("a", 1000, x=1)
    build(tmp_path / "whole", [Change((), first), Change((0,), first + line("b", 1001))])
    call = ("clone", "-q", "--depth=1", f"file://{tmp_path}/whole", f"{tmp_path}/clone")
    run(tmp_path, *call)
    with Store.open(tmp_path / "clone" / ".taskstore") as store:
        assert [True] == [found.is_boundary for found in store.blame("plans", "a")]


@pytest.fixture
def store(tmp_path: Path) -> Any:
    """A store of three commits: a and b made, both changed, b deleted and the log compacted."""
    first = line("a", 1000, x=1, y=1) + line("b", 1000, x=1)
    second = first + line("a", 2000, x=2, y=1) + line("b", 2000, x=2)
    third = line("a", 2000, x=2, y=1) + line("b", 3000, deleted=True)
    build(tmp_path, [Change((), first), Change((0,), second), Change((1,), third)])
    with Store.open(tmp_path / ".taskstore") as opened:
        yield opened


def values(store: Store) -> dict[str, dict[str, Any]]:
    """The records without their times."""
    rows = {row["id"]: dict(row) for row in store.list("plans")}
    return {id: {k: v for k, v in row.items() if k in ("x", "y")} for id, row in rows.items()}


def test_a_deleted_record_is_restored_as_it_last_was(store: Store) -> None:
    """Also when only git's history has it; it gets a newer version than its tombstone."""
    restored = store.restore("plans", "b")
    assert 2 == restored["x"]
    assert restored["updated_at"] > 3000
    with pytest.raises(RecordExistsError):
        store.restore("plans", "b")
    with pytest.raises(RecordNotFoundError):
        store.restore("plans", "c")


def test_a_record_is_restored_as_of_a_revision(store: Store) -> None:
    """All of its fields; once more writes nothing."""
    restored = store.restore("plans", "a", at="HEAD~2")
    assert (1, 1) == (restored["x"], restored["y"])
    assert restored == store.restore("plans", "a", at="HEAD~2")
    with pytest.raises(CommitNotFoundError):
        store.restore("plans", "a", at="nowhere")


def test_a_commit_is_reverted_where_nothing_came_after(store: Store) -> None:
    """Changed fields get their old values, created records go, deleted ones come back."""
    assert [("plans", "b")] == store.revert("HEAD")
    assert {"a": {"x": 2, "y": 1}, "b": {"x": 2}} == values(store)
    store.patch("plans", "a", y=7)
    assert [("plans", "a"), ("plans", "b")] == store.revert("HEAD~1")
    assert {"a": {"x": 1, "y": 7}, "b": {"x": 1}} == values(store)
    assert [] == store.revert("HEAD~1")


def test_a_value_that_was_changed_again_is_not_reverted(store: Store) -> None:
    """All conflicts are named, and nothing is written; also for created and deleted records."""
    store.patch("plans", "a", x=9)
    before = values(store)
    with pytest.raises(RevertConflictError) as caught:
        store.revert("HEAD~1")
    assert ("plans/a.x", "plans/b") == caught.value.conflicts
    with pytest.raises(RevertConflictError) as caught:
        store.revert("HEAD~2")
    assert ("plans/a",) == caught.value.conflicts
    assert before == values(store)


@pytest.mark.parametrize("replaces", ["a directory", "a link to itself"])
def test_a_log_that_is_no_file_is_a_typed_error(store: Store, replaces: str) -> None:
    """Blame and restore name the log; tables of the history have what git knows."""
    log = store.path / "plans.jsonl"
    log.unlink()
    log.mkdir() if replaces == "a directory" else log.symlink_to(log.name)
    for call in (store.blame, store.restore):
        with pytest.raises(StoreAccessError, match=r"plans\.jsonl"):
            call("plans", "a")
    with store.history_session("plans") as session:
        found = session.scalars(select(RecordVersion.line)).all()
    assert found
    assert {None} == set(found)


def test_a_merge_is_not_reverted(tmp_path: Path) -> None:
    """It raises, and says what to do."""
    first = line("a", 1000)
    changes = [Change((), first), Change((0,), first + line("b", 1)), Change((0,), "")]
    build(tmp_path, [*changes, Change((1, 2), first)])
    with Store.open(tmp_path / ".taskstore") as store, pytest.raises(GitError, match="merge"):
        store.revert("HEAD")


def test_the_commands(store: Store, tmp_path: Path) -> None:
    """`blame`, `restore` and `revert` say what they found and did, and exit as documented."""
    done = on_pipe("blame", "plans", "a", "--json", cwd=tmp_path)
    assert ["change 1", "change 0"] == [each["subject"] for each in json.loads(done.stdout)]
    assert "x\t2\t" in on_pipe("blame", "plans", "a", cwd=tmp_path).stdout
    assert 1 == on_pipe("blame", "plans", "b", cwd=tmp_path).status
    done = on_pipe("revert", "HEAD~2", cwd=tmp_path)
    assert 1 == done.status
    assert "plans/a" in done.stderr
    assert 3 == on_pipe("revert", "nowhere", cwd=tmp_path).status
    done = on_pipe("revert", "HEAD", "--json", cwd=tmp_path)
    assert [{"collection": "plans", "id": "b"}] == json.loads(done.stdout)
    assert 1 == on_pipe("restore", "plans", "a", cwd=tmp_path).status
    done = on_pipe("restore", "plans", "a", "--at", "HEAD~2", "--json", cwd=tmp_path)
    assert 1 == json.loads(done.stdout)["x"]


def test_the_calls_of_asyncio(store: Store) -> None:
    """The asyncio store has the same calls."""

    async def use() -> tuple[int, Any, list[Any]]:
        async with AsyncStore.open(store.path) as opened:
            found = await opened.blame("plans", "a")
            restored = await opened.restore("plans", "b")
            return len(found), restored["x"], await opened.revert("HEAD")

    assert (2, 2, []) == asyncio.run(use())
