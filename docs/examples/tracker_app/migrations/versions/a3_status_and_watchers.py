"""Tasks have a status, and people who watch them."""

import sqlalchemy as sa
from alembic import op

revision = "a3"
down_revision = "a2"


def upgrade() -> None:
    """Add the columns."""
    with op.batch_alter_table("tasks") as tasks:
        tasks.add_column(sa.Column("status", sa.String(), nullable=False, server_default="open"))
        tasks.add_column(sa.Column("watchers", sa.JSON(), nullable=False, server_default="[]"))


def downgrade() -> None:
    """Take them away."""
    with op.batch_alter_table("tasks") as tasks:
        tasks.drop_column("watchers")
        tasks.drop_column("status")
