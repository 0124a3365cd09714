"""The data that is measured: the same lines in every run, and how rows and lines look to a driver.

A line has about 270 bytes. Half as many ids as lines: each is written once, and once more in
another order, neither of which is that of the ids.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from taskstore import evolution, indexed, record

COLLECTION = "plans"
STATUSES = ("draft", "active", "blocked", "done", "dropped")
FIRST_MS = 1_700_000_000_000
FULL_SIZE = 1_000_000
"""The size that the targets are meant for, in lines."""

_WORDS = [
    "log",
    "cache",
    "line",
    "merge",
    "commit",
    "record",
    "index",
    "branch",
    "session",
    "replay",
    "store",
    "write",
]
_BODIES = 997
_STRIDE = 7919  # a prime that divides no number of ids we use


@record(COLLECTION)
class Plan:
    """What is stored."""

    id: str
    title: str
    status: str = indexed(default="draft")
    priority: int = indexed(default=0)
    body: str = ""
    updated_at: int = 0


@record(
    COLLECTION,
    evolutions=[
        evolution("2", rename={"body": "text"}),
        evolution("3", convert={"priority": "str"}),
        evolution("4", default={"owner": None}),
    ],
)
class EvolvedPlan:
    """The same, three changes later."""

    id: str
    title: str
    text: str
    owner: str | None
    status: str = indexed(default="draft")
    priority: str = indexed(default="0")
    updated_at: int = 0


decode_plan = msgspec.json.Decoder(Plan).decode
"""How a driver's text becomes a record at the least cost."""


def _made_bodies() -> list[str]:
    chance = random.Random(270)
    return [" ".join(chance.choices(_WORDS, k=24)) for _ in range(_BODIES)]


_bodies = _made_bodies()


def plan(number: int, version: int = 0) -> Plan:
    """The record of a number, in one of its versions."""
    return Plan(
        id_of(number),
        f"Plan {number} in version {version}",
        STATUSES[(number + version) % 5],
        (number // 5 + version) % 10,
        _bodies[(number * 31 + version) % _BODIES],
    )


def id_of(number: int) -> str:
    """The id of a number; ids are in the order of the numbers."""
    return f"plan-{number:08}"


def line(number: int, version: int, updated_at: int) -> str:
    """The line of a record, without newline."""
    return (
        f'{{"id":"{id_of(number)}","title":"Plan {number} in version {version}",'
        f'"status":"{STATUSES[(number + version) % 5]}","priority":{(number // 5 + version) % 10},'
        f'"body":"{_bodies[(number * 31 + version) % _BODIES]}","updated_at":{updated_at}}}'
    )


def lines(size: int) -> Iterator[str]:
    """The lines of a log of some size, each with its newline."""
    ids = size // 2
    for at in range(size):
        version, turn = divmod(at, ids)
        number = (turn * _STRIDE + version * ids // 3) % ids
        yield line(number, version, FIRST_MS + at) + "\n"


def tail(size: int, count: int) -> Iterator[str]:
    """Lines that are appended to a log of some size: half of them of new records."""
    ids = size // 2
    for at in range(count):
        number = ids + at if at % 2 else at * _STRIDE % ids
        yield line(number, 2, FIRST_MS + size + at) + "\n"


def write_log(path: Path, some: Iterable[str]) -> None:
    """Write a log, or go on with one."""
    with path.open("a", encoding="utf-8") as log:
        log.writelines(some)


Row = tuple[str, str, str, int, int]
"""A row of the table `records`."""

INSERT_RECORDS = (
    "INSERT INTO records (collection, id, data_json, updated_at, updated_at_us) "
    "VALUES (?, ?, ?, ?, ?)"
)
INSERT_INDEXES = (
    "INSERT INTO record_indexes (collection, id, field_name, field_value_str, field_value_int) "
    "VALUES (?, ?, ?, ?, ?)"
)


def winning_rows(log: Path) -> list[Row]:
    """The rows of the records that a log leaves, in the order of their ids."""
    newest: dict[str, Row] = {}
    with log.open(encoding="utf-8") as text:
        for raw in text:
            row = record_row(raw.rstrip("\n"))
            if row[1] not in newest or newest[row[1]][4] <= row[4]:
                newest[row[1]] = row
    return [newest[id] for id in sorted(newest)]


def record_row(text: str) -> Row:
    """The row of a record, from its line."""
    found = decode_plan(text)
    return COLLECTION, found.id, text, found.updated_at, found.updated_at * 1000


def index_rows(some: Iterable[Plan]) -> Iterator[tuple[str, str, str, str | None, int | None]]:
    """The index rows of some records."""
    for found in some:
        yield COLLECTION, found.id, "priority", None, found.priority
        yield COLLECTION, found.id, "status", found.status, None
