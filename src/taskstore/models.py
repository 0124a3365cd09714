"""The declarative models of the cache, for your own queries and sessions.

The classes in this module belong to the cache file of a store. `build_models` maps them again for
an application's database, with a prefix for their tables or in its own registry. `RecordVersion`,
`RecordChange` and `RecordBlame` are for sessions of `Store.history_session`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskstore._cache.history.models import RecordBlame, RecordChange, RecordVersion
from taskstore._cache.schema.models import DEFAULT, Models, build_models

if TYPE_CHECKING:
    # The mapped class is a subclass; a type checker reads the columns from this class.
    from taskstore._cache.schema.models import (
        LogEvolution,
        MirrorKey,
        MirrorProblem,
        MirrorState,
        RecordIndex,
        RecordIndexField,
        StoredRecord,
        SyncMetadata,
        Tombstone,
    )
else:
    LogEvolution = DEFAULT.LogEvolution
    MirrorKey = DEFAULT.MirrorKey
    MirrorProblem = DEFAULT.MirrorProblem
    MirrorState = DEFAULT.MirrorState
    RecordIndex = DEFAULT.RecordIndex
    RecordIndexField = DEFAULT.RecordIndexField
    StoredRecord = DEFAULT.StoredRecord
    SyncMetadata = DEFAULT.SyncMetadata
    Tombstone = DEFAULT.Tombstone

__all__ = [
    "DEFAULT",
    "LogEvolution",
    "MirrorKey",
    "MirrorProblem",
    "MirrorState",
    "Models",
    "RecordBlame",
    "RecordChange",
    "RecordIndex",
    "RecordIndexField",
    "RecordVersion",
    "StoredRecord",
    "SyncMetadata",
    "Tombstone",
    "build_models",
]
