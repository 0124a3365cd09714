"""`taskstore scribe --commit --push`: databases in step with each other through git."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, create_engine, text
from sqlalchemy.pool import NullPool

from taskstore import Store
from taskstore._git import upstream
from taskstore._git.branch import Branch
from taskstore._git.log_commits import LogCommits
from taskstore._git.repository import Repository
from taskstore._log.layout import Layout
from taskstore.errors import GitError
from tests.git.clones import Clone as GitClone
from tests.merge.repositories import IDENTITY
from tests.postgres.models import Base, Label, Project, Task
from tests.postgres.repositories import Site, new_remote, new_site, refusing, soon


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    # The settings of whoever runs the tests are not those under test.
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in IDENTITY:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def remote(tmp_path: Path) -> GitClone:
    """What both sites push to."""
    return new_remote(tmp_path / "remote.git")


@pytest.fixture
def site(remote: GitClone, new_database: Callable[[], URL], tmp_path: Path) -> Site:
    """A clone with a database, whose scribe has run once."""
    made = new_site(remote, tmp_path / "site", new_database())
    made.git("add", ".taskstore")
    made.git("commit", "-qm", "Add a store")
    made.put_task("a", "first")
    made.scribe("--push")
    return made


def _sqlite_rows(clone: GitClone) -> dict[str, str]:
    """The titles of the tasks in the database of an application on SQLite."""
    engine = create_engine(f"sqlite:///{clone.path}/app.db", poolclass=NullPool)
    tables = [Base.metadata.tables[name] for name in ("projects", "tasks", "labels", "labelled")]
    Base.metadata.create_all(engine, tables=tables)
    mirrors = [Project, Task, Label]
    with Store.open(clone.directory, engine=engine, mirrors=mirrors, migrate=True) as store:
        assert ((), ()) == (store.verify().differences, store.verify().problems)
        with engine.connect() as connection:
            found = connection.execute(text("SELECT id, title FROM tasks ORDER BY id"))
            return {row[0]: row[1] for row in found}


def test_databases_and_clones_end_equal(
    site: Site, remote: GitClone, new_database: Callable[[], URL], tmp_path: Path
) -> None:
    """Two databases with a scribe each, and a clone on SQLite, have all that any of them wrote."""
    other = new_site(remote, tmp_path / "other", new_database())
    assert {"a": "first"} == other.rows()
    lite = remote.clone(tmp_path / "lite")
    (lite.path / ".git" / "info" / "exclude").write_text("app.db*\n")
    assert {"a": "first"} == _sqlite_rows(lite)

    site.put_task("one", "by one")
    other.put_task("two", "by two")
    site.put_task("a", "by one")
    other.sql("UPDATE tasks SET rank = 7 WHERE id = 'a'")
    with lite.store() as store:
        store.create({"id": "three", "title": "by three", "rank": 3}, collection="tasks")
    lite.commit("three")
    lite.git("push", "-q")
    site.scribe("--push")
    other.scribe("--push")
    site.scribe("--push")
    lite.git("pull", "-q", "--ff-only")

    expected = {"a": "by one", "one": "by one", "three": "by three", "two": "by two"}
    assert expected == site.rows()
    assert expected == other.rows()
    assert expected == _sqlite_rows(lite)
    assert site.head() == other.head() == remote.git("rev-parse", "main").stdout.strip()
    assert ([], []) == (site.status(), other.status())
    ranks = {line["id"]: line["rank"] for line in site.committed()}
    assert (7, 3) == (ranks["a"], ranks["three"])


def test_a_commit_has_the_logs_alone(site: Site) -> None:
    """What is staged, changed or untracked elsewhere is afterwards as it was, down to the index."""
    site.put_task("b", "second")
    site.path.joinpath("staged.py").write_text("staged\n")
    site.git("add", "staged.py")
    site.path.joinpath("staged.py").write_text("changed since\n")
    site.path.joinpath("README").write_text("changed\n")
    site.path.joinpath("untracked").write_text("x\n")
    site.path.joinpath(".taskstore/config.toml").write_text("# mine\n")
    before = site.status()
    site.scribe("--commit")
    assert before == site.status()
    assert "staged\n" == site.git("show", ":staged.py").stdout
    changed = site.git("diff-tree", "--no-commit-id", "--name-only", "-r", "HEAD").stdout
    assert [".taskstore/tasks.jsonl"] == changed.split()
    message = site.git("log", "-1", "--format=%an: %B").stdout.strip()
    assert "A: Update tasks\n\nCommitted by `taskstore scribe`." == message
    head = site.head()
    site.scribe("--commit")
    assert head == site.head()


def test_an_older_log_in_the_index_is_settled(site: Site) -> None:
    """What another scribe staged and did not commit, as this one was first, is put right."""
    log = site.directory / "tasks.jsonl"
    before = log.read_bytes()
    site.put_task("b", "second")
    site.scribe("--commit")
    after = log.read_bytes()
    log.write_bytes(before)
    site.git("add", str(log))
    log.write_bytes(after)
    assert ["MM .taskstore/tasks.jsonl"] == site.status()
    site.scribe("--commit")
    assert [] == site.status()


def test_a_merge_leaves_what_is_staged_and_changed(
    site: Site, remote: GitClone, tmp_path: Path
) -> None:
    """What others have pushed comes into the work tree beside files that they did not touch."""
    colleague = remote.clone(tmp_path / "colleague")
    colleague.write("new\n", "module.py")
    colleague.commit("module")
    colleague.git("push", "-q")
    site.put_task("b", "second")
    site.path.joinpath("staged.py").write_text("staged\n")
    site.git("add", "staged.py")
    site.path.joinpath("README").write_text("changed\n")
    site.scribe("--push")
    assert [" M README", "A  staged.py"] == site.status()
    assert "new\n" == site.read("module.py")
    subjects = site.git("log", "--format=%s", "-3").stdout.splitlines()
    assert {"Merge origin/main", "Update tasks", "module"} == set(subjects)


def test_others_who_push_meanwhile_are_merged(
    site: Site, remote: GitClone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the remote has moved on between fetch and push, that is merged, and pushed again."""
    colleague = remote.clone(tmp_path / "colleague")
    push, turns = upstream.Publishing._push, iter(range(2))

    def push_after_another(self: upstream.Publishing, to: upstream.Upstream) -> bool:
        if (number := next(turns, None)) is not None:
            colleague.git("pull", "-q", "--no-rebase")
            colleague.write(f"{number}\n", f"file{number}")
            colleague.commit(f"file{number}")
            colleague.git("push", "-q")
        return push(self, to)

    monkeypatch.setattr(upstream.Publishing, "_push", push_after_another)
    site.put_task("b", "second")
    site.scribe("--push")
    colleague.git("pull", "-q", "--ff-only")
    assert site.head() == colleague.git("rev-parse", "HEAD").stdout.strip()
    assert "1\n" == site.read("file1")


def test_a_remote_that_always_moves_on_is_given_up_for_now(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some tries the scribe says that others push all the time; its commit stays."""
    monkeypatch.setattr(upstream.Publishing, "_push", lambda self, to: False)
    monkeypatch.setattr(upstream, "_LONGEST_PAUSE", 0.0)
    site.put_task("b", "second")
    done = site.scribe("--push", status=3)
    assert "others committed or pushed meanwhile, 5 times" in done.output
    assert ["a", "b"] == [line["id"] for line in site.committed()]


def test_a_refusal_of_the_remote_is_shown(site: Site, remote: GitClone) -> None:
    """What a hook of the remote says is in the message; the next round pushes."""
    site.put_task("b", "second")
    with refusing(remote):
        done = site.scribe("--push", status=3)
    assert "hook declined" in done.output
    assert "no pushes today" in done.output
    assert 1 == len(site.committed("origin/main"))
    site.scribe("--push")
    assert 2 == len(site.committed("origin/main"))


def test_a_conflict_is_left_to_a_person(site: Site, remote: GitClone, tmp_path: Path) -> None:
    """Files that git cannot merge end the scribe, and nothing in the checkout has changed."""
    colleague = remote.clone(tmp_path / "colleague")
    colleague.write("theirs\n", "README")
    colleague.commit("theirs")
    colleague.git("push", "-q")
    site.write("ours\n", "README")
    site.commit("ours")
    site.put_task("b", "second")
    done = site.scribe("--push", status=3)
    assert "both sides changed README" in done.output
    assert "git merge origin/main" in done.output
    assert ([], "ours\n") == (site.status(), site.read("README"))
    assert ["a", "b"] == [line["id"] for line in site.committed()]
    site.git("merge", "-q", "-X", "ours", "--no-edit", "origin/main")
    site.scribe("--push")
    assert site.head() == remote.git("rev-parse", "main").stdout.strip()


def test_a_file_in_the_way_of_a_merge_is_not_overwritten(
    site: Site, remote: GitClone, tmp_path: Path
) -> None:
    """Where others changed a file that is changed here too, git's refusal is shown."""
    colleague = remote.clone(tmp_path / "colleague")
    colleague.write("theirs\n", "README")
    colleague.commit("theirs")
    colleague.git("push", "-q")
    site.path.joinpath("README").write_text("not committed\n")
    done = site.scribe("--push", status=3)
    assert "would be overwritten by merge" in done.output
    assert "not committed\n" == site.read("README")


@pytest.mark.parametrize(
    ("call", "back", "message"),
    [
        (("switch", "-qc", "topic"), ("switch", "-q", "main"), "git switch main"),
        (("checkout", "-q", "--detach"), ("switch", "-q", "main"), "its HEAD is detached"),
        (("revert", "-n", "HEAD"), ("revert", "--abort"), "git revert --abort"),
        (("rebase", "-q", "-x", "false", "HEAD~1"), ("rebase", "--abort"), "git rebase --abort"),
    ],
)
def test_a_checkout_that_is_not_as_it_has_to_be_is_left_alone(
    site: Site, call: tuple[str, ...], back: tuple[str, ...], message: str
) -> None:
    """On another branch, on none, or in the middle of work of git, nothing is written anywhere."""
    site.path.joinpath("README").write_text("second\n")
    site.git("commit", "-qam", "second")
    site.git(*call, status=1 if call[0] == "rebase" else 0)
    log = site.directory / "tasks.jsonl"
    before, head = log.read_bytes(), site.head()
    site.put_task("b", "waits")
    for words in (["--branch", "main"], ["--push", "--branch", "main"]):
        done = site.scribe(*words, status=3)
        assert message in done.output
        assert "start the scribe again" in done.output
    assert (before, head) == (log.read_bytes(), site.head())
    site.git(*back)
    site.scribe("--commit")
    assert ["a", "b"] == [line["id"] for line in site.committed()]
    assert {"a": "first", "b": "waits"} == site.rows()


def test_lines_that_no_commit_should_have_are_not_committed(site: Site) -> None:
    """A log with a conflict marker, or that another log took the place of, is not committed."""
    log, head = site.directory / "tasks.jsonl", site.head()
    good = log.read_text()
    log.write_text(good + "<<<<<<< ours\n")
    assert "tasks.jsonl:2" in site.scribe("--commit", status=3).output
    log.write_text('{"id":"other","title":"","updated_at":1}\n')
    done = site.scribe("--commit", status=3)
    assert "another log, without 1 records" in done.output
    assert head == site.head()


def test_ignored_logs_are_not_committed(site: Site) -> None:
    """A log that the project has git ignore stays out of commits."""
    with (site.path / ".git" / "info" / "exclude").open("a") as file:
        file.write("labels.jsonl\n")
    site.sql("INSERT INTO labels (id, name) VALUES (gen_random_uuid(), 'x')")
    site.put_task("b", "second")
    site.scribe("--commit")
    assert (site.directory / "labels.jsonl").exists()
    assert "labels" not in site.git("ls-files").stdout


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ([("config", "--unset", "branch.main.remote")], "git push -u origin main"),
        ([("config", "--unset", "user.name"), ("config", "user.useConfigOnly", "true")],
         "git config user.name"),
        ([("config", "--unset-all", "merge.union.driver")], "taskstore git install"),
    ],
)  # fmt: skip
def test_what_git_lacks_is_said_before_anything_is_done(
    site: Site, calls: list[tuple[str, ...]], message: str
) -> None:
    """Without an upstream, a name, or the merge driver, the scribe does not begin."""
    for call in calls:
        site.git(*call)
    site.put_task("b", "waits")
    assert message in site.scribe("--push", status=3).output
    assert 1 == len((site.directory / "tasks.jsonl").read_text().splitlines())


def _ended(process: subprocess.Popen[str]) -> str:
    """Tell a scribe to stop; return what it has said."""
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert 0 == process.returncode, told
    return told


def _ids(lines: list[dict[str, Any]]) -> list[str]:
    return [line["id"] for line in lines]


def test_a_remote_that_hangs_holds_up_neither_the_logs_nor_the_end(
    site: Site, tmp_path: Path
) -> None:
    """While the remote does not answer, lines go into the logs; at the end they are committed."""
    is_asked = tmp_path / "asked"
    site.git("remote", "set-url", "origin", "ssh://nowhere.invalid/remote.git")
    hangs = f"touch {is_asked}; exec sleep 600 #"
    log = site.directory / "tasks.jsonl"
    with site.running("--push", GIT_SSH_COMMAND=hangs) as process:
        soon(is_asked.exists)
        site.put_task("b", "second")
        soon(lambda: b'"b"' in log.read_bytes())
        site.put_task("c", "last")
        told = _ended(process)
    assert "not pushed: git fetch: it was stopped" in told
    assert ["a", "b", "c"] == _ids(site.committed())
    assert ["a"] == _ids(site.committed("origin/main"))


def test_a_remote_that_does_not_answer_in_time_is_left(site: Site) -> None:
    """A call of the remote ends after its time, with what it has started."""
    site.git("remote", "set-url", "origin", "ssh://nowhere.invalid/remote.git")
    site.git("config", "core.sshCommand", "exec sleep 600 #")
    repository = Repository.find(site.directory)
    assert repository is not None
    branch = Branch.checked_out(repository)
    commits = LogCommits(branch, Layout(site.directory))
    publishing = upstream.Publishing(commits, upstream.Upstream.of(branch), timeout=0.2)
    with pytest.raises(GitError, match=r"no answer in 0\.2 s"):
        publishing.run()
    commits.close()


def test_two_scribes_of_one_checkout_commit_every_line_once(site: Site, remote: GitClone) -> None:
    """A second scribe that was started by mistake does no harm: both go on, and end."""
    ids = [f"t{number}" for number in range(12)]
    with site.running("--push") as first, site.running("--push") as second:
        for id in ids:
            site.put_task(id, "one of many")
        soon(lambda: len(site.committed()) == len(ids) + 1)
        for process in (first, second):
            _ended(process)
    assert ["a", *ids] == _ids(site.committed())
    # A scribe that ends in the middle of a call of the remote leaves the rest to the next one.
    site.scribe("--push")
    assert site.head() == remote.git("rev-parse", "main").stdout.strip()
    assert [] == site.status()


def test_a_scribe_ends_when_another_branch_is_checked_out(site: Site) -> None:
    """A log of another branch gets no line, and its lines do not come into the database."""
    log = site.directory / "tasks.jsonl"
    with site.running("--commit") as process:
        site.git("switch", "-qc", "topic")
        site.put_task("b", "waits")
        _, told = process.communicate(timeout=60)
    assert 3 == process.returncode
    assert "is on branch 'topic', and the scribe is for 'main'" in told
    assert 1 == len(log.read_text().splitlines())
    site.git("switch", "-q", "main")
    site.scribe("--commit")
    assert ["a", "b"] == _ids(site.committed())
