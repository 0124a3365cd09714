"""Evolutions through git: clones that have evolved, and clones that have not yet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taskstore import EvolutionClashWarning
from taskstore._log.layout import Layout
from taskstore._watch.cursor import Cursor
from taskstore._watch.follow import Follower
from tests.evolution.test_store import append
from tests.git.clones import Clone, new_clone

RENAME = {"rename": {"title": "name"}}
STATED = {"id": "plans@r1", "collection": "plans", "revision": "r1", "parents": []}


def plans_evolve(clone: Clone) -> None:
    """State that plans have a name, no title."""
    line = {
        "id": "plans@r1",
        "collection": "plans",
        "revision": "r1",
        "parents": [],
        "steps": [RENAME],
    }
    append(clone.directory, "evolutions", line)


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """A repository with two plans."""
    return new_clone(tmp_path / "one")


@pytest.mark.parametrize("how", ["merge", "rebase", "cherry-pick"])
def test_old_edits_merge_with_new_ones(clone: Clone, tmp_path: Path, how: str) -> None:
    """A clone that has evolved and one that has not merge field by field, whoever merges."""
    other = clone.clone(tmp_path / "two")
    plans_evolve(clone)
    clone.put("a", name="AA")
    clone.commit("evolved")
    other.put("a", status="done")
    other.put("b", title="BB")
    other.commit("not yet")
    before = (other.directory / "plans.jsonl").read_text().splitlines()
    other.git("fetch", "-q")
    call = {"merge": ("merge", "-q"), "rebase": ("rebase", "-q"), "cherry-pick": ("cherry-pick",)}
    other.git(*call[how], "origin/main")
    expected = {
        "a": {"id": "a", "name": "AA", "status": "done", "labels": ["x"]},
        "b": {"id": "b", "name": "BB"},
    }
    assert expected == other.plans()
    assert set(before) <= set((other.directory / "plans.jsonl").read_text().splitlines())
    clone.git("pull", "-q", "--no-rebase", str(other.path), "HEAD")
    assert expected == clone.plans()


def test_two_versions_of_one_evolution_are_left_to_a_person(clone: Clone, tmp_path: Path) -> None:
    """Clones that state different steps under one revision have a conflict, and no mixture."""
    other = clone.clone(tmp_path / "two")
    plans_evolve(clone)
    clone.commit("one")
    append(other.directory, "evolutions", STATED | {"steps": []})
    other.commit("other")
    other.git("fetch", "-q")
    other.git("merge", "-q", "origin/main", status=1)
    assert "<<<<<<<" in (other.directory / "evolutions.jsonl").read_text()


def test_the_same_evolution_twice_is_one(clone: Clone, tmp_path: Path) -> None:
    """Clones that run the same upgrade on their own merge without a conflict."""
    other = clone.clone(tmp_path / "two")
    for each in (clone, other):
        plans_evolve(each)
        each.put("a", name="same")
        each.commit("upgrade")
    other.git("fetch", "-q")
    other.git("merge", "-q", "origin/main")
    assert 1 == len((other.directory / "evolutions.jsonl").read_text().splitlines())
    assert "same" == other.plans()["a"]["name"]


def test_the_command_line_reads_todays_shape(clone: Clone) -> None:
    """Lists, exports, logs, histories and differences have the new names of old fields."""
    plans_evolve(clone)
    clone.put("a", name="AA")
    assert {"AA", "B"} == {row["name"] for row in clone.json("list", "plans")}
    exported = list(map(json.loads, clone.taskstore("export", "plans").splitlines()))
    assert {"AA", "B"} == {row["name"] for row in exported}
    assert not any("$revision" in row for row in exported)
    assert ["A", "AA"] == [item["record"]["name"] for item in clone.json("history", "plans", "a")]
    [found] = clone.json("log", "a")
    assert ["A", "AA"] == [version["data"]["name"] for version in found["versions"]]
    assert [{"field": "name", "old": "A", "new": "AA"}] == found["versions"][1]["fields"]
    changes = {
        (change["collection"], change["id"]): change["fields"] for change in clone.json("diff")
    }
    assert [{"field": "name", "old": "A", "new": "AA"}] == changes["plans", "a"]
    assert ("plans", "b") not in changes


def test_followers_read_todays_shape(clone: Clone) -> None:
    """Each change is told in today's shape, and a newer line as a problem."""
    follower = Follower(Layout(clone.directory), Cursor.parse("0"), collections={"plans"})
    plans_evolve(clone)
    clone.put("a", name="AA")
    append(clone.directory, "plans", {"id": "c", "$revision": "r9"})
    events = list(follower.poll())
    follower.close()
    named = [event.record["name"] for event in events if event.record is not None]
    assert ["A", "B", "AA"] == named
    assert ("problem", "c") == (events[-1].kind, events[-1].id)


def test_doctor_names_the_remedy(clone: Clone) -> None:
    """A newer line is no line to mend: its evolution is missing."""
    append(clone.directory, "plans", {"id": "c", "$revision": "r9"})
    findings = clone.json("doctor", status=1)
    [line] = [found for found in json.dumps(findings).split("{") if "r9" in found]
    assert "pull evolutions.jsonl" in line


def test_git_shows_todays_shape(clone: Clone) -> None:
    """`git diff` compares an old line with a new one field by field, under the new names."""
    plans_evolve(clone)
    clone.put("a", name="AA")
    found = clone.git("diff", "--", ".taskstore/plans.jsonl").stdout.splitlines()
    changed = [line for line in found if line[0] in "+-" and "updated_at" not in line]
    assert ['-a: name: "A"', '+a: name: "AA"'] == changed[2:]


def test_a_branch_that_has_evolved_is_compared_in_its_shape(clone: Clone) -> None:
    """`diff` of two branches knows the evolutions of both, whatever the work tree has."""
    clone.git("checkout", "-q", "-b", "feature")
    plans_evolve(clone)
    clone.put("a", name="AA")
    clone.commit("evolved")
    clone.git("checkout", "-q", "main")
    changes = {(one["collection"], one["id"]): one for one in clone.json("diff", "main..feature")}
    assert [{"field": "name", "old": "A", "new": "AA"}] == changes["plans", "a"]["fields"]


def test_clashing_branches_are_reported(clone: Clone) -> None:
    """Two branches that change one field are named by doctor, evolve and an open."""
    plans_evolve(clone)
    other = STATED | {"id": "plans@r0", "revision": "r0", "steps": [{"drop": ["title"]}]}
    append(clone.directory, "evolutions", other)
    with pytest.warns(EvolutionClashWarning, match="'r0' and 'r1' both change 'title'"):
        clone.plans()
    [finding] = [
        one for one in clone.json("doctor", status=1)["findings"] if one["code"] == "clash"
    ]
    assert "plans: the revisions 'r0' and 'r1' both change 'title'" in finding["message"]
    assert "'r0' and 'r1'" in clone.run("evolve").stderr
    assert "" == clone.run("list", "plans").stderr
    settled = STATED | {"id": "plans@r2", "revision": "r2", "parents": ["r0", "r1"]}
    append(clone.directory, "evolutions", settled | {"steps": [{"default": {"title": ""}}]})
    assert "clash" not in {one["code"] for one in clone.json("doctor")["findings"]}


@pytest.mark.parametrize("how", ["merge", "rebase"])
def test_a_renamed_collection_keeps_its_evolutions(clone: Clone, tmp_path: Path, how: str) -> None:
    """After `git mv`, with the new name in evolutions.jsonl, a branch with the old one merges."""
    plans_evolve(clone)
    for number in range(20):
        clone.put(f"c{number}", name="C")
    clone.put("a", name="AA")
    clone.commit("evolved")
    other = clone.clone(tmp_path / "two")
    other.put("a", status="done")
    other.put("b", name="BB")
    other.commit("under the old name")
    clone.git("mv", ".taskstore/plans.jsonl", ".taskstore/tasks.jsonl")
    stated = clone.read(".taskstore/evolutions.jsonl")
    clone.write(stated + stated.replace("plans", "tasks"), ".taskstore/evolutions.jsonl")
    with clone.store() as store:
        store.patch("tasks", "a", labels=["y"])
    clone.commit("renamed")
    other.git("fetch", "-q")
    other.git(
        *(("merge", "-q", "--no-edit") if how == "merge" else ("rebase", "-q")), "origin/main"
    )
    assert not (other.directory / "plans.jsonl").exists()
    with other.store() as store:
        assert store.verify().ok
        found = {row["id"]: row for row in store.list("tasks")}
    assert ("AA", "done", ["y"]) == tuple(found["a"][key] for key in ("name", "status", "labels"))
    assert "BB" == found["b"]["name"]
