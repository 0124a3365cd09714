"""A power cut: any subset of what was not synced may be on the disk, in any order, torn.

The file operations of a run are recorded; for every moment of it, states that a file system may
leave are laid out and recovered. That the test has teeth is shown by taking each sync out.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import attrs
import pytest

from taskstore._format.lines import decode_envelope
from taskstore._log import files
from taskstore._log.commit import LogWriter
from taskstore._log.layout import Layout
from taskstore._log.recovery import recover


@attrs.define
class Operation:
    """One recorded change; `synced` is the moment from which on the disk has it."""

    kind: str
    target: object
    arguments: tuple[Any, ...]
    synced: float = float("inf")


class Recorder:
    """Records the changes of files and names below a directory, and which syncs cover them."""

    def __init__(self, patch: Any, directory: Any, ignored: Any = None) -> None:
        self.directory = directory
        self.operations: list[Operation] = []
        self.marks: list[tuple[int, str, object]] = []
        self.ignored = ignored
        self._inodes: dict[int, tuple[int, str]] = {}
        for name in ("open_file", "write", "pwrite", "sync", "sync_directory", "truncate"):
            patch.setattr(files, name, getattr(self, f"_{name}")(getattr(files, name)))
        for name in ("replace", "unlink"):
            patch.setattr(files, name, getattr(self, f"_{name}")(getattr(files, name)))

    def add(self, kind: Any, target: Any, *arguments: Any) -> None:
        self.operations.append(Operation(kind, target, arguments))

    def mark(self, what: Any, fact: Any) -> None:
        self.marks.append((len(self.operations), what, fact))

    def _key(self, fd: Any) -> Any:
        return os.fstat(fd).st_ino

    def _open_file(self, real: Any) -> Any:
        def call(path: Any, flags: Any) -> Any:
            new = not Path(path).exists()
            fd = real(path, flags)
            if new and flags & os.O_CREAT:
                self.add("name", path.name, self._key(fd))
            self._inodes[self._key(fd)] = path.name
            return fd

        return call

    def _write(self, real: Any) -> Any:
        def call(fd: Any, data: Any) -> Any:
            at = os.fstat(fd).st_size
            self.add("write", self._key(fd), at, bytes(data))
            return real(fd, data)

        return call

    def _pwrite(self, real: Any) -> Any:
        def call(fd: Any, data: Any, offset: Any) -> Any:
            self.add("write", self._key(fd), offset, bytes(data))
            return real(fd, data, offset)

        return call

    def _truncate(self, real: Any) -> Any:
        def call(fd: Any, size: Any) -> Any:
            self.add("truncate", self._key(fd), size)
            return real(fd, size)

        return call

    def _replace(self, real: Any) -> Any:
        def call(source: Any, target: Any) -> Any:
            self.add("name", target.name, os.stat(source).st_ino)
            self.add("gone", source.name)
            return real(source, target)

        return call

    def _unlink(self, real: Any) -> Any:
        def call(path: Any) -> Any:
            self.add("gone", path.name)
            return real(path)

        return call

    def _sync(self, real: Any) -> Any:
        def call(fd: Any) -> Any:
            name = self._inodes[self._key(fd)]
            state = "blank" if os.pread(fd, 1, 0) in (b"", b"\0") else "live"
            if self.ignored not in ((name, state), name):
                self._cover(("write", "truncate"), self._key(fd))
            return real(fd)

        return call

    def _sync_directory(self, real: Any) -> Any:
        def call(path: Any) -> Any:
            if self.ignored != "directory":
                self._cover(("name", "gone"), None)
            return real(path)

        return call

    def _cover(self, kinds: Any, key: Any) -> None:
        for operation in self.operations:
            if operation.kind in kinds and key in (None, operation.target):
                operation.synced = min(operation.synced, len(self.operations))


def lines(*ids: Any) -> Any:
    """Record lines with these ids."""
    return [b'{"id":"%b","x":"%b"}' % (id.encode(), b"x" * 40) for id in ids]


TRANSACTIONS = [
    ("single", {"plans": lines("s1")}),
    ("pair", {"plans": lines("p1", "p2"), "tasks": lines("p3")}),
    ("back", {"plans": lines("b1"), "tasks": lines("b2", "b3"), "notes": lines("b4")}),
    ("again", {"tasks": lines("g1", "g2")}),
    ("last", {"plans": lines("l1")}),
    ("both", {"plans": lines("z1"), "tasks": lines("z2")}),
]


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
    recorder._cover(("write",), draft.stat().st_ino)
    files.replace(draft, layout.log_path("plans"))


def lay(directory: Any, base: Any, operations: Any, moment: Any, chance: Any) -> None:
    """Lay out one state that a power cut at `moment` may leave."""
    names = dict(base)
    inodes: dict[Any, bytearray] = {}
    for operation in operations[:moment]:
        sure = operation.synced <= moment
        taken = sure or chance.random() < 0.5
        if operation.kind == "name" and taken:
            names[operation.target] = operation.arguments[0]
        elif operation.kind == "gone" and taken:
            names.pop(operation.target, None)
        elif operation.kind == "truncate" and taken:
            data = inodes.setdefault(operation.target, bytearray())
            size = operation.arguments[0]
            data[size:] = b"\0" * max(0, size - len(data))
        elif operation.kind == "write" and taken:
            write(inodes.setdefault(operation.target, bytearray()), operation, sure, chance)
    for name, inode in names.items():
        (directory / name).write_bytes(inodes.get(inode, b""))


def write(data: Any, operation: Any, sure: Any, chance: Any) -> None:
    """Apply a write, torn perhaps where it is not sure."""
    offset, new = operation.arguments
    if not sure:
        torn = chance.choice(["whole", "whole", "less", "hole"])
        cut = chance.randrange(len(new) + 1)
        if torn == "less":
            new = new[:cut]
        elif torn == "hole":
            new = b"\0" * cut + new[cut:]
    data.extend(b"\0" * (offset - len(data)))
    data[offset : offset + len(new)] = new


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
