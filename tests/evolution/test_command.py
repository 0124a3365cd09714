"""`taskstore evolve`: what the logs have, and what a step would do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taskstore import Store
from taskstore._doctor.evolutions import count_revisions, preview
from taskstore._log.layout import Layout
from tests.cli.programs import on_pipe
from tests.evolution.test_store import append, evolve


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A store with lines of two revisions, and one of a third that is not known."""
    folder = tmp_path / ".taskstore"
    folder.mkdir()
    append(
        folder,
        "tasks",
        {"id": "a", "title": "A", "prio": "1"},
        {"id": "b", "title": "B", "prio": "high"},
        {"id": "c", "title": "C"},
    )
    evolve(folder, "r1", {"rename": {"title": "name"}})
    with Store.open(folder) as store:
        store.patch("tasks", "a", name="AA")
    append(folder, "tasks", {"id": "d", "$revision": "r9"})
    return Layout(folder)


def test_the_revisions_of_a_log(layout: Layout) -> None:
    """Each revision is counted, the oldest first, with the records that are at it."""
    assert [("", 3, 2, True), ("r1", 1, 1, True), ("r9", 1, 1, False)] == [
        (found.revision, found.lines, found.records, found.known)
        for found in count_revisions(layout, "tasks")
    ]


@pytest.mark.parametrize(
    ("step", "changed", "unfit"),
    [
        ({"convert": {"prio": "int"}}, 1, {"b": 'prio is "high", which is not a valid int'}),
        ({"map": {"prio": [["high", 3]]}}, 1, {}),
        ({"rename": {"name": "label"}}, 3, {}),
        ({"split": {"name": {"into": ["x", "y"], "separator": " "}}}, 3, {}),
        ({"drop": ["title"]}, 0, {}),
    ],
)
def test_the_preview_of_a_step(
    layout: Layout, step: object, changed: int, unfit: dict[str, str]
) -> None:
    """It counts the records that change as they are read today, and names those that do not fit."""
    before = (layout.directory / "tasks.jsonl").read_bytes()
    found = preview(layout, "tasks", json.dumps(step))
    assert (3, changed, unfit) == (found.records, found.changed, found.unfit)
    assert before == (layout.directory / "tasks.jsonl").read_bytes()


def test_the_command(layout: Layout) -> None:
    """It prints what was found, and its exit status says whether all fits."""
    here = layout.directory.parent
    found = on_pipe("evolve", "--json", cwd=here)
    assert ["", "r1", "r9"] == [count["revision"] for count in json.loads(found.stdout)]
    found = on_pipe("evolve", "tasks", "--step", '{"convert": {"prio": "int"}}', cwd=here)
    assert (1, '1 of 3 record(s) would change\nb: prio is "high", which is not a valid int\n') == (
        found.status,
        found.stdout,
    )
    assert 2 == on_pipe("evolve", "tasks", "--step", "{}", cwd=here).status
    assert "did you mean" in on_pipe("evolve", "task", cwd=here).stderr
