"""`--at` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.programs import on_pipe
from tests.merge.repositories import line
from tests.time.histories import Change, build


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    """A repository with a store of two commits: a record each."""
    first = line("a", 1000, title="A")
    build(tmp_path, [Change((), first), Change((0,), first + line("b", 2000, title="B"))])
    return tmp_path


def test_records_are_shown_as_a_commit_has_them(grown: Path) -> None:
    """`list`, `get`, `export` and `sql` see the records of the revision, and of the time."""
    cases = {
        ("list", "plans", "--count"): "1\n",
        ("get", "plans", "a", "--json"): '"title": "A"',
        ("export", "plans"): line("a", 1000, title="A"),
        ("sql", "SELECT id, title FROM plans"): "a\tA\n",
    }
    for at in ("HEAD~1", "1970-01-01T00:00:01.500Z"):
        for call, expected in cases.items():
            done = on_pipe(*call, "--at", at, cwd=grown)
            assert (0, "") == (done.status, done.stderr)
            assert expected in done.stdout
    assert "2\n" == on_pipe("list", "plans", "--count", cwd=grown).stdout


def test_what_is_missing_in_the_past_is_named(grown: Path) -> None:
    """An unknown revision, collection or record: exit status, and what may have been meant."""
    done = on_pipe("list", "plans", "--at", "mian", cwd=grown)
    assert 3 == done.status
    assert "no commit is called 'mian'; did you mean 'main'?" in done.stderr
    done = on_pipe("list", "plan", "--at", "HEAD~1", cwd=grown)
    assert 1 == done.status
    assert "as of HEAD~1" in done.stderr
    assert "did you mean 'plans'?" in done.stderr
    done = on_pipe("get", "plans", "b", "--at", "HEAD~1", cwd=grown)
    assert 1 == done.status


def test_json_of_the_past_is_json(grown: Path) -> None:
    """`--json` goes with `--at`."""
    done = on_pipe("list", "plans", "--at", "HEAD~1", "--json", cwd=grown)
    assert [{"id": "a", "title": "A", "updated_at": 1000}] == json.loads(done.stdout)
