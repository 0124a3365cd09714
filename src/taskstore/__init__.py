"""Application state as JSON Lines in git, queried with SQLAlchemy.

Declare what you keep with `record` and `indexed`, open a `Store`, and ask with `where`. The models
for sessions of your own are in `taskstore.models`, the schema's revisions for your own Alembic
history in `taskstore.migrations`. Importing this package changes nothing anywhere.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskstore._aio.blocks import AsyncTransaction
    from taskstore._aio.store import AsyncStore
    from taskstore._format.problems import Problem
    from taskstore._mirror.declare import mirrored
    from taskstore._query.conditions import Condition, Field, Filter, FilterOp, Order, where
    from taskstore._records.declare import evolve, indexed, make_converter, record
    from taskstore._records.ids import new_id, now_ms
    from taskstore._store.inspection import Version
    from taskstore._store.read_calls import Page
    from taskstore._store.report import CollectionReport, SyncReport
    from taskstore._store.store import Store
    from taskstore._store.upkeep_calls import CompactReport
    from taskstore._store.verification import Difference, VerifyReport
    from taskstore.errors import (
        CacheError,
        CommitUncertainError,
        ConditionFailedError,
        ConfigError,
        GitError,
        InvalidDeclarationError,
        InvalidFilterError,
        InvalidIdError,
        InvalidNameError,
        InvalidRecordError,
        LockTimeoutError,
        LogWriteError,
        MigrationRequiredError,
        MissingLogError,
        RecordExistsError,
        RecordNotFoundError,
        RecordSkippedWarning,
        RecoveryError,
        SchemaVersionError,
        StaleRecordError,
        StoreAccessError,
        StoreClosedError,
        StoreNotFoundError,
        StoreReadOnlyError,
        StoreVersionError,
        TaskstoreError,
        TransactionOpenError,
        UnknownFieldError,
        UntrackedWriteError,
    )

__all__ = [
    "AsyncStore",
    "AsyncTransaction",
    "CacheError",
    "CollectionReport",
    "CommitUncertainError",
    "CompactReport",
    "Condition",
    "ConditionFailedError",
    "ConfigError",
    "Difference",
    "Field",
    "Filter",
    "FilterOp",
    "GitError",
    "InvalidDeclarationError",
    "InvalidFilterError",
    "InvalidIdError",
    "InvalidNameError",
    "InvalidRecordError",
    "LockTimeoutError",
    "LogWriteError",
    "MigrationRequiredError",
    "MissingLogError",
    "Order",
    "Page",
    "Problem",
    "RecordExistsError",
    "RecordNotFoundError",
    "RecordSkippedWarning",
    "RecoveryError",
    "SchemaVersionError",
    "StaleRecordError",
    "Store",
    "StoreAccessError",
    "StoreClosedError",
    "StoreNotFoundError",
    "StoreReadOnlyError",
    "StoreVersionError",
    "SyncReport",
    "TaskstoreError",
    "TransactionOpenError",
    "UnknownFieldError",
    "UntrackedWriteError",
    "VerifyReport",
    "Version",
    "evolve",
    "indexed",
    "make_converter",
    "mirrored",
    "new_id",
    "now_ms",
    "record",
    "where",
]

_HOMES = {
    "AsyncStore": "taskstore._aio.store",
    "AsyncTransaction": "taskstore._aio.blocks",
    "CollectionReport": "taskstore._store.report",
    "CompactReport": "taskstore._store.upkeep_calls",
    "Condition": "taskstore._query.conditions",
    "Difference": "taskstore._store.verification",
    "Field": "taskstore._query.conditions",
    "Filter": "taskstore._query.conditions",
    "FilterOp": "taskstore._query.conditions",
    "Order": "taskstore._query.conditions",
    "Page": "taskstore._store.read_calls",
    "Problem": "taskstore._format.problems",
    "Store": "taskstore._store.store",
    "SyncReport": "taskstore._store.report",
    "VerifyReport": "taskstore._store.verification",
    "Version": "taskstore._store.inspection",
    "evolve": "taskstore._records.declare",
    "indexed": "taskstore._records.declare",
    "make_converter": "taskstore._records.declare",
    "mirrored": "taskstore._mirror.declare",
    "new_id": "taskstore._records.ids",
    "now_ms": "taskstore._records.ids",
    "record": "taskstore._records.declare",
    "where": "taskstore._query.conditions",
}
"""The modules of the public names; all others are errors."""

if not TYPE_CHECKING:  # or type checkers would take every name for one of ours

    def __getattr__(name: str) -> object:
        # The command line and the hooks of git start often, and need little of all this.
        if name in __all__:
            home = import_module(_HOMES.get(name, "taskstore.errors"))
            value = globals()[name] = getattr(home, name)
            return value
        if name in ("errors", "migrations", "models"):
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
