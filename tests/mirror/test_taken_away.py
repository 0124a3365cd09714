"""Applications that take away, in their tests, what a store needs: mappers or tables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import MetaData, inspect, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from taskstore import CacheError, Store, mirror_all
from tests.mirror.clones import Clone, cloned
from tests.mirror.models import MIRRORS


class Alone(DeclarativeBase):
    """A base of its own."""


class Item(Alone):
    """A row whose table refers to no other."""

    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


PROGRAM = """
import sys
from pathlib import Path
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine
from sqlalchemy.orm import Session, clear_mappers, registry
from taskstore import Store, mirror_all

things = Table(
    "things", MetaData(), Column("id", Integer, primary_key=True), Column("name", String)
)

class Thing:
    pass

for name in "abc":
    mappers = registry()
    mappers.map_imperatively(Thing, things)
    folder = Path(sys.argv[1], name)
    folder.mkdir()
    engine = create_engine(f"sqlite:///{folder}/app.db")
    things.create(engine)
    with Store.open(
        folder / ".taskstore", engine=engine, mirrors=mirror_all(mappers), migrate=True
    ) as store:
        with Session(engine) as session:
            store.attach(session)
            thing = Thing()
            thing.name = name
            session.add(thing)
            session.commit()
        clear_mappers()
        report = store.verify()
        print(report.records, [*report.differences, *report.problems])
    engine.dispose()

with Store.open(Path(sys.argv[1], "plain")) as store:
    store.create({"id": "a"}, collection="notes")
    print(store.list("notes")[0]["id"])
"""


def test_stores_that_open_after_mappers_were_cleared(tmp_path: Path) -> None:
    """`clear_mappers` unmaps our models as well, but stores that are open or open later work."""
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ("", ["{'things': 1} []"] * 3 + ["a"]) == (found.stderr, found.stdout.splitlines())


def test_tables_that_the_application_drops(one: Clone) -> None:
    """A store whose tables are gone says so, and not that the database may be deleted."""
    with one.engine.begin() as connection:
        for name in inspect(connection).get_table_names():
            if name in one.store.models.table_names or name == one.store.models.version_table:
                connection.execute(text(f'DROP TABLE "{name}"'))
    with pytest.raises(CacheError, match=r"app\.db: .*no such table.*open it again") as caught:
        one.store.list("tasks")
    assert caught.value.is_shared
    assert "delete the cache" not in str(caught.value)
    one.store.close()
    with Store.open(one.store.path, engine=one.engine, mirrors=MIRRORS, migrate=True) as store:
        assert [] == store.list("tasks")


def test_all_tables_that_a_database_has(tmp_path: Path) -> None:
    """An application may drop all tables in one transaction; the log keeps what they had."""
    mirrors = mirror_all(Alone)
    with cloned(tmp_path / "one", mirrors, Alone) as one:
        with one.sessions.begin() as session:
            session.add(Item(name="a"))
        tables = MetaData()
        with one.engine.begin() as connection:
            tables.reflect(connection)
            tables.drop_all(connection)
        assert [] == inspect(one.engine).get_table_names()
        one.store.close()
        Alone.metadata.create_all(one.engine)
        with (
            Store.open(one.store.path, engine=one.engine, mirrors=mirrors, migrate=True) as store,
            one.sessions() as session,
        ):
            assert ["a"] == [item.name for item in session.scalars(select(Item))]
            report = store.verify()
            assert ((), ()) == (report.differences, report.problems)
