"""Which ids the rows of mirrored tables have whose keys each database counts for itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        _name("mirror_keys"),
        sa.Column("collection", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("gone", sa.Boolean, nullable=False),
        sa.Column("awaited", sa.Boolean, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index(
        f"ix_{_name('mirror_keys')}_number",
        _name("mirror_keys"),
        ["collection", "number"],
        unique=True,
    )


def downgrade() -> None:
    op.drop_index(f"ix_{_name('mirror_keys')}_number", _name("mirror_keys"))
    op.drop_table(_name("mirror_keys"))


def _name(table: str) -> str:
    return f"{op.get_context().opts.get('taskstore_prefix', '')}{table}"
