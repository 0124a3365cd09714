"""Application state as JSON Lines in git, queried with SQLAlchemy.

Declare your records with `record` and `indexed`, open a `Store`, and filter with `where`. The
models for your own sessions are in `taskstore.models`. The schema's revisions for your own Alembic
history are in `taskstore.migrations`. Importing this package changes no global state.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskstore._aio.blocks import AsyncTransaction
    from taskstore._aio.changes import AsyncConsumer
    from taskstore._aio.store import AsyncStore
    from taskstore._api.blame import FieldBlame
    from taskstore._api.changes import Consumer
    from taskstore._api.read_calls import Page
    from taskstore._api.revisions import RevisionSession
    from taskstore._api.store import Store
    from taskstore._api.upkeep_calls import CompactReport
    from taskstore._format.problems import Problem
    from taskstore._mirror.model.declare import mirrored
    from taskstore._mirror.model.declare_all import mirror_all
    from taskstore._query.conditions import Condition, Field, Filter, FilterOp, Order, where
    from taskstore._records.declare import evolve, indexed, make_converter, record
    from taskstore._records.evolutions import evolution
    from taskstore._records.ids import new_id, now_ms
    from taskstore._sync.inspection import Version
    from taskstore._sync.report import CollectionReport, SyncReport
    from taskstore._sync.verification import Difference, VerifyReport
    from taskstore._watch.follow import ChangeEvent
    from taskstore.errors import (
        BranchError,
        CacheError,
        ColumnSkippedWarning,
        CommitNotFoundError,
        CommitUncertainError,
        ConditionFailedError,
        ConfigError,
        CursorError,
        EvolutionClashWarning,
        EvolutionSkippedWarning,
        GitError,
        GitObjectMissingError,
        InvalidDeclarationError,
        InvalidFilterError,
        InvalidIdError,
        InvalidNameError,
        InvalidRecordError,
        LockTimeoutError,
        LogElsewhereError,
        LogPendingError,
        LogWriteError,
        MergeConflictError,
        MigrationRequiredError,
        MissingLogError,
        OutboxOwnerError,
        RecordExistsError,
        RecordNotFoundError,
        RecordSkippedWarning,
        RecoveryError,
        RevertConflictError,
        SchemaVersionError,
        StaleRecordError,
        StoreAccessError,
        StoreClosedError,
        StoreNotFoundError,
        StoreOwnerError,
        StoreReadOnlyError,
        StoreVersionError,
        TaskstoreError,
        TransactionOpenError,
        TriggersRequiredError,
        UnknownFieldError,
        UnknownRevisionError,
        UnsupportedError,
        UntrackedWriteError,
    )

__all__ = [
    "AsyncConsumer",
    "AsyncStore",
    "AsyncTransaction",
    "BranchError",
    "CacheError",
    "ChangeEvent",
    "CollectionReport",
    "ColumnSkippedWarning",
    "CommitNotFoundError",
    "CommitUncertainError",
    "CompactReport",
    "Condition",
    "ConditionFailedError",
    "ConfigError",
    "Consumer",
    "CursorError",
    "Difference",
    "EvolutionClashWarning",
    "EvolutionSkippedWarning",
    "Field",
    "FieldBlame",
    "Filter",
    "FilterOp",
    "GitError",
    "GitObjectMissingError",
    "InvalidDeclarationError",
    "InvalidFilterError",
    "InvalidIdError",
    "InvalidNameError",
    "InvalidRecordError",
    "LockTimeoutError",
    "LogElsewhereError",
    "LogPendingError",
    "LogWriteError",
    "MergeConflictError",
    "MigrationRequiredError",
    "MissingLogError",
    "Order",
    "OutboxOwnerError",
    "Page",
    "Problem",
    "RecordExistsError",
    "RecordNotFoundError",
    "RecordSkippedWarning",
    "RecoveryError",
    "RevertConflictError",
    "RevisionSession",
    "SchemaVersionError",
    "StaleRecordError",
    "Store",
    "StoreAccessError",
    "StoreClosedError",
    "StoreNotFoundError",
    "StoreOwnerError",
    "StoreReadOnlyError",
    "StoreVersionError",
    "SyncReport",
    "TaskstoreError",
    "TransactionOpenError",
    "TriggersRequiredError",
    "UnknownFieldError",
    "UnknownRevisionError",
    "UnsupportedError",
    "UntrackedWriteError",
    "VerifyReport",
    "Version",
    "evolution",
    "evolve",
    "indexed",
    "make_converter",
    "mirror_all",
    "mirrored",
    "new_id",
    "now_ms",
    "record",
    "where",
]

_HOMES = {
    "AsyncConsumer": "taskstore._aio.changes",
    "AsyncStore": "taskstore._aio.store",
    "AsyncTransaction": "taskstore._aio.blocks",
    "ChangeEvent": "taskstore._watch.follow",
    "CollectionReport": "taskstore._sync.report",
    "CompactReport": "taskstore._api.upkeep_calls",
    "Condition": "taskstore._query.conditions",
    "Consumer": "taskstore._api.changes",
    "Difference": "taskstore._sync.verification",
    "Field": "taskstore._query.conditions",
    "FieldBlame": "taskstore._api.blame",
    "Filter": "taskstore._query.conditions",
    "FilterOp": "taskstore._query.conditions",
    "Order": "taskstore._query.conditions",
    "Page": "taskstore._api.read_calls",
    "Problem": "taskstore._format.problems",
    "RevisionSession": "taskstore._api.revisions",
    "Store": "taskstore._api.store",
    "SyncReport": "taskstore._sync.report",
    "VerifyReport": "taskstore._sync.verification",
    "Version": "taskstore._sync.inspection",
    "evolution": "taskstore._records.evolutions",
    "evolve": "taskstore._records.declare",
    "indexed": "taskstore._records.declare",
    "make_converter": "taskstore._records.declare",
    "mirror_all": "taskstore._mirror.model.declare_all",
    "mirrored": "taskstore._mirror.model.declare",
    "new_id": "taskstore._records.ids",
    "now_ms": "taskstore._records.ids",
    "record": "taskstore._records.declare",
    "where": "taskstore._query.conditions",
}
"""The modules of the public names. All names that are not here are errors."""

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
