"""Commands that read do without SQLAlchemy, and print what they print with it."""

from __future__ import annotations

import json
import os
import random
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from taskstore import Store
from taskstore._api import driver_store
from taskstore._api.driver_store import DriverStore
from taskstore._cache.schema.models import DEFAULT
from taskstore._cache.schema.names import TABLES
from taskstore._cache.sql.plain import COUNT, rows_sql
from taskstore._cache.sql.statements import RecordQuery
from taskstore._log.layout import Layout
from taskstore._store.seal import CacheSeal
from taskstore.cli import main
from tests.cli.programs import on_pipe
from tests.cli.test_golden import CASES

# CSV is written to a descriptor, which is out of reach here.
READS = [
    name
    for name, (call, _) in CASES.items()
    if call[0] in ("list", "get", "status") and not name.endswith("-csv")
]

IMPORTED = """
import sys
from taskstore.cli import main
try:
    main(sys.argv[1:])
finally:
    print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)
"""


def run(folder: Path, *call: str) -> tuple[int, str, str]:
    """What a command exits with, and prints."""
    arguments = [*call, "--store", str(folder / ".taskstore")]
    done = CliRunner().invoke(main, arguments, prog_name="taskstore")
    # How large the cache's files are depends on when SQLite has last moved its write-ahead log.
    out = re.sub(r'"cache_bytes": \d+', '"cache_bytes": 0', done.stdout)
    return done.exit_code, out, done.stderr


@contextmanager
def ordinary() -> Iterator[None]:
    """A block in which all commands open an ordinary store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver_store, "open_with_driver", lambda *_, **__: None)
        yield


def both_ways(folder: Path, *call: str) -> tuple[int, str, str]:
    """What a command prints, which is the same both ways."""
    found = run(folder, *call)
    with ordinary():
        assert run(folder, *call) == found, call
    return found


@contextmanager
def opened(folder: Path) -> Iterator[DriverStore | None]:
    """A store as the driver alone opens it; None where an ordinary open has to do something."""
    layout = Layout(folder / ".taskstore")
    found = driver_store.open_with_driver(layout, lambda: Store.open(layout.directory))
    try:
        yield found
    finally:
        if found is not None:
            found.close()


def is_usable(folder: Path) -> bool:
    """Whether a store can be read with the driver alone."""
    with opened(folder) as found:
        return found is not None


@pytest.fixture
def synced(folder: Path) -> Path:
    """The folder of the sample store, with a fresh cache."""
    assert 0 == run(folder, "sync")[0]
    # A log that was written a moment ago is compared once more, by the first command that reads it.
    while '"noted"' in run(folder, "status", "--json")[1]:
        pass
    return folder


@pytest.mark.parametrize("name", READS)
def test_both_ways_print_the_same(name: str, synced: Path) -> None:
    """Each golden case that reads prints the same with and without SQLAlchemy."""
    status, out, _ = both_ways(synced, *CASES[name][0])
    assert (0, True) == (status, bool(out))


def test_the_statements_are_the_same() -> None:
    """The text that is run without SQLAlchemy is what SQLAlchemy compiles."""
    query = RecordQuery.of(DEFAULT, "plans", None, record_type=None, indexed={})
    assert query.count().driver_sql() == (COUNT, ("plans",))
    for limit, offset in ((None, None), (3, None), (None, 4), (3, 4), (0, 0)):
        text, parameters = rows_sql(limit, offset)
        expected = query.rows("data_json", limit=limit, offset=offset).driver_sql()
        assert expected == (text, ("plans", *parameters))


def test_the_tables_are_those_of_the_models() -> None:
    """The names of the tables that are known without the models are those of the models."""
    assert {table.name for table in DEFAULT.metadata.sorted_tables} == set(TABLES)


def loaded(folder: Path, *call: str) -> set[str]:
    """The packages that a command imports."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *call],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "call",
    [
        ["get", "plans", "plan-001"],
        ["list", "plans"],
        ["list", "plans", "--count"],
        ["list", "plans", "-w", "status=open", "--sort", "-priority"],
        ["search", "ship"],
        ["schema", "plans"],
        ["status"],
        ["git", "hook", "post-merge", "0"],
    ],
    ids=" ".join,
)
def test_a_read_imports_no_sqlalchemy(synced: Path, call: Sequence[str]) -> None:
    """What only reads, or syncs, imports neither SQLAlchemy nor Alembic, cattrs or rich."""
    subprocess.run("git init -q && git add .", cwd=synced, check=True, shell=True)
    assert 0 == run(synced, "sync")[0]
    append_line(synced / ".taskstore")
    assert set() == loaded(synced, *call) & {"sqlalchemy", "alembic", "cattrs", "rich"}
    status = json.loads(run(synced, "status", "--json")[1])
    assert {"fresh"} == {part["state"] for part in status["collections"]} - {"noted"}


def test_ids_are_completed_from_a_driver_store(synced: Path) -> None:
    """Ids are completed the same both ways."""
    asked = {
        "_TASKSTORE_COMPLETE": "bash_complete",
        "COMP_WORDS": "taskstore get plans plan-00",
        "COMP_CWORD": "3",
    }
    fresh = on_pipe(cwd=synced, **asked)
    (synced / ".taskstore" / "taskstore.db").unlink()
    assert fresh == on_pipe(cwd=synced, **asked)
    assert "plain,plan-001\nplain,plan-002\nplain,plan-003\n" == fresh.stdout


def append_line(directory: Path) -> None:
    """Append a line to a log, as git might."""
    with (directory / "plans.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id":"plan-099","title":"New","updated_at":1800000000000}\n')


def touch(directory: Path) -> None:
    """Give a log another time."""
    os.utime(directory / "plans.jsonl", ns=(1, 1))


def replace_log(directory: Path) -> None:
    """Put another log in the place of one."""
    (directory / "plans.jsonl").write_text('{"id":"other","a":1}\n{"id":\n', encoding="utf-8")


def add_collection(directory: Path) -> None:
    """Make another log."""
    (directory / "extra.jsonl").write_text('{"id":"e"}\n', encoding="utf-8")


def remove_collection(directory: Path) -> None:
    """Remove a log."""
    (directory / "notes.jsonl").unlink()


def name_index(directory: Path) -> None:
    """Name an index in the settings."""
    (directory / "config.toml").write_text('[indexes]\nplans = ["status"]\n', encoding="utf-8")


def leave_journal(directory: Path) -> None:
    """Leave a journal behind."""
    (directory / "taskstore.journal").write_bytes(b"{}")


def forge_row(directory: Path) -> None:
    """Change a row of the cache with another program."""
    with closing(sqlite3.connect(directory / "taskstore.db")) as connection, connection:
        connection.execute('UPDATE records SET data_json = \'{"id":"plan-001"}\'')


def link_cache(directory: Path) -> None:
    """Put a link in the cache's place."""
    target = directory.parent / "elsewhere.db"
    (directory / "taskstore.db").rename(target)
    (directory / "taskstore.db").symlink_to(target)


def forge_wal(directory: Path) -> None:
    """Put a write-ahead log beside the cache."""
    (directory / "taskstore.db-wal").write_bytes(b"\x37\x7f\x06\x82" + bytes(28))


def noted_sql(directory: Path, sql: str) -> None:
    """Change the cache as this clone itself might, and seal it."""
    seal = CacheSeal(Layout(directory))
    assert seal.is_whole()
    with closing(sqlite3.connect(directory / "taskstore.db")) as connection, connection:
        connection.execute(sql)
    seal.note()
    seal.close()


def older_schema(directory: Path) -> None:
    """Make the cache state an older schema."""
    noted_sql(directory, "DROP TABLE taskstore_version")


def hold_database(directory: Path) -> sqlite3.Connection:
    """Hold the write lock of the cache, and make a log stale."""
    append_line(directory)
    connection = sqlite3.connect(directory / "taskstore.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return connection


STALE = [append_line, touch, add_collection, remove_collection, replace_log]
UNUSUAL = [name_index, leave_journal, forge_row, link_cache, forge_wal, older_schema]


@pytest.mark.parametrize("change", STALE, ids=lambda change: change.__name__)
def test_a_stale_cache_is_synced(synced: Path, change: Callable[[Path], None]) -> None:
    """Changed logs are read without SQLAlchemy, and the cache is what an ordinary sync makes."""
    change(synced / ".taskstore")
    found = json.loads(run(synced, "status", "--json")[1])
    (synced / ".taskstore" / "taskstore.db").unlink()
    with ordinary():
        expected = json.loads(run(synced, "status", "--json")[1])
    for parts in (found["collections"], expected["collections"]):
        for part in parts:
            # What had to be read is another question.
            del part["state"], part["new_lines"]
    assert expected["collections"] == found["collections"]


@pytest.mark.parametrize("change", STALE, ids=lambda change: change.__name__)
def test_a_read_sees_changed_logs(synced: Path, change: Callable[[Path], None]) -> None:
    """A read of changed logs prints what an ordinary one does, and leaves a cache that fits."""
    change(synced / ".taskstore")
    assert is_usable(synced)
    both_ways(synced, "list", "plans", "--json")
    with Store.open(synced / ".taskstore") as store:
        assert store.verify().ok


@pytest.mark.parametrize("change", UNUSUAL, ids=lambda change: change.__name__)
def test_anything_unusual_is_left_to_the_store(
    synced: Path, change: Callable[[Path], None]
) -> None:
    """A cache that was brought, is damaged or has to be changed is not read as it is."""
    assert is_usable(synced)
    change(synced / ".taskstore")
    assert not is_usable(synced)
    (status, out, _) = run(synced, "list", "plans", "--json")
    assert 0 == status
    with ordinary():
        assert out == run(synced, "list", "plans", "--json")[1]


def test_no_lock_is_waited_for(synced: Path) -> None:
    """While another program writes, the ordinary store decides what to do."""
    with closing(hold_database(synced / ".taskstore")):
        assert not is_usable(synced)
    assert is_usable(synced)


def test_a_read_that_fails_is_left_to_the_store(
    synced: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the database refuses a statement, the ordinary store answers."""
    monkeypatch.setattr(driver_store, "COUNT", "SELECT count(*) FROM nothing WHERE ?")
    with opened(synced) as found:
        assert found is not None
        assert 3 == found.count("plans")
        assert found.get("plans", "plan-404") is None


def test_large_collections_are_filtered_by_sql(
    synced: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a collection that is not small, the ordinary store filters."""
    monkeypatch.setattr(driver_store, "_SMALL_BYTES", 10)
    expected = run(synced, "list", "plans", "-w", "status=open")
    monkeypatch.undo()
    assert expected == run(synced, "list", "plans", "-w", "status=open")


def test_a_row_that_is_no_record_is_left_to_the_store(synced: Path) -> None:
    """A row that is not JSON is reported the same both ways."""
    noted_sql(synced / ".taskstore", "UPDATE records SET data_json = 'x' WHERE id = 'plan-001'")
    assert is_usable(synced)
    assert 0 != both_ways(synced, "get", "plans", "plan-001")[0]


def lines(chance: random.Random) -> Iterator[str]:
    """Lines of a log: records, tombstones, and what is neither."""
    for _ in range(chance.randrange(40)):
        record: dict[str, object] = {"id": f"r{chance.randrange(12)}"}
        if chance.random() < 0.9:
            record["updated_at"] = chance.choice([chance.randrange(50), "2024-01-02T03:04:05Z", 0])
        record |= {
            name: chance.choice([1, "1", None, True, [1, "é"], {"a": 0.5}, "\u2028\x1b[31m", 2**70])
            for name in chance.sample(["a", "b", "title", "x-y"], chance.randrange(4))
        }
        if chance.random() < 0.2:
            record["deleted"] = True
        yield json.dumps(record) if chance.random() < 0.95 else "no JSON"


FILTERS = [
    ["-w", "a=1", "--sort", "b"],
    ["-w", "a>0", "-w", "b!=1", "--sort", "-a,b", "-n", "3", "--offset", "1"],
    ["-w", "a~1", "--sort", "-updated_at"],
    ["-w", "!title", "-n", "2"],
    ["-w", "title", "-w", "updated_at>=5", "--sort", "title,-id"],
    ["-w", 'b:=[1,"é"]', "--count"],
    ["-w", "id>=r3", "--sort", "b"],
]


def test_random_stores_print_the_same_both_ways(tmp_path: Path) -> None:
    """Whatever lines the logs have, commands print the same with and without SQLAlchemy."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for number in range(6):
        folder = tmp_path / str(number)
        directory = folder / ".taskstore"
        directory.mkdir(parents=True)
        for name in chance.sample(["plans", "notes", "a-b", "évil"], chance.randrange(1, 5)):
            text = "".join(f"{line}\n" for line in lines(chance))
            (directory / f"{name}.jsonl").write_text(text, encoding="utf-8")
        if chance.random() < 0.5:
            (directory / "config.toml").write_text('[indexes]\nplans = ["a"]\n', encoding="utf-8")
        run(folder, "sync")
        with (directory / "plans.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines(chance))
        assert is_usable(folder)
        some = [str(chance.randrange(5)), str(chance.randrange(5))]
        both_ways(folder, "list", "plans", "--json")
        both_ways(folder, "list", "plans", "--limit", some[0], "--offset", some[1])
        for filters in FILTERS:
            both_ways(folder, "list", "plans", *filters, "--json")
        both_ways(folder, "get", "plans", f"r{some[0]}", "--json")
        both_ways(folder, "status", "--json")
        assert is_usable(folder)
