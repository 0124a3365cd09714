"""What the tests of the store share: a record class, a clock, and hands that reach into the log."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import attrs

from taskstore import Store, indexed, record


@record("plans")
class Plan:
    """The usual record."""

    id: str
    title: str = ""
    status: str = indexed(default="draft")
    priority: int = indexed(default=0)
    updated_at: int = 0


@attrs.define
class Clock:
    """A clock that stands still until it is set."""

    now: int = 1_700_000_000_000

    def __call__(self) -> int:
        """The time in milliseconds since the epoch."""
        return self.now


def log_path(directory: Path, collection: str = "plans") -> Path:
    """The log of a collection."""
    return directory / f"{collection}.jsonl"


def read_log(directory: Path, collection: str = "plans") -> bytes:
    """The bytes of a log; none if there is no log."""
    path = log_path(directory, collection)
    return path.read_bytes() if path.exists() else b""


def log_lines(directory: Path, collection: str = "plans") -> list[Any]:
    """The lines of a log, parsed."""
    return [json.loads(line) for line in read_log(directory, collection).splitlines()]


def append(directory: Path, *lines: bytes | dict[str, Any], collection: str = "plans") -> None:
    """Append lines to a log, as another program would."""
    with log_path(directory, collection).open("ab") as log:
        for line in lines:
            raw = line if isinstance(line, bytes) else json.dumps(line).encode()
            log.write(raw + b"\n")


def rewrite(directory: Path, data: bytes, collection: str = "plans") -> None:
    """Replace a log by another file, as git does."""
    path = log_path(directory, collection)
    draft = path.with_name("draft")
    draft.write_bytes(data)
    os.replace(draft, path)


def ids(store: Store, *filters: Any) -> list[str]:
    """The ids of the plans that meet the filters, sorted."""
    return sorted(plan.id for plan in store.list(Plan, *filters))


def listing(directory: Path) -> dict[str, tuple[int, ...]]:
    """Everything under a directory, itself included, with what a write would change in its stat."""
    found: dict[str, tuple[int, ...]] = {}
    for path in (directory, *directory.rglob("*")):
        stat = path.lstat()
        found[str(path)] = (
            stat.st_mode,
            stat.st_ino,
            stat.st_nlink,
            stat.st_size,
            stat.st_mtime_ns,
            stat.st_ctime_ns,
        )
    return found
