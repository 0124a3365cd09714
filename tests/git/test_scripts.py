"""What people do with git, each ending with a right store that nobody touched by hand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from taskstore import Store
from tests.git.clones import Clone, new_clone

pytestmark = pytest.mark.public

Rows = dict[str, dict[str, Any]]
A = {"id": "a", "title": "A", "status": "open", "labels": ["x"]}
B = {"id": "b", "title": "B"}


def test_a_branch_with_edits_of_different_fields(clone: Clone) -> None:
    """Two branches that edit different fields of one record merge to a record with both."""
    clone.git("switch", "-qc", "other")
    clone.change("a", status="done", labels=["x", "y"])
    clone.git("switch", "-q", "main")
    clone.change("a", title="Better")
    clone.git("merge", "-q", "other")
    expected = {"id": "a", "title": "Better", "status": "done", "labels": ["x", "y"]}
    assert {"a": expected, "b": B} == clone.plans()


def test_a_branch_with_edits_of_the_same_field(clone: Clone) -> None:
    """Of two edits of one field the later counts, whichever branch it was made on."""
    clone.git("switch", "-qc", "other")
    clone.change("a", title="Earlier", status="done")
    clone.git("switch", "-q", "main")
    clone.change("a", title="Later")
    done = clone.git("merge", "other")
    assert {"a": {**A, "title": "Later", "status": "done"}, "b": B} == clone.plans()
    assert 'a: title: ours "Later", theirs "Earlier": took ours (newer)' in done.stderr


def test_add_add_of_one_id(clone: Clone) -> None:
    """A record that both branches created is one record with the fields of both."""
    clone.git("switch", "-qc", "other")
    clone.change("c", mine=1, title="First")
    clone.git("switch", "-q", "main")
    clone.change("c", yours=2, title="Second")
    clone.git("merge", "-q", "other")
    assert {"id": "c", "yours": 2, "title": "Second", "mine": 1} == clone.plans()["c"]


@pytest.mark.parametrize("deleted_last", [True, False])
def test_delete_against_edit(clone: Clone, deleted_last: bool) -> None:
    """Of a deletion and an edit the later counts."""
    steps = [lambda: clone.change("b", title="Edited"), lambda: delete(clone, "b")]
    clone.git("switch", "-qc", "other")
    steps[not deleted_last]()
    clone.git("switch", "-q", "main")
    steps[deleted_last]()
    clone.git("merge", "-q", "other")
    assert (None if deleted_last else {"id": "b", "title": "Edited"}) == clone.plans().get("b")


def delete(clone: Clone, id: str) -> None:
    """Delete a record and commit that."""
    clone.delete(id)
    clone.commit("delete")


def test_a_rebase_of_ten_commits(clone: Clone) -> None:
    """Ten commits that touch what another branch touched are rebased without a stop."""
    clone.git("switch", "-qc", "topic")
    for n in range(10):
        clone.change("a", title=f"Title {n}", **{f"field{n}": n})
    clone.git("switch", "-q", "main")
    clone.change("a", status="done")
    clone.change("b", title="Also")
    clone.git("switch", "-q", "topic")
    clone.git("rebase", "-q", "main")
    assert "10" == clone.git("rev-list", "--count", "main..topic").stdout.strip()
    fields = {f"field{n}": n for n in range(10)}
    expected = {**A, "title": "Title 9", "status": "done", **fields}
    assert {"a": expected, "b": {"id": "b", "title": "Also"}} == clone.plans()


def test_pull_with_rebase(clone: Clone, tmp_path: Path) -> None:
    """`git pull --rebase` puts our commits onto theirs, and the cache knows at once."""
    mine = clone.clone(tmp_path / "mine")
    mine.plans()
    clone.change("a", status="done")
    mine.change("a", title="Mine")
    mine.change("c", title="C")
    mine.git("pull", "-q", "--rebase")
    assert not mine.is_stale()
    expected = {**A, "title": "Mine", "status": "done"}
    assert {"a": expected, "b": B, "c": {"id": "c", "title": "C"}} == mine.plans()


def test_a_cherry_pick(clone: Clone) -> None:
    """A commit that is picked brings its change of a record, and nothing else of its branch."""
    clone.git("switch", "-qc", "other")
    clone.change("a", title="Not this")
    clone.change("b", title="This")
    clone.git("switch", "-q", "main")
    clone.change("b", extra=1)
    clone.git("cherry-pick", "other")
    assert {"a": A, "b": {"id": "b", "title": "This", "extra": 1}} == clone.plans()


def test_a_revert(clone: Clone) -> None:
    """A commit that is reverted takes its change along, and keeps what came after it."""
    clone.change("a", title="Wrong")
    clone.change("a", status="done")
    clone.git("revert", "--no-edit", "HEAD~1")
    assert {"a": {**A, "status": "done"}, "b": B} == clone.plans()


def test_stash_and_pop(clone: Clone) -> None:
    """Changes that are stashed are gone, and popped onto others they are there with them."""
    clone.put("a", title="Stashed")
    clone.git("stash", "-q")
    assert A == clone.plans()["a"]
    clone.change("a", status="done")
    clone.git("stash", "pop", "-q")
    assert {**A, "title": "Stashed", "status": "done"} == clone.plans()["a"]


def test_checkout_there_and_back(clone: Clone) -> None:
    """Each branch that is checked out has its own records, and the store says so."""
    before = clone.plans()
    clone.git("switch", "-qc", "other")
    clone.change("a", title="Other")
    delete(clone, "b")
    other = clone.plans()
    for _ in range(2):
        clone.git("switch", "-q", "main")
        assert not clone.is_stale()
        assert before == clone.plans()
        clone.git("switch", "-q", "other")
        assert other == clone.plans()
    clone.git("checkout", "-q", "main", "--", ".taskstore")
    assert not clone.is_stale()
    assert before == clone.plans()


def test_worktrees(clone: Clone, tmp_path: Path) -> None:
    """Each work tree of a clone has a store of its own, and merges with the same driver."""
    clone.git("worktree", "add", "-q", "-b", "other", str(tmp_path / "work tree"))
    other = Clone(tmp_path / "work tree")
    other.change("a", title="Other")
    clone.change("a", status="done")
    assert {**A, "title": "Other"} == other.plans()["a"]
    other.git("merge", "-q", "main")
    assert {**A, "title": "Other", "status": "done"} == other.plans()["a"]
    assert {**A, "status": "done"} == clone.plans()["a"]
    clone.git("merge", "-q", "other")
    assert other.plans() == clone.plans()
    assert other.json("git", "status")["ok"]


def test_a_shallow_clone(clone: Clone, tmp_path: Path) -> None:
    """A clone without history has all records, and merges what is fetched."""
    for n in range(3):
        clone.change("a", rank=n)
    clone.git("clone", "-q", "--depth", "1", clone.path.as_uri(), str(tmp_path / "shallow"))
    shallow = Clone(tmp_path / "shallow")
    shallow.taskstore("init")
    assert clone.plans() == shallow.plans()
    shallow.change("a", title="Shallow")
    clone.change("a", status="done")
    shallow.git("pull", "-q", "--no-rebase")
    assert {**A, "title": "Shallow", "status": "done", "rank": 2} == shallow.plans()["a"]


def branches(clone: Clone, names: str) -> None:
    """Make branches from here that each change the same record and create one of their own."""
    for name in names:
        clone.git("switch", "-qc", name, "main")
        clone.change("a", **{name: name})
        clone.change(f"of-{name}", title=name)
    clone.git("switch", "-q", "main")


def test_an_octopus_merge_of_two_branches(clone: Clone) -> None:
    """Git calls no driver in an octopus: `doctor --fix` merges by record what it left."""
    branches(clone, "xy")
    clone.git("merge", "x", "y", status=1)
    assert "UU .taskstore/plans.jsonl\n" == clone.git("status", "--porcelain").stdout
    with clone.store() as store:
        # The lines of both sides are read, whatever stands between them.
        assert {"a", "b", "of-x", "of-y"} == {row["id"] for row in store.list("plans")}
    found = clone.json("doctor", status=1)
    assert {"conflict"} == {item["code"] for item in found["findings"]}
    clone.taskstore("doctor", "--fix")
    clone.git("commit", "-q", "--no-edit")
    assert 2 == len(clone.git("log", "-1", "--format=%P").stdout.split())
    expected = {**A, "x": "x", "y": "y"}
    assert expected == clone.plans()["a"]
    assert {"a", "b", "of-x", "of-y"} == set(clone.plans())


def test_an_octopus_merge_that_git_gives_up(clone: Clone) -> None:
    """Where an octopus fails before its last branch git changes nothing; one by one they merge."""
    branches(clone, "xyz")
    before = clone.plans()
    clone.git("merge", "x", "y", "z", status=2)
    assert ("", before) == (clone.git("status", "--porcelain").stdout, clone.plans())
    assert clone.json("doctor")["ok"]
    for name in "xyz":
        clone.git("merge", "-q", name)
    assert {**A, "x": "x", "y": "y", "z": "z"} == clone.plans()["a"]


def test_an_octopus_merge_without_a_conflict(clone: Clone) -> None:
    """An octopus of branches that changed different logs merges as any other."""
    for name in ("notes", "tags"):
        clone.git("switch", "-qc", name, "main")
        with clone.store() as store:
            store.save({"id": name}, collection=name)
        clone.commit()
    clone.git("switch", "-q", "main")
    clone.git("merge", "-q", "notes", "tags")
    assert {"a": A, "b": B} == clone.plans()
    with clone.store() as store:
        assert [1, 1] == [store.count(name) for name in ("notes", "tags")]


def test_a_merge_without_the_driver(tmp_path: Path) -> None:
    """A clone where nothing is installed keeps the lines of both, and every store reads them."""
    plain = new_clone(tmp_path / "plain")
    plain.taskstore("git", "uninstall")
    plain.git("switch", "-qc", "other")
    plain.change("a", title="Other")
    plain.change("c", title="C")
    plain.git("switch", "-q", "main")
    plain.change("b", title="Better")
    plain.git("merge", "-q", "other")
    assert "" == plain.git("status", "--porcelain").stdout
    expected = {
        "a": {**A, "title": "Other"},
        "b": {"id": "b", "title": "Better"},
        "c": {"id": "c", "title": "C"},
    }
    assert expected == plain.plans()
    equipped = plain.clone(tmp_path / "equipped")
    assert expected == equipped.plans()


def test_two_clones_push_and_pull(clone: Clone, tmp_path: Path) -> None:
    """Two clones that work at the same records end with the same bytes after one round each."""
    clone.git("clone", "-q", "--bare", ".", str(tmp_path / "hub.git"))
    here, there = (Clone(tmp_path / name) for name in ("here", "there"))
    for each in (here, there):
        clone.git("clone", "-q", str(tmp_path / "hub.git"), str(each.path))
        each.taskstore("init")
    here.change("a", title="Here")
    there.change("a", status="done")
    there.change("d", title="D")
    here.git("push", "-q")
    there.git("pull", "-q", "--no-rebase")
    there.git("push", "-q")
    here.git("pull", "-q", "--no-rebase")
    assert here.read() == there.read()
    assert {**A, "title": "Here", "status": "done"} == here.plans()["a"]
    for each in (here, there):
        each.git("pull", "-q", "--no-rebase")
        assert "" == each.git("status", "--porcelain").stdout


def test_a_store_used_from_a_hook_of_another_repository(
    clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variables that git sets for a hook do not lead a command to the wrong repository."""
    other = new_clone(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(other.path / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.path / ".git" / "index"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other.path))
    found = clone.run("git", "status", "--json")
    assert os.fspath(clone.path).replace('"', '\\"') in found.stdout
    with Store.open(clone.directory) as store:
        assert 2 == store.count("plans")
