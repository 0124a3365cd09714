"""A clone of an application on PostgreSQL: its database, its store, its sessions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.orm import Session, sessionmaker

from taskstore import Store
from taskstore._postgres.work import Work
from tests.postgres.models import MIRRORS, Base
from tests.store.reader import replay


@attrs.define
class Clone:
    """One clone.

    Attributes:
        path: The store directory.
        engine: The application's.
        store: Open on it.
        sessions: Attached.
    """

    path: Path
    engine: Engine
    store: Store
    sessions: sessionmaker[Session]

    @property
    def work(self) -> Work:
        """What the store does under the log lock."""
        work: Work = getattr(self.store, "_work")  # noqa: B009 - of the calls on PostgreSQL
        return work

    def sql(self, *statements: str) -> None:
        """Run statements in one transaction, each as a client would that knows nothing of us."""
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))

    def lines(self, collection: str) -> list[dict[str, Any]]:
        """All lines of a log, once what is committed is in it."""
        self.work.drain()
        path = self.path / f"{collection}.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def told(self, collection: str) -> dict[str, dict[str, Any]]:
        """The live records of a log, by an independent reader."""
        self.work.drain()
        path = self.path / f"{collection}.jsonl"
        data = path.read_bytes() if path.exists() else b""
        return {id: line.record for id, line in replay(data).items() if not line.deleted}

    def append(self, collection: str, *lines: Any) -> None:
        """Append lines as another program would."""
        with (self.path / f"{collection}.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    def check(self) -> None:
        """Tables and logs say the same."""
        report = self.store.verify()
        assert () == report.differences
        assert () == report.problems


@contextmanager
def cloned(
    url: URL, path: Path, mirrors: Sequence[Any] = MIRRORS, base: Any = Base, **options: Any
) -> Iterator[Clone]:
    """A clone whose database has our tables already."""
    engine = create_engine(url)
    base.metadata.create_all(engine)
    options = {"migrate": True, "lock_timeout": 10.0, **options}
    try:
        with Store.open(path, engine=engine, mirrors=mirrors, **options) as store:
            sessions = sessionmaker(engine)
            store.attach(sessions)
            yield Clone(path, engine, store, sessions)
    finally:
        engine.dispose()
