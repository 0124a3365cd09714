"""Which evolutions of lines a database has behind it, and what was read by way of which."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        _name("log_evolutions"),
        sa.Column("collection", sa.Text, primary_key=True),
        sa.Column("revision", sa.Text, primary_key=True),
        sa.Column("line", sa.Text, nullable=False),
        sa.Column("applied", sa.Boolean, nullable=False),
        sqlite_with_rowid=False,
    )
    op.add_column(_name("sync_metadata"), sa.Column("shape", sa.Text))
    op.add_column(_name("tombstones"), sa.Column("revision", sa.Text))


def downgrade() -> None:
    # Records hidden only for their revision are not deleted: the older layout reads the log again.
    op.execute(f"DELETE FROM {_name('tombstones')} WHERE revision IS NOT NULL")
    op.execute(f"UPDATE {_name('sync_metadata')} SET digest = NULL WHERE shape <> ''")
    op.drop_column(_name("tombstones"), "revision")
    op.drop_column(_name("sync_metadata"), "shape")
    op.drop_table(_name("log_evolutions"))


def _name(table: str) -> str:
    return f"{op.get_context().opts.get('taskstore_prefix', '')}{table}"
