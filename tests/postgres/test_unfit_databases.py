"""Databases and tables that a store refuses, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, Connection, Engine, create_engine

from taskstore import Store
from taskstore.errors import InvalidDeclarationError, UnsupportedError
from tests.postgres.models import MIRRORS, Base


@pytest.fixture
def administrator(server_url: URL) -> Iterator[Connection]:
    """A connection that may create databases and roles."""
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_another_encoding(administrator: Connection, server_url: URL, tmp_path: Path) -> None:
    """A database that cannot hold every text is refused, and gets no tables."""
    name = "taskstore_latin"
    options = "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    for sql in (f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name} {options}"):
        administrator.exec_driver_sql(sql)
    engine = create_engine(server_url.set(database=name))
    try:
        with pytest.raises(UnsupportedError, match="ENCODING 'UTF8'"):
            Store.open(tmp_path / "store", engine=engine, migrate=True)
        with engine.connect() as connection:
            sql = "SELECT count(*) FROM pg_catalog.pg_tables WHERE schemaname = 'public'"
            assert 0 == connection.exec_driver_sql(sql).scalar_one()
    finally:
        engine.dispose()
        administrator.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_table_with_rules(engine: Engine, tmp_path: Path) -> None:
    """A rule that does something else would hide what a sync has not written."""
    Base.metadata.create_all(engine)
    table = MIRRORS[0].__tablename__
    with engine.begin() as connection:
        sql = f"CREATE RULE keep AS ON DELETE TO {table} DO INSTEAD NOTHING"
        connection.exec_driver_sql(sql)
    with pytest.raises(InvalidDeclarationError, match="INSTEAD rules"):
        Store.open(tmp_path / "store", engine=engine, mirrors=MIRRORS, migrate=True)


def test_hidden_rows(
    administrator: Connection, new_database: Callable[[], URL], tmp_path: Path
) -> None:
    """A role that does not see all rows cannot log them; an application server may have it."""
    url, role = new_database(), "taskstore_tenant"
    owner = create_engine(url)
    tenant = create_engine(url, connect_args={"options": f"-crole={role}"})
    Base.metadata.create_all(owner)
    table = MIRRORS[0].__tablename__
    for sql in (f"DROP ROLE IF EXISTS {role}", f"CREATE ROLE {role}"):
        administrator.exec_driver_sql(sql)
    try:
        with Store.open(tmp_path / "store", engine=owner, mirrors=MIRRORS, migrate=True):
            pass
        with owner.begin() as connection:
            for sql in (
                f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
                f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            ):
                connection.exec_driver_sql(sql)
        with pytest.raises(InvalidDeclarationError, match="BYPASSRLS"):
            Store.open(tmp_path / "store", engine=tenant, mirrors=MIRRORS)
        with Store.open(None, engine=tenant, mirrors=MIRRORS):
            pass
    finally:
        tenant.dispose()
        with owner.begin() as connection:
            connection.exec_driver_sql(f"DROP OWNED BY {role}")
        owner.dispose()
        administrator.exec_driver_sql(f"DROP ROLE {role}")
