"""A store on PostgreSQL without a directory, as application servers open it."""

from __future__ import annotations

import asyncio
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from taskstore import AsyncStore, Store
from taskstore.errors import (
    LogElsewhereError,
    MigrationRequiredError,
    StoreAccessError,
    StoreClosedError,
    TriggersRequiredError,
    UnsupportedError,
)
from tests.postgres.clones import Clone
from tests.postgres.models import MIRRORS, Base, Project, Task

NEEDS_THE_LOG = ("sync", "verify", "export", "compact", "history", "as_of", "is_stale", "blame")


def test_writes_reach_the_log_of_another_machine(one: Clone) -> None:
    """Sessions of such a store get stamps, refuse stale rows, and the scribe writes their lines."""
    with Store.open(None, engine=one.engine, mirrors=MIRRORS) as server:
        sessions = sessionmaker(server.engine)
        server.attach(sessions)
        with sessions() as session:
            project = Project(id="p", name="one")
            session.add(project)
            session.commit()
            assert 0 < project.updated_at
    assert "one" == one.told("projects")["p"]["name"]
    assert 0 == len(server._attached)


def test_a_server_needs_few_rights(one: Clone) -> None:
    """A role with the rights that the documentation names can read and write records."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "postgresql.md"
    text = page.read_text(encoding="utf-8")
    role = f"role_{one.engine.url.database}"
    grants = re.findall(r"^ *(GRANT .*) TO shop;$", text, re.MULTILINE)
    assert 3 == len(grants)
    one.sql(f"CREATE ROLE {role} LOGIN", *(f"{grant} TO {role}" for grant in grants))
    engine = create_engine(one.engine.url.set(username=role))
    try:
        with Store.open(None, engine=engine) as server:
            server.create("notes", {"id": "a"})
            server.delete("notes", "a")
            server.save("notes", {"id": "a", "body": "new"})
            assert "new" == server.patch("notes", "a")["body"]
            with pytest.raises(LogElsewhereError):
                server.sync()
    finally:
        engine.dispose()
        one.sql(f"DROP OWNED BY {role}", f"DROP ROLE {role}")
    assert ["a"] == list(one.told("notes"))


@pytest.mark.parametrize("call", NEEDS_THE_LOG)
def test_calls_that_need_the_log_say_where_it_is(one: Clone, call: str) -> None:
    """The error names the clone that writes the log, and survives pickle."""
    one.sql("INSERT INTO tasks (id, title) VALUES ('a', '')")
    one.work.drain()
    with Store.open(None, engine=one.engine, mirrors=MIRRORS) as server:
        with pytest.raises(LogElsewhereError, match="scribe") as caught:
            getattr(server, call)()
        assert f"Store.{call}" == caught.value.operation
        assert str(caught.value.place).endswith(str(one.path))
        assert str(caught.value) == str(pickle.loads(pickle.dumps(caught.value)))
        with pytest.raises(LogElsewhereError):
            print(server.path)
        assert "without a directory" in repr(server)
    with pytest.raises(StoreClosedError):
        getattr(server, call)()


@pytest.mark.parametrize("url", [None, "sqlite://"])
def test_a_store_on_sqlite_needs_a_directory(url: str | None) -> None:
    """Without an engine, or with one for SQLite, the error says what to give."""
    engine = None if url is None else create_engine(url)
    with pytest.raises(StoreAccessError, match="give the path"):
        Store.open(None, engine=engine)


@pytest.mark.parametrize("options", [{"read_only": True}, {"ack": "log"}])
def test_options_that_need_the_log_are_refused(engine: Engine, options: Any) -> None:
    """They raise before anything is created."""
    with pytest.raises(UnsupportedError):
        Store.open(None, engine=engine, **options)


def test_the_database_must_be_prepared(engine: Engine) -> None:
    """Triggers and outbox are required; migrate=True creates them."""
    Base.metadata.create_all(engine)
    with pytest.raises(TriggersRequiredError):
        Store.open(None, engine=engine, mirrors=MIRRORS)
    with pytest.raises(MigrationRequiredError, match=r"capture\(op, mirrors\)"):
        Store.open(None, engine=engine)
    with Store.open(None, engine=engine, mirrors=MIRRORS, migrate=True) as server:
        with pytest.raises(LogElsewhereError, match="nobody has written it yet") as caught:
            server.sync()
        assert caught.value.place is None


def test_an_asyncio_store_may_have_no_directory(one: Clone) -> None:
    """AsyncStore.open takes None, also with an asyncio engine, and can write records."""

    async def main() -> None:
        engine = create_async_engine(one.engine.url)
        async with AsyncStore.open(None, engine=engine, mirrors=MIRRORS) as server:
            with pytest.raises(LogElsewhereError):
                await server.sync()
            async with server.transaction():
                await server.create("notes", {"id": "a"})
            assert "a" == (await server.get_one("notes", "a"))["id"]
        await engine.dispose()

    asyncio.run(main())
    assert ["a"] == list(one.told("notes"))
    with Session(one.engine) as session:
        assert [] == session.scalars(select(Task)).all()
