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


def test_named_revisions_are_queried_beside_the_present(grown: Path) -> None:
    """`--at NAME=REV` adds NAME.COLLECTION; a collection that did not exist yet is empty."""
    log = grown / ".taskstore" / "plans.jsonl"
    log.write_text(log.read_text() + line("a", 3000, title="A2"))
    (grown / ".taskstore" / "others.jsonl").write_text(line("o", 1, n=1))
    query = (
        "SELECT now.id, old.plans.title, now.title, (SELECT count(n) FROM old.others) AS others, "
        "(SELECT count(*) FROM new.plans) AS new FROM plans AS now JOIN old.plans USING (id)"
    )
    for _ in range(2):
        done = on_pipe("sql", query, "--at", "old=HEAD~1", "--at", "new=HEAD", cwd=grown)
        assert ("a\tA\tA2\t0\t2", "") == (done.stdout.splitlines()[1], done.stderr)
    # What was made for these queries is no fault of the copy.
    assert "1\n" == on_pipe("list", "plans", "--count", "--at", "HEAD~1", cwd=grown).stdout


def test_what_cannot_name_a_revision_is_refused(grown: Path) -> None:
    """A missing or repeated name, one that SQLite has, a write, and an unknown revision."""
    for status, said, *at in (
        (2, "give each a name", "HEAD", "HEAD~1"),
        (2, "give each a name", "old=HEAD", "HEAD~1"),
        (2, "two revisions old", "old=HEAD", "old=HEAD~1"),
        (2, "another meaning", "main=HEAD"),
        (3, "no commit is called 'HEAD..HEAD~1'", "old=HEAD..HEAD~1"),
        (3, "no commit is called '-x'", "old=-x"),
        (2, "nothing that writes", "old=HEAD"),
    ):
        options = [word for each in at for word in ("--at", each)]
        done = on_pipe("sql", "DELETE FROM old.records", *options, cwd=grown)
        assert status == done.status
        assert said in done.stderr
