"""An engine of an application is followed by one store for each table, whoever comes and goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import sessionmaker

from taskstore import Store, UntrackedWriteError, where
from taskstore.models import StoredRecord, build_models

pytestmark = pytest.mark.public


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """The engine of an application."""
    return create_engine(f"sqlite:///{tmp_path / 'app.db'}")


def test_a_second_store_is_refused(tmp_path: Path, engine: Engine) -> None:
    """While a store is open, no other gets its engine, and it goes on as if nobody had tried."""
    path = tmp_path / ".taskstore"
    with Store.open(path, engine=engine, migrate=True) as store:
        sessions = sessionmaker(engine)
        store.attach(sessions)
        with pytest.raises(UntrackedWriteError, match="a second store on Engine.*close it first"):
            Store.open(path, engine=engine)
        with pytest.raises(UntrackedWriteError, match="where that of '.*taskstore' is open"):
            Store.open(tmp_path / "other", engine=engine)
        with sessions.begin() as session:
            session.add(StoredRecord(collection="notes", id="1", data_json='{"id":"1"}'))
        store.create({"id": "2"}, collection="notes")
        log = (path / "notes.jsonl").read_text("utf-8")
        assert 2 == log.count("\n")
    with Store.open(path, engine=engine) as store:
        assert {"1", "2"} == {row["id"] for row in store.list("notes")}


@pytest.mark.parametrize("first", [0, 1])
def test_stores_with_tables_of_their_own(tmp_path: Path, engine: Engine, first: int) -> None:
    """Two stores in one database write their logs, in whatever order they are closed."""
    one = Store.open(tmp_path / "one", engine=engine, migrate=True)
    two = Store.open(
        tmp_path / "two", engine=engine, migrate=True, models=build_models(prefix="two_")
    )
    stores = [one, two]
    for store in stores:
        store.create({"id": "1"}, collection="notes")
    stores.pop(first).close()
    [last] = stores
    last.create({"id": "2"}, collection="notes")
    assert 2 == (last.path / "notes.jsonl").read_text("utf-8").count("\n")
    assert () == last.verify().differences
    last.close()
    with Store.open(tmp_path / "one", engine=engine) as again:
        again.create({"id": "3"}, collection="notes")
        assert 2 + first == (again.path / "notes.jsonl").read_text("utf-8").count("\n")


def test_an_application_s_engine_learns_what_filters_need(tmp_path: Path) -> None:
    """Orders and filters on a field without an index work on every connection of the engine."""
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    with engine.connect() as early:
        for _ in range(2):
            with Store.open(tmp_path / "store", engine=engine, migrate=True) as store:
                store.save_many([{"id": f"r{n}", "n": -n} for n in range(3)], collection="rows")
                found = store.list("rows", where("n") < 0, order_by="n")
                assert ["r2", "r1"] == [row["id"] for row in found]
                sql = """SELECT taskstore_value('{"id":"a","n":1}', 'n', 'plain', NULL)"""
                assert 1 == early.exec_driver_sql(sql).scalar()
                early.rollback()
    engine.dispose()
