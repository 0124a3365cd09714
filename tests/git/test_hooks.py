"""What the installed hooks do, and what they leave alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.git.clones import Clone
from tests.merge.repositories import LOG, line

MARKERS = "<<<<<<< ours\n=======\n>>>>>>> theirs\n"


def staged(clone: Clone) -> str:
    """The index."""
    return clone.git("ls-files", "--stage").stdout


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (MARKERS, "a git conflict marker"),
        ("{broken\n", "not JSON"),
        ('{"title":"no id"}\n', "no id"),
    ],
    ids=["markers", "broken", "no id"],
)
def test_a_commit_that_would_add_unusable_lines_is_refused(
    clone: Clone, text: str, reason: str
) -> None:
    """Conflict markers and lines that are no records are refused, with file, line and reason."""
    clone.append(line("c", 5) + text)
    clone.git("add", "-A")
    before = staged(clone)
    done = clone.git("commit", "-qm", "no", status=1)
    assert f"{LOG}:4: {reason}" in done.stderr
    assert "git commit --no-verify" in done.stderr
    assert before == staged(clone)
    clone.git("commit", "-qm", "yes", "--no-verify")


@pytest.mark.parametrize("call", [("-a",), ("--only", LOG), ("--include", LOG)])
def test_the_index_that_is_committed_is_checked(clone: Clone, call: tuple[str, ...]) -> None:
    """Also where git commits another index than the usual one, that is the one that is read."""
    clone.append(MARKERS)
    clone.git("commit", "-qm", "no", *call, status=1)
    assert f" M {LOG}\n" == clone.git("status", "--porcelain").stdout


def test_what_is_not_staged_does_not_count(clone: Clone) -> None:
    """The index is judged, not the work tree: what a commit leaves out may be anything."""
    clone.append(line("c", 5, title="C"))
    clone.git("add", "-A")
    clone.append(MARKERS)
    clone.git("commit", "-qm", "only c")
    assert f" M {LOG}\n" == clone.git("status", "--porcelain").stdout


def test_old_faults_do_not_stop_anybody(clone: Clone) -> None:
    """Unusable lines that are committed already do not count again, also after a merge."""
    clone.append("{broken\n")
    clone.git("add", "-A")
    clone.git("commit", "-qm", "faulty", "--no-verify")
    clone.git("switch", "-qc", "other")
    clone.append("{other\n")
    clone.git("add", "-A")
    clone.git("commit", "-qm", "faulty too", "--no-verify")
    clone.git("switch", "-q", "main")
    clone.change("c", title="C")
    clone.git("merge", "-q", "--no-commit", "other")
    clone.git("commit", "-qm", "merged")
    clone.append("{broken\n")
    clone.git("add", "-A")
    clone.git("commit", "-qm", "a second one", status=1)


def test_a_marker_inside_a_string_is_no_marker(clone: Clone) -> None:
    """A record whose text has conflict markers in it is committed."""
    clone.change("c", title=MARKERS)
    assert MARKERS == clone.plans()["c"]["title"]


def test_the_first_commit_is_checked_too(tmp_path: Path) -> None:
    """In a repository without a commit the whole index is what would be added."""
    fresh = Clone(tmp_path)
    fresh.git("init", "-q", "-b", "main")
    fresh.taskstore("init")
    fresh.write(MARKERS)
    fresh.git("add", "-A")
    fresh.git("commit", "-qm", "no", status=1)
    fresh.write(line("a", 1))
    fresh.commit()


@pytest.mark.parametrize("in_worktree", [False, True])
@pytest.mark.parametrize("call", [("-m", "x"), ("-a", "-m", "x"), ("--only", LOG, "-m", "x")])
def test_the_index_is_left_alone(
    clone: Clone, call: tuple[str, ...], in_worktree: bool, tmp_path: Path
) -> None:
    """A commit takes what it was told to, and nothing else that is changed or new."""
    if in_worktree:
        clone.git("worktree", "add", "-q", "-b", "other", str(tmp_path / "tree"))
        clone = Clone(tmp_path / "tree")
    clone.write("1\n", "tracked")
    clone.write("1\n", "staged")
    clone.commit("files")
    clone.write("2\n", "staged")
    clone.git("add", "staged")
    clone.write("2\n", "tracked")
    clone.write("new\n", "new")
    clone.put("a", title="Changed")
    if call[0] == "-m":
        clone.git("add", LOG)
    clone.git("commit", "-q", *call)
    committed = set(clone.git("show", "--format=", "--name-only").stdout.split())
    left = set(clone.git("status", "--porcelain").stdout.splitlines())
    expected = {
        "-m": ({"staged", LOG}, {" M tracked", "?? new"}),
        "-a": ({"staged", "tracked", LOG}, {"?? new"}),
        "--only": ({LOG}, {"M  staged", " M tracked", "?? new"}),
    }
    assert expected[call[0]] == (committed, left)


def test_a_pull_refreshes_the_cache(clone: Clone, tmp_path: Path) -> None:
    """After a pull, a rebase, an amend and a checkout the cache knows without being asked."""
    mine = clone.clone(tmp_path / "mine")
    mine.plans()
    clone.change("a", title="New")
    mine.git("pull", "-q")
    assert not mine.is_stale()
    mine.git("checkout", "-q", "HEAD~1")
    assert not mine.is_stale()
    mine.git("checkout", "-q", "main", "--", LOG)
    assert not mine.is_stale()


def test_a_switch_that_changes_no_log_is_not_slowed(clone: Clone) -> None:
    """Where two commits have the same logs the checkout hook does not open the store."""
    clone.write("x\n", "file")
    clone.commit("no log")
    # An unusable cache would be rebuilt by whoever opens the store.
    (clone.directory / "taskstore.db").write_bytes(b"garbled")
    clone.git("switch", "-q", "-c", "new")
    clone.git("switch", "-q", "--detach", "HEAD~1")
    assert b"garbled" == (clone.directory / "taskstore.db").read_bytes()
    clone.git("checkout", "-q", "HEAD", "--", LOG)
    assert b"garbled" != (clone.directory / "taskstore.db").read_bytes()


def test_a_hook_makes_no_cache(clone: Clone, tmp_path: Path) -> None:
    """Where nobody has opened the store yet the hooks write nothing."""
    mine = clone.clone(tmp_path / "mine")
    clone.change("a", title="New")
    mine.git("pull", "-q")
    assert not list(mine.directory.glob("taskstore.*"))


def test_a_store_that_is_in_use_blocks_no_hook(clone: Clone) -> None:
    """While another program holds a transaction open git works, and the hook says nothing."""
    clone.git("switch", "-qc", "other")
    clone.change("a", title="New")
    clone.git("switch", "-q", "main")
    with clone.store() as store, store.transaction():
        store.save({"id": "z"}, collection="notes")
        done = clone.git("merge", "-q", "other")
    assert "Traceback" not in done.stderr
    assert "New" == clone.plans()["a"]["title"]


def test_a_hook_in_a_folder_without_a_store_is_silent(clone: Clone) -> None:
    """On a branch that has no store the hooks do nothing."""
    clone.git("switch", "-q", "--orphan", "empty")
    clone.write("x\n", "file")
    clone.git("add", "file")
    done = clone.git("commit", "-qm", "no store here")
    assert "" == done.stderr
