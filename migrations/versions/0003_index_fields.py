"""Which fields are indexed; read off the index rows that are there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    fields, indexes = _name("record_index_fields"), _name("record_indexes")
    op.create_table(
        fields,
        sa.Column("collection", sa.Text, primary_key=True),
        sa.Column("field_name", sa.Text, primary_key=True),
        sa.Column("field_type", sa.Text, nullable=False),
        sa.CheckConstraint("field_type IN ('string', 'int', 'bool')"),
    )
    op.execute(
        f"INSERT INTO {fields} (collection, field_name, field_type) "
        "SELECT collection, field_name, CASE WHEN count(field_value_str) > 0 THEN 'string' "
        "WHEN count(field_value_int) > 0 THEN 'int' ELSE 'bool' END "
        f"FROM {indexes} GROUP BY collection, field_name"
    )


def downgrade() -> None:
    op.drop_table(_name("record_index_fields"))


def _name(table: str) -> str:
    return f"{op.get_context().opts.get('taskstore_prefix', '')}{table}"
