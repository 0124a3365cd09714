"""Stores whose lines were written under several revisions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from taskstore import InvalidNameError, InvalidRecordError, Store, UnknownRevisionError, where
from taskstore._evolution.decoding import Evolution, decode_steps, encode_evolution

OLD = [
    {"id": "t-1", "title": "Ship it", "priority": "3", "updated_at": 1000},
    {"id": "t-2", "title": "Sail it", "priority": "high", "updated_at": 2000},
    {"id": "t-3", "title": "Sell it", "updated_at": 2500},
    {"id": "t-3", "updated_at": 3000, "deleted": True},
]


def evolve(folder: Path, revision: str, *steps: dict[str, Any], after: str = "") -> None:
    """State an evolution of the collection `tasks`."""
    parents = (after,) if after else ()
    evolution = Evolution("tasks", revision, parents, decode_steps(list(steps)))
    append(folder, "evolutions", json.loads(encode_evolution(evolution)))


def append(folder: Path, collection: str, *records: dict[str, Any]) -> None:
    """Append lines to a log, as git or another program does."""
    with (folder / f"{collection}.jsonl").open("a") as log:
        log.writelines(json.dumps(record, separators=(",", ":")) + "\n" for record in records)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store directory with lines of its first days, which has evolved once."""
    folder = tmp_path / ".taskstore"
    folder.mkdir()
    append(folder, "tasks", *OLD)
    evolve(folder, "r1", {"rename": {"title": "name"}}, {"convert": {"priority": "int"}})
    return folder


NEW = {
    "t-1": {"id": "t-1", "name": "Ship it", "priority": 3, "updated_at": 1000},
    "t-2": {"id": "t-2", "name": "Sail it", "priority": "high", "updated_at": 2000},
}


def records(store: Store) -> dict[str, Any]:
    """All records by id."""
    return {record["id"]: record for record in store.list("tasks")}


def test_every_call_reads_todays_shape(folder: Path) -> None:
    """Reads, filters, the history and the tolerant list have new names and values."""
    before = (folder / "tasks.jsonl").read_bytes()
    with Store.open(folder) as store:
        assert NEW == records(store)
        assert NEW["t-1"] == store.first("tasks", where("priority") == 3)
        assert [NEW["t-1"]] == [version.data for version in store.history("tasks", "t-1")]
        found, problems = store.list_tolerant("tasks", where("name").contains("S"))
        assert ([NEW["t-2"], NEW["t-1"]], []) == (found, problems)
        assert store.verify().ok
    assert before == (folder / "tasks.jsonl").read_bytes()


def test_what_is_written_names_its_revision(folder: Path) -> None:
    """A new line has the reserved key; an unchanged record appends nothing; all reads agree."""
    with Store.open(folder) as store:
        store.save(dict(NEW["t-1"]), collection="tasks")
        assert len(OLD) == len((folder / "tasks.jsonl").read_text().splitlines())
        store.patch("tasks", "t-2", priority=1)
        store.create({"id": "t-4", "name": "Sing it"}, collection="tasks")
        store.delete("tasks", "t-1")
        assert store.verify().ok
        expected = records(store)
    lines = list(map(json.loads, (folder / "tasks.jsonl").read_text().splitlines()[len(OLD) :]))
    assert ["r1"] * 3 == [line["$revision"] for line in lines]
    assert {"t-2", "t-4"} == expected.keys()
    (folder / "taskstore.db").unlink()
    with Store.open(folder) as store:
        assert expected == records(store)
        assert not store.sync().problems


def test_an_evolution_that_arrives_is_noticed(folder: Path) -> None:
    """An open store reads all lines anew when git brings an evolution, and its writes say so."""
    with Store.open(folder) as store, Store.open(folder) as other:
        assert NEW == records(store)
        store.patch("tasks", "t-1", done=True)
        evolve(folder, "r2", {"default": {"done": False}}, {"drop": ["priority"]}, after="r1")
        assert {"t-1": True, "t-2": False} == {k: v["done"] for k, v in records(store).items()}
        assert store.first("tasks", where("priority") == 3) is None
        store.patch("tasks", "t-2", done=True)
        assert [True, True] == [record["done"] for record in records(other).values()]
        assert store.verify().ok
    last = json.loads((folder / "tasks.jsonl").read_text().splitlines()[-1])
    assert ("r2", "Sail it") == (last["$revision"], last["name"])


def test_a_newer_line_is_kept(folder: Path) -> None:
    """A line of a revision that is not known hides its record, and nothing is written over it."""
    newer = {"id": "t-1", "label": "Ship it", "updated_at": 9000, "$revision": "r9"}
    with Store.open(folder) as store:
        assert NEW == records(store)
        append(folder, "tasks", newer)
        assert ["t-2"] == list(records(store))
        [problem] = store.sync(force=True).problems
        assert ("t-1", len(OLD) + 1) == (problem.id, problem.line)
        assert "'r9'" in problem.reason
        assert store.get("tasks", "t-1") is None
        before = (folder / "tasks.jsonl").read_bytes()
        for write in (store.create, store.save):
            with pytest.raises(UnknownRevisionError) as caught:
                write({"id": "t-1", "name": "Mine"}, collection="tasks")
            assert ("tasks", "t-1", "r9") == (
                caught.value.collection,
                caught.value.id,
                caught.value.revision,
            )
        assert before == (folder / "tasks.jsonl").read_bytes()
        assert store.patch("tasks", "t-2", priority=1)["priority"] == 1
        assert store.verify().ok
        store.compact("tasks")
        assert json.dumps(newer, separators=(",", ":")) in (folder / "tasks.jsonl").read_text()
        evolve(folder, "r9", {"rename": {"name": "label"}}, after="r1")
        assert {"t-1": "Ship it", "t-2": "Sail it"} == {
            id: record["label"] for id, record in records(store).items()
        }
        assert store.patch("tasks", "t-1", label="Mine")["label"] == "Mine"
        assert store.verify().ok


def test_a_newer_line_loses_to_a_newer_one_still(folder: Path) -> None:
    """A known line that was written later elsewhere is served."""
    with Store.open(folder) as store:
        append(folder, "tasks", {"id": "t-1", "updated_at": 9000, "$revision": "r9"})
        assert "t-1" not in records(store)
        append(folder, "tasks", {"id": "t-1", "title": "Old", "updated_at": 9500})
        assert "Old" == records(store)["t-1"]["name"]
        assert store.verify().ok


def test_the_reserved_key_is_refused(folder: Path) -> None:
    """A record of one's own cannot have the reserved key, evolved collection or not."""
    with Store.open(folder) as store:
        for collection in ("tasks", "plans"):
            with pytest.raises(InvalidRecordError, match=r"\$revision"):
                store.create({"id": "x", "$revision": "r1"}, collection=collection)


def test_evolutions_are_not_written_as_records(folder: Path) -> None:
    """The collection of the evolutions can be read, and no call writes to it."""
    with Store.open(folder) as store:
        assert ["tasks@r1"] == [one["id"] for one in store.list("evolutions")]
        with pytest.raises(InvalidNameError, match="belongs to the format"):
            store.create({"id": "x"}, collection="evolutions")
        with pytest.raises(InvalidNameError, match="belongs to the format"):
            store.delete("evolutions", "tasks@r1")


def test_bad_evolutions_are_reported(folder: Path) -> None:
    """What is no evolution is a problem; the others are applied."""
    append(folder, "evolutions", {"id": "tasks@r2", "run": "rm"})
    with Store.open(folder) as store:
        assert NEW == records(store)
        [problem] = store.sync().problems
        assert "tasks@r2" == problem.id
