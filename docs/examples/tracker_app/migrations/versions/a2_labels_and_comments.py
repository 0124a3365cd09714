"""Labels and comments."""

import sqlalchemy as sa
from alembic import op

revision = "a2"
down_revision = "a1"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "labels",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("color", sa.String(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
    )
    op.create_table(
        "task_labels",
        sa.Column("task_id", sa.String(), sa.ForeignKey("tasks.id"), primary_key=True),
        sa.Column("label_name", sa.String(), sa.ForeignKey("labels.name"), primary_key=True),
    )
    op.create_table(
        "comments",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("task_id", sa.String(), sa.ForeignKey("tasks.id"), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
    )


def downgrade() -> None:
    """Take them away."""
    op.drop_table("comments")
    op.drop_table("task_labels")
    op.drop_table("labels")
