"""The rows of the table: two sides each, and what is asked of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import attrs

from benchmarks import crowd, mirror, postgres, single, starts
from benchmarks.scene import Scene

Side = Callable[[Scene], None]


@attrs.frozen
class Row:
    """What is measured, beside its floor.

    Attributes:
        name: How the command calls it.
        work: What the store does.
        floor: What it is compared with.
        target: What is asked, in words.
        ours: Does the work.
        base: Does what it is compared with; a row's name where that is another row's work.
        ratio: The most that the store may take, in times of the floor.
        milliseconds: The most that it may take.
        more: The most that it may take beyond the floor, in milliseconds.
        mebibytes: The most anonymous memory that its process may have at a time.
        facts: The most that some of its facts may be.
        clock: Which time counts: the wall's or the processor's.
        grows: Whether its time may grow with the log.
        adds: Whether the floor is the same work without the store, and the difference counts.
        on_postgres: Whether it needs a server.
    """

    name: str
    work: str
    floor: str
    target: str
    ours: Side
    base: Side | str
    ratio: float | None = None
    milliseconds: float | None = None
    more: float | None = None
    mebibytes: float | None = None
    facts: Mapping[str, float] = attrs.field(factory=dict)
    clock: Literal["seconds", "cpu"] = "seconds"
    grows: bool = True
    adds: bool = False
    on_postgres: bool = False


_ROWS = (
    Row(
        "full-sync",
        "full sync with two indexed fields, no cache",
        "`executemany` of the winners in key order",
        "3 x, 250 MiB",
        single.full_sync,
        single.insert_winners,
        ratio=3,
        mebibytes=250,
    ),
    Row(
        "evolved-sync",
        "full sync through three evolutions",
        "the full sync",
        "1.5 x",
        single.evolved_sync,
        "full-sync",
        ratio=1.5,
    ),
    Row(
        "tail-sync",
        "sync after 1,000 lines were appended",
        "the full sync",
        "2 %",
        single.tail_sync,
        "full-sync",
        ratio=0.02,
    ),
    Row(
        "touch",
        "sync after `touch`",
        "one pass of CRC-32",
        "1.5 x",
        single.touch_sync,
        single.checksum_pass,
        ratio=1.5,
    ),
    Row(
        "warm-open",
        "warm open, 100 collections",
        "100 `stat` calls, one SELECT",
        "3 ms",
        single.warm_open,
        single.stat_and_select,
        milliseconds=3,
    ),
    Row(
        "open-grown",
        "warm open, one collection with all lines",
        "one `stat` call, one SELECT",
        "3 ms",
        single.open_grown,
        single.stat_one_and_select,
        milliseconds=3,
        grows=False,
    ),
    Row(
        "create",
        "1,000 single `create`",
        "append and fsync of the lines on one open file",
        "40 % of its rate",
        single.create,
        single.append_each,
        ratio=2.5,
        grows=False,
    ),
    Row(
        "create-many",
        "`create_many` of a tenth as many records",
        "encode, append, one fsync, `executemany` of the rows",
        "2.5 x",
        single.create_many,
        single.append_and_insert,
        ratio=2.5,
    ),
    Row(
        "create-many-whole",
        "`create_many` of a tenth as many records",
        "encode, journal, append, fsync, `executemany` of records and index rows",
        "1.5 x",
        single.create_many,
        single.append_and_insert_all,
        ratio=1.5,
    ),
    Row(
        "attached",
        "a tenth as many objects through an attached session",
        "the same without the hook, index rows in the session too",
        "1.2 x CPU",
        single.attached,
        single.unattached,
        ratio=1.2,
        clock="cpu",
    ),
    Row(
        "attached-driver",
        "the same objects through an attached session",
        "the same without the hook, index rows by `executemany`",
        "",
        single.attached,
        single.unattached_driver,
        clock="cpu",
    ),
    Row(
        "mirror-add",
        "add a tenth as many rows of a mirrored model in an attached session",
        "the same session without the hook",
        "",
        mirror.add_attached,
        mirror.add_bare,
        clock="cpu",
        adds=True,
    ),
    Row(
        "mirror-change",
        "change a tenth as many rows of a mirrored model in an attached session",
        "the same session without the hook",
        "",
        mirror.change_attached,
        mirror.change_bare,
        clock="cpu",
        adds=True,
    ),
    Row(
        "mirror-delete",
        "delete a tenth as many rows of a mirrored model in an attached session",
        "the same session without the hook",
        "",
        mirror.delete_attached,
        mirror.delete_bare,
        clock="cpu",
        adds=True,
    ),
    Row(
        "mirror-commit",
        "300 commits of one row of a mirrored model in an attached session",
        "the same session without the hook",
        "",
        mirror.commit_attached,
        mirror.commit_bare,
        clock="cpu",
        adds=True,
    ),
    Row(
        "mirror-sync",
        "sync of all lines into an empty mirrored table",
        "`executemany` of the same rows in key order",
        "2.5 x",
        mirror.sync_mirrored,
        mirror.insert_tasks,
        ratio=2.5,
    ),
    Row(
        "mirror-tail",
        "sync after 1,000 lines were appended to the log of a full mirrored table",
        "the same sync without a mirrored table",
        "2 x",
        mirror.sync_mirrored_tail,
        "tail-sync",
        ratio=2,
    ),
    Row(
        "list",
        "`list` with two indexed filters, 8 % hits",
        "the best SQL by hand, decoded",
        "1.3 x",
        single.list_filtered,
        single.select_filtered,
        ratio=1.3,
    ),
    Row(
        "get",
        "`get` of 10,000 random ids",
        "a SELECT on one connection, decoded",
        "3 x",
        single.get,
        single.select_each,
        ratio=3,
        grows=False,
    ),
    Row(
        "rebuild",
        "`rebuild_indexes`",
        "read and decode the rows, `executemany` of the index rows",
        "1.5 x",
        single.rebuild,
        single.structure_and_insert,
        ratio=1.5,
    ),
    Row(
        "compact",
        "`compact`",
        "read the log, write the winners",
        "2 x",
        single.compact,
        single.read_and_write,
        ratio=2,
    ),
    Row(
        "merge",
        "merge driver, three files of a tenth as many lines",
        "decode the three files once",
        "3 x",
        single.merge,
        single.decode_three,
        ratio=3,
    ),
    Row(
        "iterate",
        "`iterate` over all records",
        "the same rows from a cursor, decoded",
        "100 MiB",
        single.iterate,
        single.iterate_rows,
        mebibytes=100,
    ),
    Row(
        "writers",
        "2,000 `create` in eight processes at once",
        "as many in one process",
        "1 x, p99 under 10 medians",
        crowd.eight_writers,
        crowd.one_writer,
        ratio=1,
        facts={"p99_by_p50": 10},
    ),
    Row(
        "many-writers",
        "2,000 `create` in 32 processes at once",
        "as many in one process",
        "1.25 x, p99 under 20 medians",
        crowd.many_writers,
        crowd.one_writer,
        ratio=1.25,
        facts={"p99_by_p50": 20},
    ),
    Row(
        "readers",
        "reads beside a writer that is always in a transaction",
        "the same reads alone",
        "no wait of 100 ms",
        crowd.read_beside_a_writer,
        crowd.read_alone,
        facts={"longest_ms": crowd.HELD_S * 500},
    ),
    Row(
        "pg-writers",
        '4,000 commits in eight sessions on PostgreSQL, `ack="database"`',
        "the same sessions without the store",
        "60 % of their rate, p99 of the lag 100 ms",
        postgres.ack_database,
        postgres.write_bare,
        ratio=1 / 0.6,
        facts={"lag_p99_ms": 100},
        on_postgres=True,
    ),
    Row(
        "pg-log",
        '4,000 commits in eight sessions on PostgreSQL, `ack="log"`',
        "the same sessions without the store",
        "30 % of their rate",
        postgres.ack_log,
        postgres.write_bare,
        ratio=1 / 0.3,
        on_postgres=True,
    ),
    Row(
        "pg-sync",
        "sync of all lines into a table in PostgreSQL, beside two writers",
        "COPY of the same rows, beside two writers",
        "3 x",
        postgres.sync,
        postgres.copy_rows,
        ratio=3,
        on_postgres=True,
    ),
    Row(
        "first-open",
        "first `Store.open` in a process, with the imports",
        "`import sqlalchemy.orm`",
        "50 ms more",
        starts.first_open,
        starts.import_orm,
        more=50,
        clock="cpu",
        adds=True,
    ),
    *(
        Row(
            f"command-{name}",
            f"{command} on a fresh cache",
            "`import click, sqlite3, msgspec`",
            "200 ms",
            ours,
            starts.import_few,
            milliseconds=200,
            clock="cpu",
        )
        for name, command, ours in (
            ("get", "`taskstore get`", starts.get_command),
            ("count", "`taskstore list --where --count`", starts.count_command),
            ("status", "`taskstore status`", starts.status_command),
            ("complete", "completing an id", starts.complete_command),
        )
    ),
)

ROWS: Mapping[str, Row] = {row.name: row for row in _ROWS}
