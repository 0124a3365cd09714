"""Random histories of a log, and a reader of ten lines that knows nothing of ours."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import attrs

from tests.merge.repositories import IDENTITY, LOG, line

BASE = 1_700_000_000


def read_plainly(data: bytes) -> dict[str, dict[str, Any]]:
    """The records of a log: for each id the line with the greatest time, the later of equals."""
    newest: dict[str, dict[str, Any]] = {}
    for raw in data.decode().splitlines():
        record = json.loads(raw)
        old = newest.get(record["id"])
        if old is None or record["updated_at"] >= old["updated_at"]:
            newest[record["id"]] = record
    return {id: record for id, record in newest.items() if record.get("deleted") is not True}


@attrs.define
class Change:
    """A commit to be made: its parents, by number, and the log that it has; None for none."""

    parents: tuple[int, ...]
    log: str | None
    author: str = "A"


def random_changes(rng: random.Random, count: int, *, lossless: bool = False) -> list[Change]:
    """Commits with branches, merges, compactions, rewrites, reverts and lost logs.

    Args:
        rng: The source of chance.
        count: How many.
        lossless: Whether no commit loses a record's newest line, and no two lines are the same.
    """
    changes: list[Change] = []
    clock, lines = BASE, 0
    for number in range(count):
        clock += rng.randrange(0, 3)
        heads = [n for n in range(number) if all(n not in c.parents for c in changes)]
        parents: tuple[int, ...] = ()
        if number:
            parents = (rng.choice([number - 1, *heads, *heads]),)
            others = [n for n in heads if n not in parents]
            if others and (rng.random() < 0.3 or number == count - 1):
                parents += (rng.choice(others),)
        before = [changes[n].log or "" for n in parents] or [""]
        text = _merged(rng, before, lossless=lossless)
        kind = 0.5 if lossless and rng.random() > 0.1 else rng.random()
        kind = min(kind, 0.07) if lossless and kind < 0.15 else kind
        if kind < 0.08:
            text = _compacted(text)
        elif kind < 0.12 and number > 1:
            text = changes[rng.randrange(number)].log or ""  # a revert
        elif kind < 0.15:
            changes.append(Change(parents, None))
            continue
        for _ in range(rng.randrange(0, 4)):
            lines += 1
            text += _line(rng, clock * 1000 + lines if lossless else clock)
        changes.append(Change(parents, text, rng.choice(["Ada", "Bo <x>", "Zoë"])))
    return changes


def _line(rng: random.Random, clock: int) -> str:
    id, when = rng.choice("abcdef"), clock - rng.choice([0, 0, 0, 1, 5])
    if rng.random() < 0.15:
        return line(id, when, deleted=True)
    fields = {name: rng.randrange(3) for name in ("x", "y", "z") if rng.random() < 0.7}
    return line(id, when, **fields)


def _merged(rng: random.Random, texts: list[str], *, lossless: bool) -> str:
    if len(texts) == 1:
        return texts[0]
    if not lossless and rng.random() < 0.2:
        return rng.choice(texts)
    # As a union: what the first has, and what is new in the others.
    lines = texts[0].splitlines(keepends=True)
    for other in texts[1:]:
        lines += [each for each in other.splitlines(keepends=True) if each not in lines]
    return "".join(lines)


def _compacted(text: str) -> str:
    newest: dict[str, str] = {}
    for raw in text.splitlines(keepends=True):
        record = json.loads(raw)
        old = newest.get(record["id"])
        if old is None or record["updated_at"] >= json.loads(old)["updated_at"]:
            newest[record["id"]] = raw
    kept = set(newest.values())
    return "".join(dict.fromkeys(raw for raw in text.splitlines(keepends=True) if raw in kept))


def build(path: Path, changes: list[Change], name: str = LOG) -> list[str]:
    """Make a repository of these commits, and check the last one out; return their ids."""
    path.mkdir(parents=True, exist_ok=True)
    run(path, "init", "-q", "-b", "main")
    stream = bytearray()
    for number, change in enumerate(changes):
        stream += _commit(number, change, name, is_last=number == len(changes) - 1)
    marks = path / ".git" / "marks"
    run(path, "fast-import", "--quiet", f"--export-marks={marks}", stdin=bytes(stream))
    run(path, "reset", "-q", "--hard")
    found = dict(row.split() for row in marks.read_text().splitlines())
    return [found[f":{number + 1}"] for number in range(len(changes))]


def _commit(number: int, change: Change, name: str, *, is_last: bool) -> bytes:
    ref = "refs/heads/main" if is_last else f"refs/heads/side-{number}"
    author = change.author.replace("<", "(").replace(">", ")")
    who = f"{author} <a@example.org> {1_700_000_000 + 60 * number} +0000"
    parts = [f"commit {ref}", f"mark :{number + 1}", f"author {who}", f"committer {who}"]
    subject = f"change {number}"
    parts += [f"data {len(subject)}", subject]
    for position, parent in enumerate(change.parents):
        parts.append(f"{'merge' if position else 'from'} :{parent + 1}")
    data = "\n".join(parts).encode() + b"\n"
    if change.log is None:
        return data + f"D {name}\n\n".encode()
    content = change.log.encode()
    return data + f"M 100644 inline {name}\ndata {len(content)}\n".encode() + content + b"\n"


def run(path: Path, *call: str, stdin: bytes | None = None) -> bytes:
    """Run git and return what it prints."""
    done = subprocess.run(
        ["git", *call],
        cwd=path,
        input=stdin,
        env={
            **os.environ,
            **IDENTITY,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
        },
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
