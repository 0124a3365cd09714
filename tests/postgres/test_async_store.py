"""What an asyncio store does on PostgreSQL."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from taskstore import AsyncStore
from tests.postgres.models import MIRRORS, Base, Task


def test_an_asyncio_store_waits_for_the_log(engine: Engine, tmp_path: Path) -> None:
    """With `ack="log"` a commit on a synchronous engine is in the log, and the store agrees."""
    Base.metadata.create_all(engine)
    path = tmp_path / ".taskstore"

    async def main() -> None:
        async with AsyncStore.open(
            path, engine=engine, mirrors=MIRRORS, migrate=True, ack="log"
        ) as store:
            with Session(engine) as session:
                session.add(Task(id="ada"))
                await asyncio.to_thread(session.commit)
            assert '"ada"' in (path / "tasks.jsonl").read_text(encoding="utf-8")
            report = await store.verify()
            assert () == report.differences

    asyncio.run(main())
