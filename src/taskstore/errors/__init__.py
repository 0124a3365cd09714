"""Every error that Taskstore raises, under one base.

An error has its facts as attributes and can be pickled. Its message says what happened and what to
do next.
"""

from taskstore.errors._base import TaskstoreError
from taskstore.errors._databases import (
    LogPendingError,
    OutboxOwnerError,
    TriggersRequiredError,
    UnsupportedError,
)
from taskstore.errors._directory import (
    CacheError,
    ConfigError,
    LockTimeoutError,
    MigrationRequiredError,
    SchemaVersionError,
    StoreAccessError,
    StoreClosedError,
    StoreNotFoundError,
    StoreOwnerError,
    StoreReadOnlyError,
    StoreVersionError,
)
from taskstore.errors._git import (
    CommitNotFoundError,
    GitError,
    GitObjectMissingError,
    RevertConflictError,
)
from taskstore.errors._records import (
    ColumnSkippedWarning,
    ConditionFailedError,
    CursorError,
    EvolutionClashWarning,
    EvolutionSkippedWarning,
    InvalidDeclarationError,
    InvalidFilterError,
    InvalidIdError,
    InvalidNameError,
    InvalidRecordError,
    RecordExistsError,
    RecordNotFoundError,
    RecordSkippedWarning,
    StaleRecordError,
    UnknownFieldError,
    UnknownRevisionError,
)
from taskstore.errors._writing import (
    CommitUncertainError,
    LogWriteError,
    MissingLogError,
    RecoveryError,
    TransactionOpenError,
    UntrackedWriteError,
)

__all__ = [
    "CacheError",
    "ColumnSkippedWarning",
    "CommitNotFoundError",
    "CommitUncertainError",
    "ConditionFailedError",
    "ConfigError",
    "CursorError",
    "EvolutionClashWarning",
    "EvolutionSkippedWarning",
    "GitError",
    "GitObjectMissingError",
    "InvalidDeclarationError",
    "InvalidFilterError",
    "InvalidIdError",
    "InvalidNameError",
    "InvalidRecordError",
    "LockTimeoutError",
    "LogPendingError",
    "LogWriteError",
    "MigrationRequiredError",
    "MissingLogError",
    "OutboxOwnerError",
    "RecordExistsError",
    "RecordNotFoundError",
    "RecordSkippedWarning",
    "RecoveryError",
    "RevertConflictError",
    "SchemaVersionError",
    "StaleRecordError",
    "StoreAccessError",
    "StoreClosedError",
    "StoreNotFoundError",
    "StoreOwnerError",
    "StoreReadOnlyError",
    "StoreVersionError",
    "TaskstoreError",
    "TransactionOpenError",
    "TriggersRequiredError",
    "UnknownFieldError",
    "UnknownRevisionError",
    "UnsupportedError",
    "UntrackedWriteError",
]
