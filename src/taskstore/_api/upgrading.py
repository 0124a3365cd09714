"""Logs what an application's migrations have written to mirrored tables."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from sqlalchemy.engine import Engine

from taskstore._api.store import Store
from taskstore._cache.schema.models import Models
from taskstore._mirror.model.registry import registry
from taskstore._store.context import StoreContext


class _UpgradedStore(Store):
    """A store on tables that migrations have just written."""

    def __init__(self, context: StoreContext) -> None:
        context.rows_count = True
        super().__init__(context)


def log_upgrade(
    path: str | os.PathLike[str], engine: Engine, mirrors: Iterable[Any], models: Models
) -> int:
    """Log the rows that migrations have written, after their commit; return how many lines.

    A row that differs from a line which has come since the table was last synced gives way.

    Raises:
        TaskstoreError: As for `Store.open` and `Store.export`.
    """
    with _UpgradedStore.open(path, engine=engine, mirrors=mirrors, models=models) as store:
        store._refresher.sync(())
        targets = [mirror.target for mirror in registry(store._context)]
        return sum(store.export(target) for target in targets)
