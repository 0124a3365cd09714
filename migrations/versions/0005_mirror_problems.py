"""Which records of mirrored collections their tables do not hold, and why."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        _name("mirror_problems"),
        sa.Column("collection", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table(_name("mirror_problems"))


def _name(table: str) -> str:
    return f"{op.get_context().opts.get('taskstore_prefix', '')}{table}"
