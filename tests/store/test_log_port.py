"""What every way from a transaction into the log promises."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from sqlalchemy import create_engine

from taskstore import Store, TaskstoreError
from taskstore._log import files
from taskstore._unit.log_port import AppendBeforeCommit, LogPort, committing

LINES = {
    "plans": [b'{"id":"b","updated_at":2}', b'{"id":"a","updated_at":1}'],
    "notes": [b'{"id":"n","updated_at":3}'],
}
PORTS: list[Callable[[Any], LogPort]] = [AppendBeforeCommit]


@attrs.define
class Place:
    """A port, and a transaction that is to go through it.

    Attributes:
        port: The port.
        driver: In a transaction that has written a row.
        folder: Of the logs.
    """

    port: LogPort
    driver: sqlite3.Connection
    folder: Path

    def logged(self) -> dict[str, list[bytes]]:
        """The lines of all logs."""
        return {
            path.stem: path.read_bytes().splitlines()
            for path in sorted(self.folder.glob("*.jsonl"))
            if path.read_bytes()
        }

    def committed(self) -> bool:
        """Whether the row is there for others."""
        self.driver.rollback()
        return bool(self.driver.execute("SELECT count(*) FROM rows").fetchone() == (1,))


@pytest.fixture(params=PORTS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place with each port."""
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    with Store.open(tmp_path / ".taskstore", engine=engine, migrate=True) as store:
        connection = engine.raw_connection()
        driver: Any = connection.driver_connection
        driver.execute("CREATE TABLE rows (id)")
        driver.execute("INSERT INTO rows VALUES (1)")
        yield Place(request.param(store._context), driver, store.path)
        connection.close()
    engine.dispose()


def test_lines_and_transaction_go_together(place: Place) -> None:
    """All lines are in the logs in their order, the row is there, and each log is known."""
    known: dict[str, Any] = {}
    way = place.port.handover(LINES, place.driver, committing(place.driver), known)
    before = way.committed
    way.run()
    assert (False, True) == (before, way.committed)
    assert LINES == place.logged()
    assert LINES.keys() == known.keys()
    assert place.committed()


@pytest.mark.parametrize("error", [sqlite3.OperationalError("busy"), KeyboardInterrupt()])
def test_a_commit_that_fails_leaves_nothing(place: Place, error: BaseException) -> None:
    """Neither a line nor the row, and the caller sees the error itself."""

    def fail() -> None:
        raise error

    way = place.port.handover(LINES, place.driver, fail, {})
    with pytest.raises(type(error)) as caught:
        way.run()
    assert error is caught.value
    assert (False, {}, False) == (way.committed, place.logged(), place.committed())


def test_an_exception_after_the_commit_undoes_nothing(place: Place) -> None:
    """It comes out, and the transaction is known to be committed."""

    def commit() -> None:
        place.driver.commit()
        raise KeyboardInterrupt

    known: dict[str, Any] = {}
    way = place.port.handover(LINES, place.driver, commit, known)
    with pytest.raises(KeyboardInterrupt):
        way.run()
    assert (True, LINES, True) == (way.committed, place.logged(), place.committed())


def test_lines_that_cannot_be_written_leave_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of another collection either, and nothing is committed."""

    def full(*_: Any) -> None:
        raise OSError(28, "no space")

    with monkeypatch.context() as patched:
        patched.setattr(files, "sync", full)
        way = place.port.handover(LINES, place.driver, committing(place.driver), {})
        with pytest.raises(TaskstoreError):
            way.run()
    assert (False, {}, False) == (way.committed, place.logged(), place.committed())


def test_the_next_transaction_goes_through(place: Place) -> None:
    """A failure holds nothing that the next one needs."""
    test_a_commit_that_fails_leaves_nothing(place, sqlite3.OperationalError("busy"))
    place.driver.execute("INSERT INTO rows VALUES (1)")
    place.port.handover(LINES, place.driver, committing(place.driver), {}).run()
    assert (LINES, True) == (place.logged(), place.committed())
