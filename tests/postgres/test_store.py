"""What a store on PostgreSQL is, what it refuses, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    URL,
    BigInteger,
    Engine,
    ForeignKey,
    Identity,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    text,
)
from sqlalchemy.dialects.postgresql import HSTORE
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from taskstore import Store, mirrored
from taskstore._api.postgres_calls import REFUSED
from taskstore.errors import (
    InvalidDeclarationError,
    MigrationRequiredError,
    StoreClosedError,
    TriggersRequiredError,
    UnsupportedError,
    UntrackedWriteError,
)
from tests.postgres.clones import Clone, cloned
from tests.postgres.models import MIRRORS, Base


def test_every_call_is_there_or_refused(one: Clone) -> None:
    """Each public call of a store works on PostgreSQL, or raises UnsupportedError."""
    names = {name for name in dir(Store) if not name.startswith("_")}
    kind = type(one.store)
    refused = {
        name
        for name in names
        if str(getattr(kind, name).__doc__).startswith("Raise UnsupportedError")
    }
    assert set(REFUSED) <= refused
    for name in refused:
        with pytest.raises(UnsupportedError) as caught:
            getattr(one.store, name)("tasks", "a")
        assert f"Store.{name}" == caught.value.operation
    assert isinstance(one.store, Store)
    assert "on PostgreSQL" in repr(one.store)


def test_a_read_only_store_needs_no_engine(engine: Engine, tmp_path: Path) -> None:
    """What a store on PostgreSQL cannot do is refused before anything is made."""
    with pytest.raises(UnsupportedError):
        Store.open(tmp_path / "store", engine=engine, read_only=True)
    assert not (tmp_path / "store").exists()


def test_another_driver_is_refused(tmp_path: Path) -> None:
    """The driver must be psycopg 3, and the message says so."""
    engine = create_engine("postgresql+pg8000://", module=_FakeDriver())
    with pytest.raises(UntrackedWriteError, match=r"taskstore\[postgresql\]"):
        Store.open(tmp_path / "store", engine=engine)


class _FakeDriver:
    __version__ = "1.30"
    paramstyle = "format"

    class dbapi:
        Error = Exception


def test_tables_and_triggers_are_left_to_the_application(
    new_database: Callable[[], URL], server_url: URL, tmp_path: Path
) -> None:
    """Without migrate=True a database that lacks the triggers is refused, and not changed."""
    engine = create_engine(new_database())
    Base.metadata.create_all(engine)
    with pytest.raises(TriggersRequiredError) as caught:
        Store.open(tmp_path / "one", engine=engine, mirrors=MIRRORS)
    assert {"labels", "labelled", "projects", "tasks", "things"} == set(caught.value.tables)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE taskstore_version"))
    with pytest.raises(MigrationRequiredError):
        Store.open(tmp_path / "one", engine=engine, mirrors=MIRRORS)
    engine.dispose()


def test_a_trigger_that_is_gone_or_disabled_is_missed(one: Clone) -> None:
    """At the next open, whoever has disabled or dropped a trigger meanwhile."""
    options: dict[str, Any] = {"engine": one.engine, "mirrors": MIRRORS}
    one.sql("ALTER TABLE tasks DISABLE TRIGGER taskstore_update")
    with pytest.raises(TriggersRequiredError, match="tasks"):
        Store.open(one.path, **options)
    one.sql(
        "ALTER TABLE tasks ENABLE TRIGGER taskstore_update",
        "DROP TRIGGER taskstore_truncate ON labels",
    )
    with pytest.raises(TriggersRequiredError, match="labels"):
        Store.open(one.path, **options)
    Store.open(one.path, **options, migrate=True).close()
    Store.open(one.path, **options).close()


def test_a_closed_store_leaves_the_engine_as_it_was(
    new_database: Callable[[], URL], tmp_path: Path
) -> None:
    """After close, commits do not wait, sessions have no listeners, and calls are refused."""
    engine = create_engine(new_database())
    Base.metadata.create_all(engine)
    commit = engine.dialect.do_commit
    store = Store.open(tmp_path / "one", engine=engine, mirrors=MIRRORS, migrate=True, ack="log")
    assert engine.dialect.do_commit != commit
    store.close()
    store.close()
    assert engine.dialect.do_commit == commit
    with pytest.raises(StoreClosedError):
        store.sync()
    # The triggers stay, and the next store logs what was written meanwhile.
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO tasks (id, title) VALUES ('a', '')"))
    with Store.open(tmp_path / "one", engine=engine, mirrors=MIRRORS):
        assert '"id":"a"' in (tmp_path / "one" / "tasks.jsonl").read_text()
    engine.dispose()


def test_close_drains(new_database: Callable[[], URL], tmp_path: Path) -> None:
    """What is committed before close is in the log after it."""
    with cloned(new_database(), tmp_path / "one") as one:
        one.sql("INSERT INTO tasks (id, title) VALUES ('a', '')")
    assert '"id":"a"' in (tmp_path / "one" / "tasks.jsonl").read_text()


class Other(DeclarativeBase):
    """Models that cannot be mirrored on PostgreSQL."""


@mirrored("keyed", key="uid", updated_at=None)
class Keyed(Other):
    """Rows refer to its number, and another column identifies it."""

    __tablename__ = "keyed"

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(unique=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("keyed.id"))


@mirrored("drawn", ids="random", updated_at=None)
class Drawn(Other):
    """Random numbers do not fit its key."""

    __tablename__ = "drawn"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)


@mirrored("narrow")
class Narrow(Other):
    """Its version does not hold milliseconds."""

    __tablename__ = "narrow"

    id: Mapped[str] = mapped_column(primary_key=True)
    updated_at: Mapped[int]


@mirrored("worded")
class Worded(Other):
    """Its version is a text."""

    __tablename__ = "worded"

    id: Mapped[str] = mapped_column(primary_key=True)
    updated_at: Mapped[str] = mapped_column(String(40))


@mirrored("labelled", updated_at=None)
class Labelled(Other):
    """Has a type that no line can carry."""

    __tablename__ = "labelled"

    id: Mapped[str] = mapped_column(primary_key=True)
    labels: Mapped[Any] = mapped_column(HSTORE)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Keyed, "key="),
        (Drawn, "BigInteger"),
        (Narrow, "BigInteger"),
        (Worded, "version"),
        (Labelled, "HSTORE"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_models_that_cannot_be_mirrored_are_refused(
    engine: Engine, tmp_path: Path, model: Any, words: str
) -> None:
    """Each is refused by name, with what to do, and nothing is made in the database."""
    with pytest.raises(InvalidDeclarationError, match=words):
        Store.open(tmp_path / "store", engine=engine, mirrors=[model], migrate=True)
    metadata = MetaData()
    metadata.reflect(engine)
    assert "taskstore_outbox" not in metadata.tables


def test_a_partitioned_table_is_refused(engine: Engine, tmp_path: Path) -> None:
    """Writes to a partition would not be seen."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE tasks (id varchar PRIMARY KEY, title text, rank integer, "
                "project_id varchar) PARTITION BY HASH (id)"
            )
        )
    Base.metadata.create_all(engine, tables=[t for t in _tables() if t.name != "tasks"])
    with pytest.raises(InvalidDeclarationError, match="partitioned"):
        Store.open(tmp_path / "store", engine=engine, mirrors=MIRRORS, migrate=True)


def _tables() -> Iterator[Table]:
    names = {"projects", "labels", "things"}
    return (table for table in Base.metadata.sorted_tables if table.name in names)


@mirrored("numbers", ids="random", updated_at=None)
class Numbered(Other):
    """Has random numbers, and refers to itself."""

    __tablename__ = "numbers"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("numbers.id", ondelete="CASCADE"))


@contextmanager
def _numbered(url: URL, path: Path) -> Iterator[Clone]:
    engine = create_engine(url)
    Other.metadata.create_all(engine, tables=[Other.metadata.tables["numbers"]])
    with cloned(url, path, [Numbered], Base) as clone:
        yield clone
    engine.dispose()


def test_a_table_that_refers_to_itself(new_database: Callable[[], URL], tmp_path: Path) -> None:
    """Cascades within a table are logged, also those that a sync sets off."""
    with _numbered(new_database(), tmp_path / "one") as one:
        one.sql(
            "INSERT INTO numbers (id, parent_id) OVERRIDING SYSTEM VALUE "
            "VALUES (1, NULL), (2, 1), (3, 2), (4, NULL)"
        )
        assert ["1", "2", "3", "4"] == [line["id"] for line in one.lines("numbers")]
        one.append("numbers", {"id": "1", "updated_at": 2**42, "deleted": True})
        one.append("numbers", {"id": "5", "parent_id": 4, "updated_at": 2**42})
        assert [] == one.store.sync().problems
        assert ["4", "5"] == sorted(one.told("numbers"))
        one.check()
