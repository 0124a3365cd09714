"""A database that has lost its last transactions is brought forward from the log."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine
from sqlalchemy.pool import NullPool

from tests.postgres.repositories import Site, new_remote, new_site, soon


@pytest.fixture
def site(new_database: Callable[[], URL], tmp_path: Path) -> Site:
    """A clone with a database that has two tasks, and a log with both."""
    made = new_site(new_remote(tmp_path / "remote.git"), tmp_path / "site", new_database())
    made.put_task("a", "first")
    made.put_task("gone", "first")
    made.scribe()
    return made


class Copy:
    """The files of a site's database as they are now."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._name = f"{site.url.database}_copy"
        self._run(f"CREATE DATABASE {self._name} TEMPLATE {site.url.database}")

    def restore(self) -> None:
        """Put them in the place of those that are there, whoever uses them."""
        name = self._site.url.database
        self._run(
            f"DROP DATABASE {name} WITH (FORCE)", f"ALTER DATABASE {self._name} RENAME TO {name}"
        )

    def _run(self, *statements: str) -> None:
        url = self._site.url.set(database="postgres")
        engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            for sql in statements:
                connection.exec_driver_sql(sql)


def _log(site: Site) -> bytes:
    return (site.directory / "tasks.jsonl").read_bytes()


def test_what_a_restored_database_lacks_comes_from_the_log(site: Site) -> None:
    """Rows that were added, changed or deleted after the copy are so again; the log stays."""
    copy = Copy(site)
    site.put_task("a", "second")
    site.put_task("b", "second")
    site.sql("DELETE FROM tasks WHERE id = 'gone'")
    site.scribe()
    log = _log(site)
    copy.restore()
    assert {"a": "first", "gone": "first"} == site.rows()
    site.scribe()
    assert {"a": "second", "b": "second"} == site.rows()
    assert log == _log(site)


def test_an_outbox_that_comes_back_is_not_written_twice(site: Site) -> None:
    """Rows that waited when the copy was made, and are in the log since, add no line."""
    site.put_task("a", "waited")
    site.put_task("b", "waited")
    copy = Copy(site)
    site.scribe()
    site.put_task("b", "later")
    site.scribe()
    log = _log(site)
    copy.restore()
    site.scribe()
    assert log == _log(site)
    assert {"a": "waited", "b": "later", "gone": "first"} == site.rows()


def test_applications_may_write_before_the_scribe_comes(site: Site) -> None:
    """What is written to the restored database is newer than the log, which gives the rest."""
    copy = Copy(site)
    for id in "abc":
        site.put_task(id, "lost")
    site.scribe()
    lines = _log(site).splitlines()
    copy.restore()
    site.put_task("a", "after")
    site.put_task("b", "after")
    site.scribe()
    assert {"a": "after", "b": "after", "c": "lost", "gone": "first"} == site.rows()
    assert lines == _log(site).splitlines()[: len(lines)]
    assert len(lines) + 2 == len(_log(site).splitlines())


def test_a_scribe_goes_on_after_a_failover_that_lost_commits(site: Site) -> None:
    """A running scribe brings the new server forward, and then writes what is new there."""
    copy = Copy(site)
    with site.running() as process:
        site.put_task("b", "lost")
        soon(lambda: b'"b"' in _log(site))
        log = _log(site)
        copy.restore()
        soon(lambda: "b" in site.rows())
        assert log == _log(site)
        site.put_task("c", "after")
        soon(lambda: b'"c"' in _log(site))
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
        assert 0 == process.returncode, told
    assert {"a": "first", "b": "lost", "c": "after", "gone": "first"} == site.rows()


def test_a_clone_that_takes_over_has_what_was_not_pushed(site: Site, tmp_path: Path) -> None:
    """Records that only the clone before had in its log keep their rows, and get their lines."""
    site.git("add", ".taskstore")
    site.git("commit", "-qm", "Add a store")
    site.git("push", "-q")
    site.put_task("b", "not pushed")
    site.put_task("a", "not pushed")
    site.sql("DELETE FROM tasks WHERE id = 'gone'")
    site.scribe()
    log = _log(site)
    site.git("clone", "-q", str(tmp_path / "remote.git"), str(tmp_path / "other"))
    other = Site(tmp_path / "other", url=site.url)
    assert str(site.directory) in other.scribe(status=3).output
    done = other.scribe("--take-over")
    assert "tasks: 3 lines" in done.output
    assert {"a": "not pushed", "b": "not pushed"} == other.rows()
    assert sorted(log.splitlines()) == sorted(_log(other).splitlines())
    assert str(other.directory) in site.scribe(status=3).output
    assert log == _log(site)
