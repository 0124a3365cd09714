"""`taskstore rename` and `taskstore drop`, and what git merges afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from taskstore import Store, record
from tests.git.clones import Clone, new_clone


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """A repository with two plans."""
    return new_clone(tmp_path / "one")


def renamed() -> Any:
    """A class that says that its collection was renamed twice."""

    @record("jobs", was=("plans", "tasks"))
    class Job:
        id: str
        title: str = ""
        updated_at: int = 0

    return Job


def test_a_class_can_state_the_same_rename_later(clone: Clone) -> None:
    """A class with was= writes nothing more after `rename`, and then it owns the name."""
    clone.taskstore("rename", "plans", "tasks")
    clone.taskstore("rename", "tasks", "jobs")
    stated = clone.read(".taskstore/evolutions.jsonl")
    job = renamed()
    with Store.open(clone.directory, types=[job]) as store:
        assert {"a", "b"} == {one.id for one in store.list(job)}
    assert stated == clone.read(".taskstore/evolutions.jsonl")
    found = clone.run("rename", "jobs", "works")
    assert (2, stated) == (found.returncode, clone.read(".taskstore/evolutions.jsonl"))
    assert "record('works', was=('plans', 'tasks', 'jobs'))" in found.stderr


def test_edits_under_both_names_merge(clone: Clone, tmp_path: Path) -> None:
    """A clone that renames a collection and one that writes to it keep the changes of both."""
    other = clone.clone(tmp_path / "two")
    clone.taskstore("rename", "plans", "tasks")
    clone.taskstore("set", "tasks", "a", "status=done")
    clone.commit("renamed")
    other.change("a", title="AA")
    other.git("pull", "-q", "--no-rebase")
    assert ("AA", "done") == tuple(
        other.json("get", "tasks", "a")[key] for key in ("title", "status")
    )
    assert {"evolutions", "tasks"} == {one["collection"] for one in other.json("collections")}


@pytest.mark.parametrize("name", ["plans", "evolutions", "notes", "a b", "tasks"])
def test_a_name_that_is_taken_is_refused(clone: Clone, name: str) -> None:
    """A collection cannot get a name that it had, that another one has, or that is not a name."""
    clone.taskstore("add", "notes", "id=x")
    clone.taskstore("rename", "plans", "tasks")
    stated = clone.read(".taskstore/evolutions.jsonl")
    assert 2 == clone.run("rename", "tasks", name).returncode
    assert stated == clone.read(".taskstore/evolutions.jsonl")


def test_a_dropped_collection_stays_empty(clone: Clone, tmp_path: Path) -> None:
    """A merge with a clone that has the records deletes them there, but for one changed later."""
    other = clone.clone(tmp_path / "two")
    assert {"collection": "plans", "deleted": 2, "dry_run": True} == clone.json(
        "drop", "plans", "--dry-run"
    )
    assert {"a", "b"} == set(clone.plans())
    clone.taskstore("drop", "plans", "--yes")
    clone.commit("dropped")
    other.change("b", title="Later")
    other.change("c", title="C")
    other.git("pull", "-q", "--no-rebase")
    assert {"b": {"id": "b", "title": "Later"}, "c": {"id": "c", "title": "C"}} == other.plans()


def test_the_log_of_a_dropped_collection_can_be_removed(clone: Clone, tmp_path: Path) -> None:
    """When all have merged the tombstones, `git rm` removes the log without a conflict."""
    clone.taskstore("drop", "plans", "--yes")
    clone.commit("dropped")
    other = clone.clone(tmp_path / "two")
    clone.git("rm", "-q", ".taskstore/plans.jsonl")
    clone.commit("removed")
    other.git("pull", "-q", "--no-rebase")
    for each in (clone, other):
        assert [] == each.json("collections")
        assert each.json("verify")["ok"]
