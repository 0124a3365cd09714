"""When each log was read, and its mtime then."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        _name("sync_metadata"),
        sa.Column("collection", sa.Text, primary_key=True),
        sa.Column("last_sync_time", sa.BigInteger, nullable=False),
        sa.Column("file_mtime", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table(_name("sync_metadata"))


def _name(table: str) -> str:
    return f"{op.get_context().opts.get('taskstore_prefix', '')}{table}"
