"""The names of the cache's tables and of its schema's revisions.

They are needed where a cache is read without SQLAlchemy.
"""

from __future__ import annotations

from functools import lru_cache

import attrs

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009")
"""The revisions of the schema, oldest first."""

HEAD = REVISIONS[-1]

TABLES = (
    "records",
    "record_indexes",
    "record_index_fields",
    "sync_metadata",
    "tombstones",
    "mirror_problems",
    "mirror_states",
    "mirror_keys",
    "log_evolutions",
)
"""The tables, without a prefix."""

MIGRATED = "migrated"
"""The state of a mirrored table that migrations may have written, and that nothing has logged."""

BEHIND = "migrated, behind"
"""The same, but before the migrations the table lacked rows that its log had."""

CREATED = "migrated, created"
"""The same, but before the migrations the table had no rows."""

WRITTEN = (MIGRATED, BEHIND, CREATED)


@attrs.frozen(eq=False)
class TableNames:
    """The names of the tables of one cache.

    Attributes:
        prefix: What the names of its tables, indexes and version table begin with.
    """

    prefix: str = attrs.field(default="", kw_only=True)

    @property
    def record_table(self) -> str:
        """The name of the table of records."""
        return f"{self.prefix}records"

    @property
    def index_table(self) -> str:
        """The name of the table of index values."""
        return f"{self.prefix}record_indexes"

    @property
    def derived_tables(self) -> tuple[str, ...]:
        """The names of the tables that the store alone writes."""
        derived = [name for name in self.table_names if name != self.record_table]
        return (*derived, self.version_table)

    @property
    def table_names(self) -> tuple[str, ...]:
        """The names of the tables."""
        return _with_prefix(self.prefix)

    @property
    def version_table(self) -> str:
        """The name of the table that holds the schema's revision."""
        return f"{self.prefix}taskstore_version"


@lru_cache(maxsize=64)
def _with_prefix(prefix: str) -> tuple[str, ...]:
    return tuple(prefix + name for name in TABLES)


@lru_cache(maxsize=64)
def quoted_names(prefix: str) -> tuple[str, ...]:
    """Return the names of the tables with a prefix, as SQL has them."""
    return tuple(map(quoted, _with_prefix(prefix)))


@lru_cache(maxsize=256)
def quoted(name: str) -> str:
    """Return a name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'
