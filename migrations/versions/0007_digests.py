"""A keyed digest of what was read of each log, in place of a checksum that can be forged.

The digests stay empty: nothing is known of a log until it is read, which the next sync does once.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_KEPT = (
    "collection, last_sync_time, file_mtime, size, mtime_ns, ctime_ns, inode, "
    "lines, problems, ended, racy"
)


def upgrade() -> None:
    _make_anew(sa.Column("digest", sa.Text))


def downgrade() -> None:
    _make_anew(sa.Column("checksum", sa.BigInteger))


def _make_anew(content: sa.Column[str] | sa.Column[int]) -> None:
    """Make `sync_metadata` with another column in its place: ALTER TABLE would put it last."""
    old, new = _name("old_sync_metadata"), _name("sync_metadata")
    op.rename_table(new, old)
    op.create_table(
        new,
        sa.Column("collection", sa.Text, primary_key=True),
        sa.Column("last_sync_time", sa.BigInteger, nullable=False),
        sa.Column("file_mtime", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger),
        sa.Column("mtime_ns", sa.BigInteger),
        sa.Column("ctime_ns", sa.BigInteger),
        sa.Column("inode", sa.BigInteger),
        content,
        sa.Column("lines", sa.BigInteger),
        sa.Column("problems", sa.Integer),
        sa.Column("ended", sa.Boolean),
        sa.Column("racy", sa.Boolean),
        sqlite_with_rowid=False,
    )
    op.execute(f"INSERT INTO {new} ({_KEPT}) SELECT {_KEPT} FROM {old} ORDER BY collection")
    op.drop_table(old)


def _name(table: str) -> str:
    return f"{op.get_context().opts.get('taskstore_prefix', '')}{table}"
