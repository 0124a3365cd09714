"""Record how far mirrored tables are synced, and which of their rows were never logged."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        _name("mirror_states"),
        sa.Column("collection", sa.Text, primary_key=True),
        sa.Column("digest", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    _make_anew(sa.Column("never_logged", sa.Boolean, nullable=False), never_logged="0 <> 0")


def downgrade() -> None:
    _make_anew()
    op.drop_table(_name("mirror_states"))


def _make_anew(*more: sa.Column[bool], **values: str) -> None:
    """Make `mirror_problems` with other columns: ALTER TABLE would put them elsewhere."""
    old, new = _name("old_mirror_problems"), _name("mirror_problems")
    op.rename_table(new, old)
    op.create_table(
        new,
        sa.Column("collection", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
        *more,
        sqlite_with_rowid=False,
    )
    columns = ", ".join(["collection", "id", "reason", *values])
    source = ", ".join(["collection", "id", "reason", *values.values()])
    op.execute(f"INSERT INTO {new} ({columns}) SELECT {source} FROM {old} ORDER BY collection, id")
    op.drop_table(old)


def _name(table: str) -> str:
    return f"{op.get_context().opts.get('taskstore_prefix', '')}{table}"
