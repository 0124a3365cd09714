"""Logs are merged by record wherever the attributes of the store are not checked out."""

from __future__ import annotations

import os
from pathlib import Path

from tests.git.clones import Clone, files_of, new_clone


def merged(clone: Clone) -> None:
    """The one record has what both sides did, and nothing conflicts."""
    assert {"title": "M", "status": "B"}.items() <= clone.plans()["a"].items()
    assert "" == clone.git("diff", "--name-only", "--diff-filter=U").stdout


def edited_on_both(clone: Clone, branch: str) -> None:
    """Edit one field on another branch, and another one here; stay on the other branch."""
    clone.git("checkout", "-q", branch)
    clone.change("a", status="B")
    clone.git("checkout", "-q", "main")
    clone.change("a", title="M")


def test_a_branch_that_is_older_than_the_installation(tmp_path: Path) -> None:
    """A topic branch has no attributes yet, and merges what brings them."""
    clone = new_clone(tmp_path / "one", install=False)
    clone.git("branch", "topic")
    clone.taskstore("git", "install")
    clone.commit("install")
    edited_on_both(clone, "topic")
    clone.git("checkout", "-q", "topic")
    clone.git("merge", "-q", "--no-edit", "main")
    merged(clone)


def test_a_stash_that_is_popped_on_an_older_branch(tmp_path: Path) -> None:
    """The attributes are in what was stashed upon, and not in what it is popped on."""
    clone = new_clone(tmp_path / "one", install=False)
    clone.git("checkout", "-q", "-b", "topic")
    clone.change("a", status="B")
    clone.git("checkout", "-q", "main")
    clone.taskstore("git", "install")
    clone.commit("install")
    clone.put("a", title="M")
    clone.git("stash")
    clone.git("checkout", "-q", "topic")
    clone.git("stash", "pop")
    merged(clone)


def test_a_store_that_one_branch_has_moved(clone: Clone) -> None:
    """The lines that the other branch appends follow it."""
    clone.git("checkout", "-q", "-b", "topic")
    clone.change("a", status="B")
    clone.git("checkout", "-q", "main")
    clone.change("a", title="M")
    (clone.path / "sub").mkdir()
    clone.git("mv", ".taskstore", "sub/.taskstore")
    clone.git("commit", "-q", "-m", "move")
    clone.git("merge", "-q", "--no-edit", "topic")
    text = clone.read("sub/.taskstore/plans.jsonl")
    assert "<<<<" not in text
    assert '"status":"B"' in text.splitlines()[-1]


def test_a_sparse_checkout_without_the_store(clone: Clone, tmp_path: Path) -> None:
    """It merges with the policies that are committed, though nothing of the store is there."""
    clone.write("x", "src/file")
    clone.write('[merge.plans]\ntitle = "max"\n', ".taskstore/config.toml")
    clone.commit("policies")
    clone.git("branch", "topic")
    edited_on_both(clone, "topic")
    other = clone.clone(tmp_path / "two")
    other.git("branch", "topic", "origin/topic")
    other.git("sparse-checkout", "set", "--no-cone", "/src/")
    assert not (other.path / ".taskstore" / "plans.jsonl").exists()
    other.git("merge", "-q", "--no-edit", "topic")
    other.git("sparse-checkout", "disable")
    merged(other)


def test_the_attributes_of_the_clone_are_as_they_were(tmp_path: Path) -> None:
    """A file that was there gets its bytes back, and a folder that was not goes again."""
    for number, before in enumerate([None, b"", b"*.png binary\n", b"*.png binary"]):
        clone = new_clone(tmp_path / str(number), install=False)
        info = clone.path / ".git" / "info" / "attributes"
        if before is not None:
            info.parent.mkdir(exist_ok=True)
            info.write_bytes(before)
        was = files_of(clone.path / ".git")
        clone.taskstore("git", "install")
        assert b"**/.taskstore/*.jsonl merge=union" in info.read_bytes()
        clone.taskstore("git", "uninstall")
        assert was == files_of(clone.path / ".git"), before


def test_what_stands_behind_ours_is_overruled(clone: Clone) -> None:
    """Of the clone's own attributes the last count: an installation puts ours there."""
    info = clone.path / ".git" / "info" / "attributes"
    with info.open("ab") as file:
        file.write(b"*.jsonl merge=binary -diff\n")
    assert not clone.json("git", "status", status=1)["attributes"]["ok"]
    clone.taskstore("git", "install")
    assert clone.json("git", "status")["ok"]


def test_attributes_of_this_clone_alone_are_not_enough(clone: Clone) -> None:
    """Others need them as well: status says so where the file in the store is gone."""
    os.remove(clone.directory / ".gitattributes")
    clone.commit("no attributes")
    found = clone.json("git", "status", status=1)["attributes"]
    assert {"merge": "union in this clone alone"} == found["wrong"]
