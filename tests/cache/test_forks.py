"""A forked child and the SQLite connections of its parent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from taskstore._cache.engine.guard import GuardedConnection
from taskstore._cache.engine.sqlite import create_cache_engine
from taskstore.errors import TransactionOpenError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


@pytest.fixture
def file_engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_cache_engine(tmp_path / "cache.db")
    yield engine
    engine.dispose()


def _is_refused_in_child(engine: Engine) -> bool:
    """Fork a child, and return whether it is refused a connection."""
    child = os.fork()
    if child == 0:
        status = 0
        try:
            engine.raw_connection()
        except TransactionOpenError:
            status = 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_a_child_may_connect_after_a_connection_is_closed(file_engine: Engine) -> None:
    """Nothing in the child's copy of SQLite is locked."""
    file_engine.raw_connection().close()
    assert not _is_refused_in_child(file_engine)


def test_a_fork_while_a_connection_is_closing_is_noticed(file_engine: Engine) -> None:
    """SQLite holds locks until the end, and the child would wait for them forever."""
    connection = file_engine.raw_connection()
    driver: Any = connection.dbapi_connection
    refused: list[bool] = []
    driver.on_change = lambda: refused.append(_is_refused_in_child(file_engine))
    connection.detach()
    connection.close()
    assert [True] == refused


def test_a_fork_while_a_connection_is_set_up_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first statements already take locks."""
    refused: list[bool] = []
    engine = create_cache_engine(tmp_path / "cache.db")
    monkeypatch.setattr(
        GuardedConnection, "protect", lambda *_: refused.append(_is_refused_in_child(engine))
    )
    engine.raw_connection().close()
    engine.dispose()
    assert [True] == refused
