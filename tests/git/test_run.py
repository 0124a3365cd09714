"""How git is run: what it may start, believe and answer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taskstore._format.lines import MAX_LINE_BYTES
from taskstore._git import repository
from taskstore._git.repository import Repository
from taskstore._git.run import Git
from taskstore.errors import GitError
from tests.git.hostile import LOG, Hostile, git, line, taskstore


@pytest.fixture
def hostile(tmp_path: Path) -> Hostile:
    """A repository with a store of one record."""
    return Hostile.make(tmp_path)


def test_variables_of_the_environment_start_and_change_nothing(
    hostile: Hostile, tmp_path: Path
) -> None:
    """Programs, traces and patterns that variables ask git for do not reach what we read."""
    clone = hostile.clone(tmp_path / "clone")
    with (clone / LOG).open("a") as log:
        log.write(line(2, "Moor"))
    programs = ("EXTERNAL_DIFF", "PAGER", "EDITOR", "ASKPASS", "SSH_COMMAND", "PROXY_COMMAND")
    foreign = {f"GIT_{name}": hostile.script(name) for name in programs}
    foreign |= {"GIT_TRACE": "1", "GIT_TRACE2": "1", "GIT_CONFIG": os.devnull}
    foreign |= {"GIT_ICASE_PATHSPECS": "1", "GIT_DIFF_OPTS": "-u9", "GIT_TEMPLATE_DIR": "/nowhere"}

    for call in ("diff", "diff HEAD", "log plan-001", "doctor", "git install", "git status"):
        done = taskstore(clone, *call.split(), status=1 if call == "doctor" else 0, **foreign)
        plain = taskstore(clone, *call.split())
        assert "trace:" not in done.stderr
        assert call in ("doctor", "git install") or plain.stdout == done.stdout

    assert [] == hostile.seen


def test_settings_of_a_call_of_git_reach_us_and_yield_to_ours(
    hostile: Hostile, tmp_path: Path
) -> None:
    """What `git -c` hands on to a hook holds, but for what would start a program."""
    clone = hostile.clone(tmp_path / "clone")
    (clone / LOG).touch()
    settings = {"user.name": "Ann", "core.fsmonitor": hostile.script("fsmonitor", "false")}
    pairs = enumerate(settings.items())
    variables = {f"GIT_CONFIG_{part}_{n}": text for n, pair in pairs for part, text in
                 zip(("KEY", "VALUE"), pair, strict=True)}  # fmt: skip

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**variables, "GIT_CONFIG_COUNT": "2"}.items():
            patch.setenv(name, value)
        runner = Git.elsewhere(clone)
        assert "Ann" == runner.run("config", "--get", "user.name").text
        runner.run("ls-files", "-m", "-o")

    assert [] == hostile.seen


def test_no_hook_runs_while_we_look_or_stage(hostile: Hostile, tmp_path: Path) -> None:
    """Hooks are switched off for the git that we run, and still found where they are."""
    clone = hostile.clone(tmp_path / "clone")
    hook = clone / ".git/hooks/post-index-change"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\n{hostile.script('hook', 'exit 0')}\n")
    hook.chmod(0o755)
    with (clone / LOG).open("a") as log:
        log.write(line(2, "Moor"))

    Git.elsewhere(clone).run("add", "--", LOG)

    assert [] == hostile.seen
    assert ".git/hooks" == Git.elsewhere(clone).run("rev-parse", "--git-path", "hooks").text
    git(clone, "reset", "-q")
    assert ["hook"] == hostile.seen


def test_git_is_not_looked_for_in_the_work_tree(hostile: Hostile, tmp_path: Path) -> None:
    """A program called git in a clone does not run, though the PATH names the directory."""
    program = hostile.path / "git"
    program.write_text(f"#!/bin/sh\n{hostile.script('program', 'exit 1')}\n")
    program.chmod(0o755)
    clone = hostile.clone(tmp_path / "clone")

    for first in (".", ""):
        taskstore(clone, "diff", status=0, PATH=f"{first}{os.pathsep}{os.environ['PATH']}")

    assert [] == hostile.seen


def test_a_filter_of_the_user_undoes_what_it_did(hostile: Hostile, tmp_path: Path) -> None:
    """Logs that a filter of the clone's own keeps encrypted in git are read through it."""
    clone = hostile.clone(tmp_path / "clone")
    for way in ("clean", "smudge"):
        git(clone, "config", f"filter.secret.{way}", "tr a-zA-Z n-za-mN-ZA-M")
    (clone / ".taskstore/.gitattributes").write_text("*.jsonl filter=secret\n")
    git(clone, "add", "--renormalize", ".")
    git(clone, "add", ".")
    git(clone, "commit", "-q", "-m", "secret")
    with (clone / LOG).open("a") as log:
        log.write(line(2, "Moor"))

    assert b"Fuvc" in Git.elsewhere(clone).run("cat-file", "blob", f"HEAD:{LOG}").data
    assert "plans/plan-002: created" == taskstore(clone, "diff", status=0).stdout.splitlines()[0]


def test_an_answer_beyond_its_limit_is_an_error(hostile: Hostile, tmp_path: Path) -> None:
    """More than may be held in memory is refused with a typed error, and git is ended."""
    (hostile.store / "plans.jsonl").write_text(line(1, "x" * 100_000))
    clone = hostile.clone(tmp_path / "clone")
    runner = Git.elsewhere(clone)
    size = len(runner.run("cat-file", "blob", f"HEAD:{LOG}").data)

    assert size == len(runner.run("cat-file", "blob", f"HEAD:{LOG}", limit=size).data)
    with pytest.raises(GitError, match=f"more than {size - 1} bytes"):
        runner.ask("cat-file", "blob", f"HEAD:{LOG}", limit=size - 1)


def test_lines_beyond_their_limit_are_left_out(hostile: Hostile, tmp_path: Path) -> None:
    """Of lines that are read one by one, those that are longer than one may be are not kept."""
    texts = [line(n, "x" * n) for n in (10, MAX_LINE_BYTES, 20, MAX_LINE_BYTES)]
    (hostile.store / "plans.jsonl").write_text("".join(texts) + "y" * 2 * MAX_LINE_BYTES)
    clone = hostile.clone(tmp_path / "clone")

    found = [*Git.elsewhere(clone).lines("cat-file", "blob", f"HEAD:{LOG}")]

    assert [texts[0], texts[2]] == [raw.decode() + "\n" for raw in found]


def test_a_pipe_in_the_directory_of_git_stops_nobody(
    hostile: Hostile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A git that waits for ever is ended, with a typed error."""
    clone = hostile.clone(tmp_path / "clone")
    (clone / ".git/config").unlink()
    os.mkfifo(clone / ".git/config")
    monkeypatch.setattr(repository, "_PATIENCE", 0.5)

    with pytest.raises(GitError, match=r"no answer in 0\.5 s"):
        Repository.find(clone / ".taskstore")
