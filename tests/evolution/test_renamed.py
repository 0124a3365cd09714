"""A collection that was renamed: its log keeps the first name, so git merges one file."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from taskstore import (
    EvolutionClashWarning,
    InvalidDeclarationError,
    InvalidRecordError,
    Store,
    evolution,
    indexed,
    record,
)
from taskstore._evolution.decoding import Evolution, decode_steps
from taskstore._evolution.graph import Graph
from taskstore._evolution.names import Names
from taskstore._evolution.shape import Shape
from taskstore.models import StoredRecord
from tests.evolution.test_store import append
from tests.git.clones import Clone, new_clone
from tests.warm import warm_program


def before() -> Any:
    """The class before the change."""

    @record("plans")
    class Plan:
        id: str
        title: str = ""
        status: str = "open"
        updated_at: int = 0

    return Plan


def after() -> Any:
    """The class after it: the collection and a field have new names."""

    @record("tasks", was="plans")
    class Task:
        id: str
        name: str = indexed(default="", was="title")
        status: str = "open"
        updated_at: int = 0

    return Task


def names_of(*stated: tuple[str, str, list[str]], position: set[str] | None = None) -> Names:
    """The names that evolutions make, each given as log, revision and the two names."""
    shapes = {}
    for log in {log for log, _, _ in stated}:
        graph = Graph.of(
            Evolution(log, revision, (), decode_steps([{"collection": names}]))
            for of, revision, names in stated
            if of == log
        )
        shapes[log] = Shape(graph, graph.whole if position is None else frozenset(position))
    return Names(shapes)


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """A repository with two plans."""
    return new_clone(tmp_path / "one")


def rename(clone: Clone) -> None:
    """Run the renamed class in a clone, and change a record with it."""
    new = after()
    with Store.open(clone.directory, types=[new]) as store:
        store.patch(new, "a", name="AA")


def tasks(clone: Clone) -> dict[str, tuple[str, str]]:
    """The records as the renamed class has them; the cache must verify."""
    new = after()
    with Store.open(clone.directory, types=[new]) as store:
        report = store.verify()
        assert ((), ()) == (report.differences, report.problems)
        assert not store.sync(force=True).strays
        return {task.id: (task.name, task.status) for task in store.list(new)}


def test_records_are_found_under_both_names(clone: Clone) -> None:
    """All records are found under the new name and the old one, and no old line is touched."""
    log = clone.directory / "plans.jsonl"
    old = log.read_bytes()
    rename(clone)
    with clone.store() as store:
        assert ["AA", "B"] == sorted(row["name"] for row in store.list("tasks"))
        assert store.list("tasks") == store.list("plans")
        store.create({"id": "c", "name": "C"}, collection="tasks")
    assert log.read_bytes().startswith(old)
    assert ["evolutions.jsonl", "plans.jsonl"] == sorted(
        path.name for path in clone.directory.glob("*.jsonl")
    )
    assert {"a": ("AA", "open"), "b": ("B", "open"), "c": ("C", "open")} == tasks(clone)


def test_a_history_does_not_end_at_the_new_name(clone: Clone) -> None:
    """Under the new name there are the versions from before, in the library and on the command
    line.
    """
    rename(clone)
    clone.commit("renamed")
    new = after()
    with Store.open(clone.directory, types=[new]) as store:
        assert ["A", "AA"] == [version.data["name"] for version in store.history("tasks", "a")]
        assert ["A", "AA"] == [version.data["name"] for version in store.history(new, "a")]
        with store.as_of("HEAD~1") as past:
            assert ["A", "B"] == sorted(row["name"] for row in past.list("tasks"))
    assert ["A", "AA"] == [one["record"]["name"] for one in clone.json("history", "tasks", "a")]
    [found] = clone.json("log", "tasks", "a")
    assert 2 == len(found["versions"])
    commits = {one["field"]: one["commit"] for one in clone.json("blame", "tasks", "a")}
    newest = clone.git("rev-parse", "HEAD").stdout.strip()
    assert commits["status"] != commits["name"] == newest
    assert ["A", "B"] == sorted(
        row["name"] for row in clone.json("list", "tasks", "--at", "HEAD~1")
    )
    assert "AA" == clone.json("get", "tasks", "a")["name"]
    assert [{"n": 2}] == clone.json("sql", "SELECT count(*) AS n FROM tasks")
    shown = {one["collection"] for one in clone.json("collections")}
    assert {"evolutions", "tasks"} == shown
    assert shown == {one["collection"] for one in clone.json("status")["collections"]}
    assert clone.json("doctor")["ok"]


@pytest.mark.parametrize("renames", ["true", "false"])
@pytest.mark.parametrize("who", ["new", "old"])
def test_edits_under_the_old_name_merge(
    clone: Clone, tmp_path: Path, renames: str, who: str
) -> None:
    """No edit under either name is lost, whoever merges, with git's renames or without."""
    other = clone.clone(tmp_path / "two")
    rename(clone)
    clone.commit("renamed")
    other.put("a", status="done")
    other.put("c", title="C")
    other.commit("under the old name")
    merging, merged = (clone, other) if who == "new" else (other, clone)
    merging.git("config", "merge.renames", renames)
    merging.git("pull", "-q", "--no-rebase", "--no-edit", str(merged.path), "main")
    expected = {"a": ("AA", "done"), "b": ("B", "open"), "c": ("C", "open")}
    assert expected == tasks(merging)
    merged.git("pull", "-q", "--no-rebase", str(merging.path), "main")
    assert expected == tasks(merged)


def test_an_older_program_loses_nothing(clone: Clone) -> None:
    """A program with the old class serves and writes what it knows, and keeps the rest."""
    rename(clone)
    old = before()
    with Store.open(clone.directory, types=[old]) as store:
        assert ["b"] == [plan.id for plan in store.list(old)]
        [problem] = store.sync(force=True).problems
        assert ("a", True) == (problem.id, "upgrade" in problem.reason)
        store.patch(old, "b", status="done")
        store.create(old("c", "C"))
        assert store.verify().differences == ()
    expected = {"a": ("AA", "open"), "b": ("B", "done"), "c": ("C", "open")}
    assert expected == tasks(clone)


def test_a_collection_that_was_renamed_twice(clone: Clone) -> None:
    """A class states all names, and each of them finds the records."""
    rename(clone)

    @record("jobs", was=["plans", "tasks"], evolutions=[evolution("1", default={"note": ""})])
    class Job:
        id: str
        note: str
        name: str = indexed(default="", was="title")
        updated_at: int = 0

    with Store.open(clone.directory, types=[Job]) as store:
        assert ["AA", "B"] == sorted(job.name for job in store.list(Job))
        for name in ("plans", "tasks", "jobs"):
            assert 2 == store.count(name)
    assert {"evolutions", "jobs"} == {one["collection"] for one in clone.json("collections")}


def test_a_name_can_be_given_back(clone: Clone) -> None:
    """A class can state that its collection has its first name again."""
    rename(clone)

    @record("plans", was=["plans", "tasks"])
    class Plan:
        id: str
        name: str = indexed(default="", was="title")
        updated_at: int = 0

    with Store.open(clone.directory, types=[Plan]) as store:
        assert ["AA", "B"] == sorted(plan.name for plan in store.list(Plan))
    assert {"evolutions", "plans"} == {one["collection"] for one in clone.json("collections")}


def test_what_was_pulled_is_known_to_an_open_store(clone: Clone) -> None:
    """A store that is open finds the records under a name that another program gives meanwhile."""
    with clone.store() as store:
        assert 0 == store.count("tasks")
        rename(clone)
        assert 2 == store.count("tasks")


def test_what_would_make_a_second_log_is_refused(clone: Clone) -> None:
    """Neither a class without the former name nor a session makes a log of the new name."""
    rename(clone)

    @record("tasks")
    class Task:
        id: str
        updated_at: int = 0

    with clone.store() as store:
        with pytest.raises(InvalidDeclarationError, match=r"record\('tasks', was='plans'\)"):
            store.list(Task)
        with pytest.raises(InvalidDeclarationError, match=r"record\('tasks', was='plans'\)"):
            store.create(Task("x"))
        with store.session() as session:
            session.add(StoredRecord(collection="tasks", id="x", data={}))
            with pytest.raises(InvalidRecordError, match=r"plans\.jsonl: write them to 'plans'"):
                session.commit()
        assert 2 == store.count("tasks")
    assert not (clone.directory / "tasks.jsonl").exists()


def test_the_name_of_another_collection_is_refused(clone: Clone) -> None:
    """A class cannot give its collection a name that another one has, and then states nothing."""
    append(clone.directory, "tasks", {"id": "z", "title": "Z"})
    with pytest.raises(InvalidDeclarationError, match=r"append the lines of tasks\.jsonl"):
        rename(clone)
    assert not (clone.directory / "evolutions.jsonl").exists()
    with clone.store() as store:
        assert ["z"] == [row["id"] for row in store.list("tasks")]


def test_two_logs_of_one_name_are_reported(clone: Clone) -> None:
    """A log that has the new name is kept and reported, and the remedy loses no record."""
    rename(clone)
    second = clone.directory / "tasks.jsonl"
    append(clone.directory, "tasks", {"id": "z", "title": "Z"})
    append(clone.directory, "tasks", {"id": "b", "title": "BB", "updated_at": 9999999999999})
    with clone.store() as store:
        [stray] = store.sync().strays
    assert str(second) == stray.path
    [finding] = [
        one for one in clone.json("doctor", status=1)["findings"] if one["code"] == "renamed"
    ]
    assert "plans.jsonl" in finding["message"]
    with (clone.directory / "plans.jsonl").open("ab") as log:
        log.write(second.read_bytes())
    second.unlink()
    assert {"a": ("AA", "open"), "b": ("BB", "open"), "z": ("Z", "open")} == tasks(clone)


def test_two_new_names_are_a_clash(clone: Clone) -> None:
    """Branches that give a collection different names are reported, and both names find it."""
    rename(clone)
    stated = {"id": "plans@r1", "collection": "plans", "revision": "r1", "parents": []}
    append(clone.directory, "evolutions", stated | {"steps": [{"collection": ["plans", "jobs"]}]})
    (clone.directory / "taskstore.db").unlink()
    with (
        pytest.warns(EvolutionClashWarning, match="the name of the collection"),
        clone.store() as store,
    ):
        assert 2 == store.count("jobs") == store.count("tasks")


DIE = """
import os, signal, sys
from taskstore import Store, record
from taskstore._log import commit

def die(*values, **options):
    os.kill(os.getpid(), signal.SIGKILL)

POINT

@record("tasks", was="plans")
class Task:
    id: str
    title: str
    updated_at: int = 0

with Store.open(sys.argv[1], types=[Task]) as store:
    store.patch(Task, "a", title="AA")
    die()
"""
POINTS = {
    "before the name is appended": ("commit.LogWriter.append = die", "A"),
    "after the name is appended": (
        """
append = commit.LogWriter.append
def append_and_die(self, *values):
    append(self, *values)
    die()
commit.LogWriter.append = append_and_die
""",
        "A",
    ),
    "after a change": ("", "AA"),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_leaves_the_one_name_or_the_other(clone: Clone, point: str) -> None:
    """Wherever a process dies that renames, all records are there, before and after the next."""
    code, title = POINTS[point]
    program = DIE.replace("POINT", code)
    call = warm_program(program, str(clone.directory))
    done = subprocess.run(call, capture_output=True, check=False)
    assert -signal.SIGKILL == done.returncode, done.stderr
    assert {"a": title, "b": "B"} == {id: row["title"] for id, row in clone.plans().items()}
    assert {"a": (title, "open"), "b": ("B", "open")} == tasks(clone)


def test_the_newest_name_counts() -> None:
    """A present name wins over a former one. After a rename back, both names find the log."""
    assert {"tasks": "plans"} == names_of(("plans", "1", ["plans", "tasks"])).logs
    swapped = names_of(("plans", "1", ["plans", "tasks"]), ("tasks", "1", ["tasks", "done"]))
    assert ("plans", "tasks") == (swapped.log_of("tasks"), swapped.log_of("done"))
    assert {} == swapped.faults(["plans", "tasks"])
    back = names_of(("plans", "1", ["plans", "tasks"]), ("plans", "2", ["tasks", "plans"]))
    assert ("plans", "plans") == (back.name_of("plans"), back.log_of("tasks"))
    reverted = names_of(("plans", "1", ["plans", "tasks"]), position=set())
    assert ("plans", "plans") == (reverted.name_of("plans"), reverted.log_of("tasks"))
    both = names_of(("a", "1", ["a", "x"]), ("b", "1", ["b", "x"]))
    assert ["a"] == list(both.faults(["a", "b"]))


@pytest.mark.parametrize(
    "names", [["a"], ["a", "a"], ["a", "b/c"], ["a", "evolutions"], "ab", [1, "b"]]
)
def test_names_that_cannot_be_are_refused(names: Any) -> None:
    """A line that states names which no collection can have is no evolution."""
    with pytest.raises(ValueError, match="."):
        decode_steps([{"collection": names}])
    assert json.dumps(names)


def test_a_class_with_one_name_twice_is_refused() -> None:
    """A former name is another one."""
    with pytest.raises(InvalidDeclarationError, match="other names"):
        record("tasks", was="tasks")
