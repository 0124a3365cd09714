"""The rows that one process measures: what the store does, and beside it the least it could do."""

from __future__ import annotations

import os
import random
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from benchmarks.data import (
    COLLECTION,
    FIRST_MS,
    INSERT_INDEXES,
    INSERT_RECORDS,
    EvolvedPlan,
    Plan,
    decode_plan,
    id_of,
    index_rows,
    line,
    lines,
    plan,
    record_row,
    tail,
    winning_rows,
    write_log,
)
from benchmarks.scene import LOG, Scene, connected, settled
from taskstore import Store, where
from taskstore._format.lines import decode_key
from taskstore.cli import main
from taskstore.models import RecordIndex, StoredRecord

TAIL = 1000
COLLECTIONS = 100
GETS = 10_000
OPENS = 50


def full_sync(scene: Scene) -> None:
    """Open a store that has a log and no cache."""
    directory = scene.new_log()
    with scene.timed(), Store.open(directory, types=[Plan]):
        pass


def evolved_sync(scene: Scene) -> None:
    """Do the same with a class that has changed three times since the lines were written."""
    directory = scene.new_log()
    with scene.timed(), Store.open(directory, types=[EvolvedPlan]):
        pass


def insert_winners(scene: Scene) -> None:
    """Insert the prepared winners in the order of the key."""
    rows = winning_rows(scene.log)
    connection = scene.new_cache()
    settled(scene.place)
    with scene.timed():
        _insert(connection, rows)


def _insert(connection: sqlite3.Connection, rows: list[tuple[str, str, str, int, int]]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(INSERT_RECORDS, rows)
    connection.execute("COMMIT")


def tail_sync(scene: Scene) -> None:
    """Sync after some lines were appended."""
    directory = scene.new_store()
    with Store.open(directory, types=[Plan]) as store:
        write_log(directory / LOG, tail(scene.size, min(TAIL, scene.size // 10)))
        settled(directory)
        with scene.timed():
            report = store.sync()
    assert report.collections[COLLECTION].action == "tail"


def touch_sync(scene: Scene) -> None:
    """Sync after the log was touched."""
    directory = scene.new_store()
    with Store.open(directory, types=[Plan]) as store:
        os.utime(directory / LOG, ns=(FIRST_MS * 1_000_000, FIRST_MS * 1_000_000))
        settled(directory)
        with scene.timed():
            report = store.sync()
    assert report.collections[COLLECTION].action == "noted"


def checksum_pass(scene: Scene) -> None:
    """Take the CRC-32 of the log, which could not be less work."""
    with scene.timed(), scene.log.open("rb", buffering=0) as log:
        value = 0
        while data := log.read(1 << 20):
            value = zlib.crc32(data, value)


def warm_open(scene: Scene) -> None:
    """Open a store of many collections that is in sync; once before, for what Python loads."""
    directory = _many_collections(scene)
    _opened(scene, directory)


def open_grown(scene: Scene) -> None:
    """Open a store with one large log that is in sync."""
    directory = scene.new_store()
    _opened(scene, directory)


def _opened(scene: Scene, directory: Path) -> None:
    first = Scene(scene.size, scene.templates, scene.place)
    with first.timed(), Store.open(directory, types=[Plan]):
        pass
    for _ in range(OPENS):
        with scene.timed():
            store = Store.open(directory, types=[Plan])
        store.close()
    scene.facts["first_ms"] = first.seconds * 1000
    scene.facts["each"] = OPENS


def _many_collections(scene: Scene) -> Path:
    directory = scene.place / ".taskstore"
    with Store.open(directory, types=[Plan]) as store, store.transaction():
        for number in range(COLLECTIONS):
            row = {"id": "one", "number": number}
            store.create(row, collection=f"collection-{number:03}")
    with Store.open(directory):
        settled(directory)
    with Store.open(directory):
        return directory


def stat_and_select(scene: Scene) -> None:
    """Look at many files, and run one SELECT on a new connection."""
    directory = _many_collections(scene)
    _stat_and_select(scene, directory, sorted(directory.glob("*.jsonl")))


def stat_one_and_select(scene: Scene) -> None:
    """Look at one file, and run one SELECT on a new connection."""
    _stat_and_select(scene, scene.store, [scene.store / LOG])


def _stat_and_select(scene: Scene, directory: Path, logs: list[Path]) -> None:
    for _ in range(OPENS):
        with scene.timed():
            for path in logs:
                os.stat(path)
            connection = connected(directory)
            connection.execute("SELECT * FROM sync_metadata").fetchall()
        connection.close()
    scene.facts["each"] = OPENS


def create(scene: Scene) -> None:
    """Create records one by one, in a store that has a log already."""
    with Store.open(scene.new_store(), types=[Plan]) as store:
        plans = _new_plans(scene.size, scene.thousand)
        store.create(plan(scene.size * 2))
        with scene.timed():
            for new in plans:
                store.create(new)
    scene.facts["each"] = scene.thousand


def append_each(scene: Scene) -> None:
    """Append the same lines to one open file, each with an fsync."""
    some = [_encoded(new) for new in _new_plans(scene.size, scene.thousand)]
    fd = os.open(scene.place / "lines", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.fsync(fd)
    with scene.timed():
        for raw in some:
            os.write(fd, raw)
            os.fsync(fd)
    os.close(fd)
    scene.facts["each"] = scene.thousand


def _new_plans(first: int, count: int) -> list[Plan]:
    return [plan(first + at) for at in range(count)]


def _encoded(new: Plan) -> bytes:
    return msgspec.json.encode(new) + b"\n"


def create_many(scene: Scene) -> None:
    """Create many records at once, in a new store."""
    plans = _new_plans(0, scene.tenth)
    with Store.open(scene.place / ".taskstore", types=[Plan]) as store:
        settled(store.path)
        with scene.timed():
            store.create_many(plans)


def append_and_insert(scene: Scene) -> None:
    """Encode the lines, append them with one fsync, and insert their rows."""
    plans = _new_plans(0, scene.tenth)
    rows = [record_row(line(at, 0, FIRST_MS)) for at in range(scene.tenth)]
    connection = scene.new_cache()
    fd = os.open(scene.place / "lines", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    settled(scene.place)
    with scene.timed():
        os.write(fd, b"".join([_encoded(new) for new in plans]))
        os.fsync(fd)
        _insert(connection, rows)
    os.close(fd)


def append_and_insert_all(scene: Scene) -> None:
    """Do the same, and write a journal before and the index rows after."""
    plans = _new_plans(0, scene.tenth)
    rows = [record_row(line(at, 0, FIRST_MS)) for at in range(scene.tenth)]
    indexed = list(index_rows(plans))
    connection = scene.new_cache()
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    journal, log = (os.open(scene.place / name, flags, 0o666) for name in ("journal", "lines"))
    settled(scene.place)
    with scene.timed():
        data = b"".join([_encoded(new) for new in plans])
        for fd in (journal, log):
            os.write(fd, data)
            os.fsync(fd)
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(INSERT_RECORDS, rows)
        connection.executemany(INSERT_INDEXES, indexed)
        connection.execute("COMMIT")
    os.close(journal)
    os.close(log)


def attached(scene: Scene) -> None:
    """Add objects to an attached session, and commit."""
    texts = [line(at, 0, FIRST_MS) for at in range(scene.tenth)]
    with (
        Store.open(scene.place / ".taskstore", types=[Plan]) as store,
        Session(store.engine) as session,
    ):
        store.attach(session)
        settled(store.path)
        with scene.timed():
            session.add_all(_objects(texts))
            session.commit()


def unattached(scene: Scene) -> None:
    """Add the same objects, and those of their index rows, to a session without the hook."""
    with _unhooked(scene) as (session, texts), scene.timed():
        session.add_all(_objects(texts))
        session.add_all(
            RecordIndex(
                collection=collection,
                id=id,
                field_name=name,
                field_value_str=text,
                field_value_int=number,
            )
            for collection, id, name, text, number in index_rows(map(decode_plan, texts))
        )
        session.commit()


def unattached_driver(scene: Scene) -> None:
    """Add the same objects to a session without the hook, and index rows below it."""
    with _unhooked(scene) as (session, texts), scene.timed():
        session.add_all(_objects(texts))
        session.flush()
        driver = session.connection().connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.executemany(INSERT_INDEXES, index_rows(map(decode_plan, texts)))
        session.commit()


@contextmanager
def _unhooked(scene: Scene) -> Iterator[tuple[Session, list[str]]]:
    texts = [line(at, 0, FIRST_MS) for at in range(scene.tenth)]
    scene.new_cache().close()
    engine = create_engine(f"sqlite:///{scene.place / '.taskstore' / 'taskstore.db'}")
    settled(scene.place)
    with Session(engine) as session:
        yield session, texts
    engine.dispose()


def _objects(texts: list[str]) -> Iterator[StoredRecord]:
    for at, text in enumerate(texts):
        yield StoredRecord(
            collection=COLLECTION,
            id=id_of(at),
            data_json=text,
            updated_at=FIRST_MS,
            updated_at_us=FIRST_MS * 1000,
        )


def list_filtered(scene: Scene) -> None:
    """List what meets two filters."""
    with Store.open(scene.store, types=[Plan]) as store, scene.timed():
        found = store.list(Plan, where(Plan.status) == "active", where(Plan.priority) > 5)
    scene.facts["hits"] = len(found)


def select_filtered(scene: Scene) -> None:
    """Select the same with the SQL that is fastest here, and decode."""
    sql = """
        SELECT r.data_json
        FROM record_indexes AS s CROSS JOIN record_indexes AS p CROSS JOIN records AS r
        WHERE s.collection = ?1 AND s.field_name = 'status' AND s.field_value_str = 'active'
            AND p.collection = ?1 AND p.id = s.id AND p.field_name = 'priority'
            AND p.field_value_int > 5
            AND r.collection = ?1 AND r.id = s.id
        ORDER BY r.updated_at_us DESC, r.id
    """
    connection = connected(scene.store)
    with scene.timed():
        found = [decode_plan(text) for (text,) in connection.execute(sql, (COLLECTION,))]
    scene.facts["hits"] = len(found)


def get(scene: Scene) -> None:
    """Get records by random ids."""
    ids = _random_ids(scene.size)
    with Store.open(scene.store, types=[Plan]) as store:
        store.get(Plan, ids[0])
        with scene.timed():
            for id in ids:
                store.get(Plan, id)
    scene.facts["each"] = len(ids)


def select_each(scene: Scene) -> None:
    """Select the same rows on one connection, and decode."""
    ids = _random_ids(scene.size)
    connection = connected(scene.store)
    sql = "SELECT data_json FROM records WHERE collection = ? AND id = ?"
    with scene.timed():
        for id in ids:
            [(text,)] = connection.execute(sql, (COLLECTION, id)).fetchall()
            decode_plan(text)
    scene.facts["each"] = len(ids)


def _random_ids(size: int) -> list[str]:
    chance = random.Random(size)
    return [id_of(chance.randrange(size // 2)) for _ in range(min(GETS, size))]


def rebuild(scene: Scene) -> None:
    """Rebuild the index rows of a store."""
    with Store.open(scene.new_store(), types=[Plan]) as store, scene.timed():
        store.rebuild_indexes(Plan)


def structure_and_insert(scene: Scene) -> None:
    """Read the rows, decode each, and insert the index rows into the emptied table."""
    connection = connected(scene.new_store())
    connection.execute("DELETE FROM record_indexes")
    settled(scene.place)
    sql = "SELECT data_json FROM records WHERE collection = ? ORDER BY id"
    with scene.timed():
        connection.execute("BEGIN IMMEDIATE")
        found = connection.execute(sql, (COLLECTION,))
        connection.executemany(INSERT_INDEXES, index_rows(decode_plan(text) for (text,) in found))
        connection.execute("COMMIT")


def compact(scene: Scene) -> None:
    """Compact the log."""
    with Store.open(scene.new_store(), types=[Plan]) as store, scene.timed():
        store.compact(Plan)


def read_and_write(scene: Scene) -> None:
    """Read the log, and write its winners to a new file."""
    directory = scene.new_log()
    with scene.timed():
        newest: dict[str, tuple[int, bytes]] = {}
        with (directory / LOG).open("rb") as log:
            for raw in log:
                id, order_us, _, _, _ = decode_key(raw)
                if id not in newest or newest[id][0] <= order_us:
                    newest[id] = order_us, raw
        with (directory / "new").open("wb") as new:
            new.writelines(raw for _, raw in newest.values())
            new.flush()
            os.fsync(new.fileno())


def merge(scene: Scene) -> None:
    """Merge three files, as git has it done."""
    names = ("base", "ours", "theirs")
    for name, data in zip(names, _three(scene.tenth), strict=True):
        (scene.place / name).write_bytes(data)
    arguments = ["merge", *(str(scene.place / name) for name in names), f".taskstore/{LOG}"]
    with scene.timed():
        status = main(arguments, standalone_mode=False)
    assert status in (0, 1)


def decode_three(scene: Scene) -> None:
    """Decode three files once."""
    files = _three(scene.tenth)
    with scene.timed():
        for data in files:
            for raw in data.splitlines():
                decode_key(raw)


def _three(count: int) -> tuple[bytes, bytes, bytes]:
    base = list(lines(count))
    sides = []
    for side in (1, 2):
        texts = list(base)
        for at in range(0, count, 20):
            # No record is changed on both sides: what is left to a person has to be shown.
            number = (at * side + side) % (count // 2)
            texts.append(line(number, 2 + side, FIRST_MS + count + at) + "\n")
        sides.append("".join(texts).encode())
    return "".join(base).encode(), sides[0], sides[1]


def iterate(scene: Scene) -> None:
    """Iterate over all records."""
    with Store.open(scene.store, types=[Plan]) as store, scene.timed():
        for _ in store.iterate(Plan):
            pass


def iterate_rows(scene: Scene) -> None:
    """Read all rows in the same order, and decode."""
    connection = connected(scene.store)
    sql = "SELECT data_json FROM records WHERE collection = ? ORDER BY updated_at_us DESC, id"
    with scene.timed():
        for (text,) in connection.execute(sql, (COLLECTION,)):
            decode_plan(text)
