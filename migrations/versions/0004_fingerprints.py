"""Order in microseconds, tombstones, fingerprints, more types of values, and faster tables.

The tables are made anew and filled from the old ones: SQLite cannot change a primary key or
WITHOUT ROWID in place. The old ones are renamed first, and children dropped before parents, for
dropping a parent would cascade into the copies. Fingerprints stay empty, so that the next sync
reads every log and fills in what the old layout could not hold.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TABLES = ("records", "record_indexes", "record_index_fields", "sync_metadata")
_OLD_INDEXES = {
    "records": ("collection", "updated_at"),
    "record_indexes": ("field_str", "field_int", "field_bool"),
}


def upgrade() -> None:
    for table, endings in _OLD_INDEXES.items():
        for ending in endings:
            op.drop_index(f"idx_{_name(table)}_{ending}", _name(table), if_exists=True)
    _set_aside()
    _create_tables()
    _copy("records", "collection, id, data_json, updated_at", updated_at_us="updated_at * 1000")
    _copy("record_indexes", f"{_INDEX_KEY}, {_INDEX_VALUES}", where=_has_record())
    _copy("record_index_fields", "collection, field_name, field_type")
    _copy("sync_metadata", "collection, last_sync_time, file_mtime")
    _drop_old()
    _create_indexes()


def downgrade() -> None:
    prefix = _prefix()
    op.drop_index(f"ix_{prefix}records_order", _name("records"))
    for kind in ("bool", "int", "real", "str"):
        op.drop_index(f"ix_{prefix}record_indexes_{kind}", _name("record_indexes"))
    op.drop_table(_name("tombstones"))
    _set_aside()
    _create_old_tables()
    _copy("records", "collection, id, data_json, updated_at")
    # The older layout has neither reals nor datetimes; dates and UUIDs are strings to it.
    _copy("record_indexes", f"{_INDEX_KEY}, {_INDEX_VALUES}", where=_older_value())
    _copy(
        "record_index_fields",
        "collection, field_name",
        where="field_type NOT IN ('float', 'datetime', 'any')",
        field_type="CASE WHEN field_type IN ('int', 'bool') THEN field_type ELSE 'string' END",
    )
    _copy("sync_metadata", "collection, last_sync_time, file_mtime")
    _drop_old()
    _create_old_indexes()


_INDEX_KEY = "collection, id, field_name"
_INDEX_VALUES = "field_value_str, field_value_int, field_value_bool"


def _create_tables() -> None:
    _create_records(sa.Column("updated_at_us", sa.BigInteger, nullable=False))
    _create_record_indexes(
        sa.Column("field_value_bool", sa.Boolean), sa.Column("field_value_real", sa.Double)
    )
    op.create_table(
        _name("record_index_fields"),
        *_key("collection", "field_name"),
        sa.Column("field_type", sa.Text, nullable=False),
        sa.Column("default_json", sa.Text),
        sqlite_with_rowid=False,
    )
    op.create_table(
        _name("sync_metadata"),
        *_key("collection"),
        sa.Column("last_sync_time", sa.BigInteger, nullable=False),
        sa.Column("file_mtime", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger),
        sa.Column("mtime_ns", sa.BigInteger),
        sa.Column("ctime_ns", sa.BigInteger),
        sa.Column("inode", sa.BigInteger),
        sa.Column("checksum", sa.BigInteger),
        sa.Column("lines", sa.BigInteger),
        sa.Column("problems", sa.Integer),
        sa.Column("ended", sa.Boolean),
        sa.Column("racy", sa.Boolean),
        sqlite_with_rowid=False,
    )
    op.create_table(
        _name("tombstones"),
        *_key("collection", "id"),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at_us", sa.BigInteger, nullable=False),
        sa.Column("updated_at_text", sa.Text),
        sqlite_with_rowid=False,
    )


def _create_indexes() -> None:
    prefix = _prefix()
    op.create_index(
        f"ix_{prefix}records_order",
        _name("records"),
        ["collection", sa.text("updated_at_us DESC"), "id"],
    )
    for kind in ("bool", "int", "real", "str"):
        column = f"field_value_{kind}"
        op.create_index(
            f"ix_{prefix}record_indexes_{kind}",
            _name("record_indexes"),
            ["collection", "field_name", column, "id"],
            sqlite_where=sa.text(f"{column} IS NOT NULL"),
        )


def _create_old_tables() -> None:
    _create_records(with_rowid=True)
    _create_record_indexes(sa.Column("field_value_bool", _boolean()), with_rowid=True)
    op.create_table(
        _name("record_index_fields"),
        *_key("collection", "field_name"),
        sa.Column("field_type", sa.Text, nullable=False),
        sa.CheckConstraint("field_type IN ('string', 'int', 'bool')"),
    )
    op.create_table(
        _name("sync_metadata"),
        *_key("collection"),
        sa.Column("last_sync_time", sa.BigInteger, nullable=False),
        sa.Column("file_mtime", sa.BigInteger, nullable=False),
    )


def _create_old_indexes() -> None:
    columns = {
        "collection": ["collection"],
        "updated_at": ["collection", "updated_at"],
        "field_str": ["collection", "field_name", "field_value_str"],
        "field_int": ["collection", "field_name", "field_value_int"],
        "field_bool": ["collection", "field_name", "field_value_bool"],
    }
    for table, endings in _OLD_INDEXES.items():
        for ending in endings:
            op.create_index(f"idx_{_name(table)}_{ending}", _name(table), columns[ending])


def _create_records(*more: sa.Column[int], with_rowid: bool = False) -> None:
    op.create_table(
        _name("records"),
        *_key("collection", "id"),
        sa.Column("data_json", sa.Text, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        *more,
        sqlite_with_rowid=with_rowid,
    )


def _create_record_indexes(*values: sa.Column[object], with_rowid: bool = False) -> None:
    records = _name("records")
    op.create_table(
        _name("record_indexes"),
        *_key("collection", "id", "field_name"),
        sa.Column("field_value_str", sa.Text),
        sa.Column("field_value_int", sa.BigInteger),
        *values,
        sa.ForeignKeyConstraint(
            ["collection", "id"], [f"{records}.collection", f"{records}.id"], ondelete="CASCADE"
        ),
        sqlite_with_rowid=with_rowid,
    )


def _key(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, primary_key=True) for name in names]


def _set_aside() -> None:
    for table in _TABLES:
        op.rename_table(_name(table), _old(table))


def _drop_old() -> None:
    for table in reversed(_TABLES):
        op.drop_table(_old(table))


def _copy(table: str, columns: str, where: str = "", **computed: str) -> None:
    target = ", ".join([columns, *computed])
    source = ", ".join([columns, *computed.values()])
    # In the order of the key, which is how a table without rowids wants to be filled.
    keys = ", ".join(name for name in columns.split(", ") if name in _INDEX_KEY.split(", "))
    op.execute(
        f"INSERT INTO {_name(table)} ({target}) SELECT {source} FROM {_old(table)}"
        f"{' WHERE ' + where if where else ''} ORDER BY {keys}"
    )


def _has_record() -> str:
    # Other programs may not have enforced the foreign key.
    table, records = _old("record_indexes"), _old("records")
    return (
        f"EXISTS (SELECT 1 FROM {records} WHERE {records}.collection = {table}.collection "
        f"AND {records}.id = {table}.id)"
    )


def _older_value() -> str:
    table, fields = _old("record_indexes"), _old("record_index_fields")
    return (
        "(field_value_str IS NOT NULL OR field_value_int IS NOT NULL "
        "OR field_value_bool IS NOT NULL) "
        f"AND NOT EXISTS (SELECT 1 FROM {fields} WHERE {fields}.collection = {table}.collection "
        f"AND {fields}.field_name = {table}.field_name "
        f"AND {fields}.field_type IN ('float', 'datetime', 'any'))"
    )


def _old(table: str) -> str:
    return _name(f"old_{table}")


def _prefix() -> str:
    return str(op.get_context().opts.get("taskstore_prefix", ""))


def _name(table: str) -> str:
    return f"{_prefix()}{table}"


def _boolean() -> sa.Integer:
    # PostgreSQL does not copy integers into the booleans of later layouts.
    return sa.Integer().with_variant(sa.Boolean(), "postgresql")
