"""`taskstore log`: every version of a record, and the commit that brought it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.git.clones import Clone
from tests.merge.repositories import line


def versions(clone: Clone, id: str, *call: str) -> list[dict[str, Any]]:
    """The versions of a record in the only collection that has it."""
    (found,) = clone.json("log", id, *call)
    items: list[dict[str, Any]] = found["versions"]
    return items


def subjects(found: list[dict[str, Any]]) -> list[str | None]:
    """The subjects of the commits of some versions."""
    return [item["commit"] and item["commit"]["subject"] for item in found]


def test_each_version_has_its_change_and_its_commit(clone: Clone) -> None:
    """Created, changed, deleted and made again: each with what changed and which commit did it."""
    clone.change("a", status="done")
    clone.delete("a")
    clone.commit("delete a")
    clone.put("a", title="Again")
    found = versions(clone, "a")
    assert ["created", "changed", "deleted", "created"] == [item["change"] for item in found]
    assert ["base", "a {'status': 'done'}", "delete a", None] == subjects(found)
    assert [{"field": "status", "old": "open", "new": "done"}] == found[1]["fields"]
    assert [1, 3, 4, 5] == [item["line"] for item in found]
    head = clone.git("rev-parse", "HEAD").stdout.strip()
    assert head == found[2]["commit"]["id"]
    text = clone.taskstore("log", "a")
    assert f"line 4, commit {head[:10]} of " in text
    assert "line 5, not committed" in text


def test_a_merge_is_named_only_for_what_it_made_itself(clone: Clone) -> None:
    """A version that a branch brought is that branch's; what the driver settled, the merge's."""
    clone.git("switch", "-qc", "other")
    clone.change("a", title="Theirs")
    clone.git("switch", "-q", "main")
    clone.change("a", status="done")
    clone.git("merge", "-q", "other")
    assert ["base", "a {'title': 'Theirs'}", "a {'status': 'done'}", "Merge branch 'other'"] == (
        subjects(versions(clone, "a"))
    )


@pytest.mark.parametrize("binary", ["by its attributes", "by its bytes"])
def test_a_merge_is_named_if_git_takes_the_log_for_binary(clone: Clone, binary: str) -> None:
    """Git shows no combined diff then, but the lines that the merge made are found."""
    if binary == "by its attributes":
        path = clone.path / ".git" / "info" / "attributes"
        path.write_text(f"{path.read_text()}*.jsonl -diff\n")
    else:
        clone.append("\0\n")
        clone.git("commit", "-qam", "NUL", "--no-verify")
    test_a_merge_is_named_only_for_what_it_made_itself(clone)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("log.follow", "true"),
        ("log.showRoot", "false"),
        ("log.diffMerges", "off"),
        ("i18n.logOutputEncoding", "ISO-8859-1"),
        ("i18n.logOutputEncoding", "UTF-16"),
        ("diff.orderFile", "missing"),
    ],
)
def test_what_a_user_has_set_for_git_log_changes_nothing(
    clone: Clone, name: str, value: str
) -> None:
    """Lines of the first commit, of a renamed log and of a merge, and names with umlauts."""
    drafts = clone.directory / "drafts.jsonl"
    drafts.write_text("".join(line(f"d{number}", number) for number in range(9)))
    clone.commit("Entwürfe")
    clone.git("mv", ".taskstore/drafts.jsonl", ".taskstore/goals.jsonl")
    clone.commit("größer")
    test_a_merge_is_named_only_for_what_it_made_itself(clone)
    expected = [versions(clone, id) for id in ("a", "b", "d1")]
    assert ["größer"] == subjects(expected[2])
    clone.git("config", name, value)
    assert expected == [versions(clone, id) for id in ("a", "b", "d1")]


def test_a_change_is_told_against_what_it_was_made_to(clone: Clone) -> None:
    """A version from a branch is compared with what its author saw, not with another branch's."""
    clone.git("switch", "-qc", "other")
    clone.change("a", title="Theirs")
    clone.git("switch", "-q", "main")
    clone.change("a", status="done")
    clone.git("merge", "-q", "other")
    clone.put("a", rank=1)
    assert [
        ["title", "status", "labels"],
        ["title"],
        ["status"],
        ["title"],
        ["rank"],
    ] == [[field["field"] for field in item["fields"]] for item in versions(clone, "a")]


def test_versions_that_the_log_has_no_more_come_from_git(clone: Clone) -> None:
    """After a compaction the versions are still told, as no longer in the log."""
    clone.change("a", status="done")
    with clone.store() as store:
        store.compact("plans")
    clone.commit("compact")
    found = versions(clone, "a")
    assert [(None, "base"), (2, "a {'status': 'done'}")] == [
        (item["line"], item["commit"]["subject"]) for item in found
    ]


def test_a_shallow_clone_says_where_its_history_ends(clone: Clone, tmp_path: Path) -> None:
    """In a shallow clone the oldest commit may not be the one that brought a version."""
    clone.change("a", status="done")
    clone.git("clone", "-q", "--depth", "1", clone.path.as_uri(), str(tmp_path / "shallow"))
    shallow = Clone(tmp_path / "shallow")
    assert [True, True] == [item["commit"]["is_boundary"] for item in versions(shallow, "a")]
    assert "at or before commit" in shallow.taskstore("log", "a")


def test_odd_ids_and_odd_lines_are_found(clone: Clone) -> None:
    """Ids with quotes, escapes and signs of a diff are found, and texts that look like a diff."""
    id = '++ b/é "x"\n'
    escaped = '{"id":"++ b/\\u00e9 \\"x\\"\\n","t":"@@ -1 +1 @@\\ndiff --git","updated_at":7}\n'
    clone.append(line(id, 5) + escaped)
    clone.commit("odd")
    assert ["odd", "odd"] == subjects(versions(clone, id))


def test_one_id_in_several_collections(clone: Clone) -> None:
    """All collections are searched, unless one is named."""
    with clone.store() as store:
        store.save({"id": "a", "text": "note"}, collection="notes")
    assert ["notes", "plans"] == [item["collection"] for item in clone.json("log", "a")]
    assert ["note"] == [
        item["data"]["text"] for item in versions(clone, "a", "--collection", "notes")
    ]


def test_an_unknown_record_exits_with_1(clone: Clone) -> None:
    """Of a record that never was there is nothing to show."""
    done = clone.run("log", "nobody")
    assert 1 == done.returncode
    assert "no version of a record 'nobody'" in done.stderr


def test_without_git_the_log_itself_is_told(tmp_path: Path) -> None:
    """Outside of a repository the versions are those of the log, without commits."""
    place = Clone(tmp_path)
    place.taskstore("init")
    place.put("a", title="A")
    place.put("a", title="B")
    assert [None, None] == subjects(versions(place, "a"))
