"""A store that git has and does not check out: nobody makes a second one over it unawares."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from tests.git.clones import Clone, files_of, new_clone
from tests.merge.repositories import LOG, line


@pytest.fixture
def sparse(tmp_path: Path) -> Clone:
    """A repository with a store, all installed, that a sparse checkout leaves out."""
    clone = new_clone(tmp_path / 'it\'s a "[sparse]" one')
    clone.write("x", "d/f")
    clone.commit("d")
    clone.git("sparse-checkout", "set", "--cone", "d")
    assert not clone.directory.exists()
    return clone


@pytest.mark.parametrize("call", [(), ("--no-git",), ("--store", "d/..")])
def test_no_store_is_made_where_git_leaves_one_out(sparse: Clone, call: tuple[str, ...]) -> None:
    """`init` refuses with the command that takes the store in, and makes nothing."""
    before = files_of(sparse.path)
    done = sparse.run("init", *call)
    assert 3 == done.returncode
    assert "`git sparse-checkout add .taskstore`" in done.stderr
    assert before == files_of(sparse.path)
    sparse.git("sparse-checkout", "add", ".taskstore")
    assert not sparse.json("init")["created"]
    assert {"a", "b"} == set(sparse.plans())


@pytest.mark.parametrize("hides", [True, False], ids=["skip-worktree", "removed"])
def test_no_store_is_made_where_one_is_missing(clone: Clone, hides: bool) -> None:
    """A tracked store that is gone from the work tree comes back with the command that is told."""
    if hides:
        clone.git("update-index", "--skip-worktree", LOG)
    for path in clone.directory.iterdir():
        path.unlink()
    clone.directory.rmdir()
    below = Clone(clone.path / "below")
    below.path.mkdir()
    done = below.run("init", "--store", "../.taskstore")
    assert 3 == done.returncode
    command = done.stderr.split("`")[1]
    assert f"git -C {shlex.quote(str(clone.path))} " in command
    subprocess.run(command, shell=True, cwd=below.path, check=True)
    assert {"a", "b"} == set(clone.plans())


def test_a_log_that_is_not_checked_out_is_an_error(sparse: Clone) -> None:
    """Where the directory is there and a log of git is not, doctor names it and the way back."""
    sparse.directory.mkdir()
    with sparse.store():
        pass
    (finding,) = (i for i in sparse.json("doctor", status=1)["findings"] if i["code"] == "absent")
    assert ("error", f"git leaves out {LOG}") == (finding["level"], finding["message"])
    assert "git sparse-checkout add .taskstore" == finding["remedy"]
    assert 3 == sparse.run("init").returncode


def test_a_log_that_was_removed_is_an_error(clone: Clone) -> None:
    """A tracked log that is missing is told, with both things that can be meant."""
    (clone.path / LOG).unlink()
    (finding,) = (i for i in clone.json("doctor", status=1)["findings"] if i["code"] == "absent")
    assert (
        "git restore -- .taskstore; or, if that was meant, commit the removal"
        == (finding["remedy"])
    )


def test_a_second_log_over_the_first_is_found_and_joined(sparse: Clone) -> None:
    """What a program began anew is refused by the hook; doctor's command joins both logs."""
    sparse.put("new", title="New")
    (finding,) = (i for i in sparse.json("doctor", status=1)["findings"] if i["code"] == "replaced")
    assert "error" == finding["level"]
    assert f"{LOG} was started over: 2 record(s)" in finding["message"]
    sparse.git("sparse-checkout", "disable")
    done = sparse.git("commit", "-qam", "all", status=1)
    assert f"{LOG}: replaced by another log that lacks 2 record(s)" in done.stderr
    assert "taskstore doctor" in done.stderr
    command = finding["remedy"].split(": ", 1)[1]
    subprocess.run(command, shell=True, cwd=sparse.path, check=True)
    sparse.git("checkout", "-q", "--", ".taskstore/.gitattributes")
    assert {"a", "b", "new"} == set(sparse.plans())
    sparse.git("commit", "-qam", "all")
    assert sparse.json("doctor")["ok"]


@pytest.mark.parametrize(
    "text",
    [
        line("a", 8, title="A") + line("b", 8, title="B"),
        line("a", 8, deleted=True) + line("b", 8, deleted=True),
        line("a", 8, title="A"),
        "",
    ],
    ids=["rewritten", "deleted", "half", "emptied"],
)
def test_a_log_that_keeps_its_ids_is_committed(clone: Clone, text: str) -> None:
    """Every line may change, and a log may be emptied, without being taken for another log."""
    clone.write(text)
    clone.commit("anew")
    assert text == clone.read()


def test_records_may_be_dropped_after_their_tombstones(clone: Clone) -> None:
    """Ids of deleted records may vanish, also together with every line."""
    clone.delete("a")
    clone.delete("b")
    clone.commit("deleted")
    clone.write(line("c", 9, title="C"))
    clone.commit("compacted, and started over")


def test_a_merge_that_takes_the_other_side_is_committed(clone: Clone) -> None:
    """A log that is another parent's is no new one, though it has nothing of the first's."""
    clone.git("switch", "-qc", "other")
    clone.write(line("c", 9, title="C"))
    clone.git("add", "-A")
    clone.git("commit", "-qm", "other", "--no-verify")
    clone.git("switch", "-q", "main")
    clone.change("a", title="Ours")
    clone.git("merge", "-q", "--no-commit", "other")
    clone.git("checkout", "-q", "other", "--", LOG)
    clone.git("commit", "-qm", "theirs")
    assert {"c"} == set(clone.plans())
