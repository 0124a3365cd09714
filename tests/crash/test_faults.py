"""Every file call and every database call fails once: nothing breaks, the next one succeeds."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import sessionmaker

from taskstore import Store
from taskstore._cache.engine.guard import GuardedConnection, GuardedCursor
from taskstore.errors import CommitUncertainError, TaskstoreError
from taskstore.models import StoredRecord
from tests.crash.scene import (
    TYPES,
    Plan,
    Task,
    check_cache,
    check_released,
    copy,
    logs,
    open_logs,
    served,
    steps,
    told,
)
from tests.log.disk import Tap

MOST = 400
"""More calls than any of the operations makes."""


def commit_single(store: Store) -> None:
    """One record."""
    store.save(Plan("new", group=1))


def commit_several(store: Store) -> None:
    """Several records of both collections."""
    with store.transaction():
        store.save_many([Plan("new", group=1), Plan("other", group=1)])
        store.save(Task("new", group=1))
        store.delete(Plan, "p1")


def commit_session(store: Store) -> None:
    """The application's own session."""
    factory = sessionmaker(store.engine)
    store.attach(factory)
    try:
        with factory.begin() as session:
            session.merge(StoredRecord.from_record(Plan("new", group=1)))
            session.merge(StoredRecord.from_record(Task("new", group=1)))
    finally:
        store.detach(factory)


def sync(store: Store) -> None:
    """What git brought: lines at the end of one log, another file in place of the other."""
    store.sync()


def compact(store: Store) -> None:
    """A compaction that drops a line and a tombstone."""
    store.compact(Plan, keep_tombstones_ms=0)


def verify(store: Store) -> None:
    """A verification."""
    assert store.verify().ok


def look(store: Store) -> None:
    """The calls that read the log itself."""
    store.list_tolerant(Plan)
    store.history(Plan, "p2")


def read(store: Store) -> None:
    """A read, in a transaction of its own."""
    with store.session(read_only=True):
        assert store.count(Plan) >= 2


@attrs.frozen
class Case:
    """An operation, and what it may leave in the logs when it fails."""

    run: Callable[[Store], None]
    writes: bool = False
    prepare: Callable[[Path], None] = lambda path: None


def bring(path: Path) -> None:
    """Change both logs from outside."""
    with (path / "plans.jsonl").open("ab") as log:
        log.write(b'{"id":"git","group":0,"updated_at":1}\n{"id":"p1","title":"g","updated_at":9}')
    other = path / "other"
    other.write_bytes(b'{"id":"t1","title":"git"}\n{"id":"t2"}\nno record\n')
    other.replace(path / "tasks.jsonl")


CASES = {
    "single": Case(commit_single, writes=True),
    "several": Case(commit_several, writes=True),
    "session": Case(commit_session, writes=True),
    "after git": Case(commit_several, writes=True, prepare=bring),
    "sync": Case(sync, prepare=bring),
    "compact": Case(compact),
    "verify": Case(verify, prepare=bring),
    "look": Case(look),
    "read": Case(read, prepare=bring),
}
ALLOWED = (TaskstoreError, DBAPIError, sqlite3.Error, KeyboardInterrupt)


def attempt(case: Case, store: Store) -> BaseException | None:
    """Run the operation; return what it raised, which must be typed."""
    try:
        case.run(store)
    except ALLOWED as error:
        if case.run is not commit_session:
            assert isinstance(error, TaskstoreError | KeyboardInterrupt)
        return error
    return None


def check_after(case: Case, store: Store, before: Any, error: BaseException | None) -> None:
    """All invariants hold, nothing is held, and the operation succeeds now."""
    check_released(store)
    records = told(store.path)
    whole = {("plans", "new")} | ({("tasks", "new")} if case.run is not commit_single else set())
    there = {key in records for key in whole}
    if case.writes:
        if error is None:
            assert {True} == there
        elif not isinstance(error, CommitUncertainError | KeyboardInterrupt):
            assert before == said(store.path)
        assert 1 == len(there)
    else:
        assert before == said(store.path)
    check_cache(store)
    case.run(store)
    assert not case.writes or set(told(store.path)) >= whole
    check_cache(store)
    check_released(store)


def said(path: Path) -> Any:
    """What the logs say, but for order and tombstones; and the lines that are no record."""
    strange = {
        line for data in logs(path).values() for line in data.split(b"\n") if b"no r" in line
    }
    return told(path), strange


def each_fault(
    case: Case, template: Path, target: Path, inject: Callable[[int], Any]
) -> Iterator[int]:
    """Run the operation with the first call failing, then the second, and so on to the last."""
    for number in steps(MOST, case.run):
        path = copy(template, target)
        with Store.open(path, types=TYPES.values()) as store:
            store.count(Plan)
            case.prepare(path)
            before = said(path)
            with inject(number) as reached:
                error = attempt(case, store)
            if not reached:
                assert error is None
                return
            check_after(case, store, before, error)
            yield number
    pytest.fail(f"an operation takes less than {MOST} calls")


def interrupt(number: int, name: str) -> BaseException:
    """Ctrl-C."""
    return KeyboardInterrupt()


def refuse(code: int) -> Callable[[int, str], BaseException]:
    """The system says no."""
    return lambda number, name: OSError(code, f"injected into {name} ({number})")


FILE_FAULTS = {
    "ENOSPC": refuse(errno.ENOSPC),
    "EIO": refuse(errno.EIO),
    "EACCES": refuse(errno.EACCES),
    "Ctrl-C": interrupt,
}


def failing_file(tap: Tap, fault: Any, *, lasting: bool = False) -> Callable[[int], Any]:
    """Make one file call fail, or all from one on."""

    @contextmanager
    def inject(number: int) -> Iterator[list[int]]:
        reached: list[int] = []

        def before(count: int, name: str, arguments: Any) -> None:
            if count == number or (lasting and count > number):
                reached.append(count)
                raise fault(count, name)

        tap.count, tap.before = 0, before
        try:
            yield reached
        finally:
            tap.before = lambda *_: None

    return inject


@pytest.mark.parametrize("fault", FILE_FAULTS.values(), ids=FILE_FAULTS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_file_call_fails_once(
    tap: Tap, template: Path, place: Path, case: Case, fault: Any
) -> None:
    """Whichever file call fails: a typed error, all or nothing, and the next call succeeds."""
    faults = list(each_fault(case, template, place, failing_file(tap, fault)))
    assert faults


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_disk_breaks_for_good(tap: Tap, template: Path, place: Path, case: Case) -> None:
    """Every file call fails from some point on, fsync among them: what was raised was true."""
    inject = failing_file(tap, FILE_FAULTS["EIO"], lasting=True)
    for number in steps(MOST, case.run):
        path = copy(template, place)
        with Store.open(path, types=TYPES.values()) as store:
            case.prepare(path)
            with inject(number) as reached:
                error = attempt(case, store)
            store.sync()
            check_after(case, store, said(path), error if error is None else KeyboardInterrupt())
        if not reached:
            break


class Database:
    """Statements and COMMITs of the store's connections, of which one can be made to fail."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.fault: Callable[[int, str, Callable[[], Any]], Any] = lambda n, name, real: real()
        for owner, name in (
            (GuardedCursor, "execute"),
            (GuardedCursor, "executemany"),
            (GuardedConnection, "commit"),
        ):
            patch.setattr(owner, name, self._wrap(name, getattr(owner, name)))

    def _wrap(self, name: str, real: Any) -> Any:
        def call(this: Any, *arguments: Any) -> Any:
            self.count += 1
            return self.fault(self.count, name, lambda: real(this, *arguments))

        return call


def sqlite_error(code: int) -> sqlite3.OperationalError:
    """An error of SQLite's, as the driver raises it."""
    error = sqlite3.OperationalError(f"injected: {code}")
    error.sqlite_errorcode = code
    return error


@pytest.fixture
def database(monkeypatch: Any) -> Database:
    """Database calls under control."""
    return Database(monkeypatch)


def failing_database(database: Database, error: Callable[[], BaseException], when: str) -> Any:
    """Make one database call fail before it does anything, or one COMMIT after it ("late")."""

    @contextmanager
    def inject(number: int) -> Iterator[list[int]]:
        reached: list[int] = []
        commits: list[int] = []

        def fault(count: int, name: str, real: Callable[[], Any]) -> Any:
            if when == "late":
                if name != "commit":
                    return real()
                commits.append(count)
                count = len(commits)
            if count != number:
                return real()
            reached.append(count)
            if when == "late":
                real()
            raise error()

        database.count, database.fault = 0, fault
        try:
            yield reached
        finally:
            database.fault = lambda n, name, real: real()

    return inject


DATABASE_FAULTS: dict[str, Callable[[], BaseException]] = {
    "FULL": lambda: sqlite_error(sqlite3.SQLITE_FULL),
    "IOERR": lambda: sqlite_error(sqlite3.SQLITE_IOERR),
    "BUSY": lambda: sqlite_error(sqlite3.SQLITE_BUSY),
    "Ctrl-C": KeyboardInterrupt,
}


@pytest.mark.parametrize("error", DATABASE_FAULTS.values(), ids=DATABASE_FAULTS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_database_call_fails_once(
    database: Database, template: Path, place: Path, case: Case, error: Any
) -> None:
    """Whichever statement or COMMIT fails: a typed error, and the next call succeeds."""
    list(each_fault(case, template, place, failing_database(database, error, "early")))


@pytest.mark.parametrize("error", DATABASE_FAULTS.values(), ids=DATABASE_FAULTS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_commit_takes_effect_and_then_fails(
    database: Database, template: Path, place: Path, case: Case, error: Any
) -> None:
    """A COMMIT that has happened is reported as failed: cache and log agree all the same."""
    for number in range(1, MOST):
        path = copy(template, place)
        with Store.open(path, types=TYPES.values()) as store:
            store.count(Plan)
            case.prepare(path)
            before = said(path)
            with failing_database(database, error, "late")(number) as reached:
                failed = attempt(case, store)
            if not reached:
                break
            check_after(case, store, before, failed)
    assert number > 1 or not case.writes


@pytest.mark.parametrize("fault", FILE_FAULTS.values(), ids=FILE_FAULTS)
def test_every_file_call_of_an_open_fails_once(
    tap: Tap, template: Path, place: Path, fault: Any
) -> None:
    """A failed open raises a typed error and leaves nothing held; the next one is complete."""
    for number in steps(MOST, repr(fault(0, ""))):
        path = copy(template, place)
        bring(path)
        for name in ("taskstore.db", ".version", ".gitignore"):
            (path / name).unlink()
        before = said(path)
        with failing_file(tap, fault)(number) as reached:
            try:
                Store.open(path, types=TYPES.values()).close()
            except (TaskstoreError, KeyboardInterrupt):
                pass
        assert before == said(path)
        assert [] == open_logs(path)
        with Store.open(path, types=TYPES.values()) as store:
            check_cache(store)
            check_released(store)
            assert [] == [name for name in path.glob("*.tmp") if not reached]
        if not reached:
            break
    assert number > 10


@pytest.mark.parametrize("error", DATABASE_FAULTS.values(), ids=DATABASE_FAULTS)
def test_every_database_call_of_an_open_fails_once(
    database: Database, template: Path, place: Path, error: Any
) -> None:
    """A failed open raises a typed error; the next one is complete."""
    for number in steps(MOST, repr(error())):
        path = copy(template, place)
        bring(path)
        if number % 2:
            (path / "taskstore.db").unlink()
        with failing_database(database, error, "early")(number) as reached:
            try:
                Store.open(path, types=TYPES.values()).close()
            except (TaskstoreError, KeyboardInterrupt):
                pass
        with Store.open(path, types=TYPES.values()) as store:
            check_cache(store)
            check_released(store)
        if not reached and number % 2:
            break


def test_a_cache_that_is_full_fails_cleanly(template: Path, place: Path) -> None:
    """A cache that SQLite cannot extend: nothing is kept; with space again all goes on."""
    path = copy(template, place)
    with Store.open(path, types=TYPES.values()) as store:
        before = logs(path)
        with store.engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            driver.execute(f"PRAGMA max_page_count = {pages(driver)}")
        with pytest.raises(TaskstoreError, match="full"):
            store.create_many([Plan(f"big{n}", "x" * 5000) for n in range(50)])
        assert before == logs(path)
        check_released(store)
        assert 2 == store.count(Plan)
        # The connection whose write has failed is closed, and its limit is gone with it.
        store.create_many([Plan(f"big{n}", "x" * 5000) for n in range(50)])
        assert 52 == len([key for key in served(store) if key[0] == "plans"])
        check_cache(store)


def pages(driver: Any) -> int:
    """How many pages a database has."""
    return int(driver.execute("PRAGMA page_count").fetchone()[0])
