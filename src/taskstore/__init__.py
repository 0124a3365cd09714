"""Application state as JSON Lines in git, queried with SQLAlchemy.

Declare what you keep with `record` and `indexed`, open a `Store`, and ask with `where`. The models
for sessions of your own are in `taskstore.models`, the schema's revisions for your own Alembic
history in `taskstore.migrations`. Importing this package changes nothing anywhere.
"""

from taskstore._format.problems import Problem
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
    InvalidDeclarationError,
    InvalidFilterError,
    InvalidIdError,
    InvalidNameError,
    InvalidRecordError,
    LockTimeoutError,
    LogWriteError,
    MigrationRequiredError,
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
    "CacheError",
    "CollectionReport",
    "CommitUncertainError",
    "CompactReport",
    "Condition",
    "ConditionFailedError",
    "Difference",
    "Field",
    "Filter",
    "FilterOp",
    "InvalidDeclarationError",
    "InvalidFilterError",
    "InvalidIdError",
    "InvalidNameError",
    "InvalidRecordError",
    "LockTimeoutError",
    "LogWriteError",
    "MigrationRequiredError",
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
    "new_id",
    "now_ms",
    "record",
    "where",
]
