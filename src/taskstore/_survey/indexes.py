"""Which fields a store indexes, and who asked for that."""

from __future__ import annotations

import attrs

from taskstore._store.store import Store

__all__ = ["Index", "indexes"]

_INDEXES = """
    SELECT fields.collection, field_name, field_type, (
        SELECT count(*) FROM record_indexes AS rows
        WHERE rows.collection = fields.collection AND rows.field_name = fields.field_name
    )
    FROM record_index_fields AS fields ORDER BY 1, 2
"""


@attrs.frozen
class Index:
    """An indexed field.

    Attributes:
        collection: its collection.
        field: its name.
        type: the type that a record class gives it; "any" where the settings name it.
        source: "config.toml" or "record type".
        records: how many records have a value in it.
    """

    collection: str
    field: str
    type: str
    source: str
    records: int


def indexes(store: Store) -> list[Index]:
    """Return the indexed fields of a store, by collection and name."""
    with store.session(read_only=True) as session:
        rows = session.connection().exec_driver_sql(_INDEXES).all()
    return [
        Index(collection, field, type, "config.toml" if type == "any" else "record type", count)
        for collection, field, type, count in rows
    ]
