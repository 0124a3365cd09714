"""A real issue log: what is read is what the file says, and a change appends one line."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import attrs
import pytest

from taskstore import Store, evolve, indexed, record, where

pytestmark = pytest.mark.public

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


@record("issues")
class Issue:
    """Some of what the log's records have."""

    id: str
    title: str
    status: str = indexed()
    priority: int = indexed()
    labels: list[str] = attrs.field(factory=list)
    assignee: str | None = None
    updated_at: str = ""


@pytest.fixture
def log(repository_root: Path, directory: Path) -> Path:
    """The issue log, in a new store directory."""
    source = repository_root.parent / "shared" / "corpus" / "issues.jsonl"
    if not source.exists():
        pytest.skip(f"{source} is not on this machine")
    directory.mkdir()
    path = directory / "issues.jsonl"
    shutil.copyfile(source, path)
    return path


def test_every_field_is_returned_as_it_stands_in_the_file(log: Path) -> None:
    """The log opens without a problem; its 513 records equal the lines of the file."""
    before = log.read_bytes()
    expected = {row["id"]: row for row in map(json.loads, before.splitlines())}
    with Store.open(log.parent) as store:
        report = store.sync(force=True)
        found = {row["id"]: row for row in store.list("issues")}
        assert [] == report.problems
        assert 513 == len(expected) == report.collections["issues"].records
        assert expected == found
        assert list(map(list, expected.values())) == [list(found[id]) for id in expected]
        assert before == log.read_bytes()


def test_an_update_appends_one_line_that_keeps_every_other_byte(log: Path) -> None:
    """An update of one record appends one line: the old one but for the change and the stamp."""
    before = log.read_bytes()
    with Store.open(log.parent, types=[Issue]) as store:
        issue = store.first(Issue, where(Issue.status) == "open", where("labels").is_not(None))
        assert issue is not None
        [old] = [line for line in before.splitlines() if json.loads(line)["id"] == issue.id]
        stamp = b'"updated_at":"%b"' % issue.updated_at.encode()
        issue.status = "in_progress"
        store.update(issue)
    after = log.read_bytes()
    assert before == after[: len(before)]
    [new] = after[len(before) :].splitlines()
    changed = old.replace(b'"status":"open"', b'"status":"in_progress"')
    assert changed.replace(stamp, b'"updated_at":"%b"' % issue.updated_at.encode()) == new
    assert changed != new
    assert RFC3339.fullmatch(json.loads(new)["updated_at"])


def test_every_record_survives_an_update_byte_for_byte(log: Path) -> None:
    """An update of any record changes no byte but those of the changed key and the stamp."""
    lines = {json.loads(line)["id"]: line for line in log.read_bytes().splitlines()}
    with Store.open(log.parent, types=[Issue]) as store, store.transaction():
        for issue in store.list(Issue):
            store.update(evolve(issue, priority=issue.priority + 100))
    for line in log.read_bytes().splitlines()[len(lines) :]:
        old, new = (_raw(lines[json.loads(line)["id"]]), _raw(line))
        assert list(old) == list(new)
        assert {"priority", "updated_at"} == {key for key in old if old[key] != new[key]}
    assert 2 * len(lines) == len(log.read_bytes().splitlines())


@pytest.mark.parametrize("type", [Issue, "issues"])
def test_an_update_that_changes_nothing_appends_nothing(log: Path, type: Any) -> None:
    """Reading every record and writing it back leaves the log as it was."""
    before = log.read_bytes()
    with Store.open(log.parent) as store:
        collection = type if isinstance(type, str) else None
        records: list[Any] = store.list(type)
        for found in records:
            store.update(found, collection=collection)
        store.save_many(records, collection=collection)
    assert before == log.read_bytes()


def test_filters_agree_with_a_walk_over_the_file(log: Path) -> None:
    """Indexed and unindexed filters find what a loop over the lines of the file finds."""
    rows = list(map(json.loads, log.read_bytes().splitlines()))
    with Store.open(log.parent, types=[Issue]) as store:
        for priority in range(5):
            expected = {
                row["id"]
                for row in rows
                if row["status"] != "closed" and row["priority"] <= priority
            }
            found = store.list(
                Issue, where("status") != "closed", where(Issue.priority) <= priority
            )
            assert expected == {issue.id for issue in found}
        expected = {row["id"] for row in rows if "merge" in row["title"].lower()}
        either = where("title").contains("merge") | where("title").contains("Merge")
        assert expected == {
            issue.id for issue in store.list(Issue, either | where("title").contains("MERGE"))
        }
        labelled = {row["id"] for row in rows if "docs" in (row.get("labels") or [])}
        assert labelled == {row.id for row in store.list(Issue, where("labels").contains("docs"))}


def _raw(line: bytes) -> dict[str, str]:
    """The keys of a line with the text of their values."""
    decoder, text = json.JSONDecoder(), line.decode()
    found, at = {}, 1
    while text[at] != "}":
        key, end = decoder.raw_decode(text, at if text[at] == '"' else at + 1)
        start = end + 1
        _, at = decoder.raw_decode(text, start)
        found[key] = text[start:at]
    return found
