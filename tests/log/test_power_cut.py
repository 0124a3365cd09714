"""A power cut: any subset of what was not synced may be on the disk, in any order, torn.

The file operations of a run are recorded; for every moment of it, states that a file system may
leave are laid out and recovered. That the test has teeth is shown by taking each sync out.
"""

from __future__ import annotations

import os
import random
import shutil
from typing import Any

import pytest

from taskstore._format.lines import decode_envelope
from taskstore._log import files
from taskstore._log.commit import LogWriter
from taskstore._log.layout import Layout
from taskstore._log.recovery import recover
from taskstore._log.trust import Mark
from tests.log.disk import Recorder, lay


def lines(*ids: Any) -> Any:
    """Record lines with these ids."""
    return [b'{"id":"%b","x":"%b"}' % (id.encode(), b"x" * 40) for id in ids]


MARK = Mark.transient()

TRANSACTIONS = [
    ("single", {"plans": lines("s1")}),
    ("pair", {"plans": lines("p1", "p2"), "tasks": lines("p3")}),
    ("back", {"plans": lines("b1"), "tasks": lines("b2", "b3"), "notes": lines("b4")}),
    ("again", {"tasks": lines("g1", "g2")}),
    ("last", {"plans": lines("l1")}),
    ("both", {"plans": lines("z1"), "tasks": lines("z2")}),
]


@pytest.fixture(autouse=True)
def one_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power cut leaves is laid out in another directory, and is the same clone's."""
    monkeypatch.setattr(Mark, "of", lambda directory: MARK)


def run(recorder: Any, layout: Any) -> Any:
    """Commit the transactions, take one back, and let git put back an old file at the end."""
    writer = LogWriter(layout)
    known: dict[str, Any] = {}
    for name, batch in TRANSACTIONS:
        recorder.mark("begun", name)
        appended = writer.append(batch, known)
        if name == "back":
            appended.take_back("test")
            recorder.mark("undone", name)
        else:
            known.update(appended.fingerprints)
            appended.retire()
            recorder.mark("done", name)
    # A checkout of the version before the last transaction; git syncs no work tree.
    old = b"".join(line + b"\n" for line in lines("s1", "p1", "p2", "l1"))
    draft = layout.directory / "git"
    recorder.mark("git", "plans")
    fd = files.open_file(draft, os.O_WRONLY | os.O_CREAT)
    files.write_all(fd, old)
    os.close(fd)
    recorder._cover(("write",), recorder._number(draft))
    files.replace(draft, layout.log_path("plans"))


def violations(directory: Any, marks: Any, moment: Any) -> Any:
    """Recover a state, and return what is not as it must be."""
    layout = Layout(directory)
    recover(layout)
    LogWriter(layout).append({"plans": lines("after")}, {}).retire()
    there = {path.stem: ids(path) for path in directory.glob("*.jsonl")}
    facts = {(what, fact) for at, what, fact in marks if at <= moment}
    git = ("git", "plans") in facts
    wrong = [] if "after" in there["plans"] else ["what is appended next is lost"]
    for name, batch in TRANSACTIONS:
        parts = [
            decode_envelope(line).id in there.get(collection, ())
            for collection, rows in batch.items()
            for line in rows
            if not (git and collection == "plans")
        ]
        if ("done", name) in facts and not all(parts):
            wrong.append(f"{name} was acknowledged and is lost")
        if ("undone", name) in facts and any(parts):
            wrong.append(f"{name} was taken back and is there")
        if len(set(parts)) > 1:
            wrong.append(f"{name} is there by half")
    return wrong


def ids(path: Any) -> Any:
    """The ids of the records in a log."""
    found = set()
    for raw in path.read_bytes().split(b"\n"):
        try:
            found.add(decode_envelope(raw).id)
        except ValueError:
            pass
    return found


def cut_power(tmp_path: Any, ignored: Any, states: Any) -> Any:
    """Return the violations found in so many states of a run, a sync being ignored."""
    layout = Layout(tmp_path / "store")
    layout.create()
    with pytest.MonkeyPatch.context() as patch:
        recorder = Recorder(patch, layout.directory, ignored)
        run(recorder, layout)
    chance = random.Random(1)
    wrong = []
    place = tmp_path / "state"
    for number in range(states):
        moment = number % (len(recorder.operations) + 1)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        lay(place, {}, recorder.operations, moment, chance)
        wrong += [f"moment {moment}: {text}" for text in violations(place, recorder.marks, moment)]
        if wrong and ignored:
            break
    return wrong


def test_no_power_cut_breaks_a_promise(tmp_path: Any) -> None:
    """Acknowledged is there, taken back is not, and nothing is there by half."""
    assert [] == cut_power(tmp_path, None, 4000)


@pytest.mark.parametrize(
    "ignored",
    [
        "plans.jsonl",
        "tasks.jsonl",
        "directory",
        ("taskstore.journal", "live"),
        ("taskstore.journal", "blank"),
    ],
    ids=str,
)
def test_every_sync_is_needed(tmp_path: Any, ignored: Any) -> None:
    """With any one sync taken out of the protocol, a promise is broken."""
    assert cut_power(tmp_path, ignored, 20000)
