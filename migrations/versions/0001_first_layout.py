"""The first layout: records and their index values.

It knew neither when a log was read (0002) nor which fields are indexed (0003).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    records, indexes = _name("records"), _name("record_indexes")
    op.create_table(
        records,
        sa.Column("collection", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("data_json", sa.Text, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
    )
    op.create_index(f"idx_{records}_collection", records, ["collection"])
    op.create_index(f"idx_{records}_updated_at", records, ["collection", "updated_at"])
    op.create_table(
        indexes,
        sa.Column("collection", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("field_name", sa.Text, primary_key=True),
        sa.Column("field_value_str", sa.Text),
        sa.Column("field_value_int", sa.BigInteger),
        sa.Column("field_value_bool", _boolean()),
        sa.ForeignKeyConstraint(
            ["collection", "id"], [f"{records}.collection", f"{records}.id"], ondelete="CASCADE"
        ),
    )
    for kind in ("str", "int", "bool"):
        op.create_index(
            f"idx_{indexes}_field_{kind}",
            indexes,
            ["collection", "field_name", f"field_value_{kind}"],
        )


def downgrade() -> None:
    op.drop_table(_name("record_indexes"))
    op.drop_table(_name("records"))


def _name(table: str) -> str:
    return f"{op.get_context().opts.get('taskstore_prefix', '')}{table}"


def _boolean() -> sa.Integer:
    # PostgreSQL does not copy integers into the booleans of later layouts.
    return sa.Integer().with_variant(sa.Boolean(), "postgresql")
