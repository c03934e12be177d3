"""Result files of jobs, and checkpoints that other projects may use.

Revision: 0008, after 0007.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from core.columns import UtcDateTime

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("result_files", JSON, nullable=True))
    op.create_table(
        "checkpoint_permissions",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("job_id", sa.String(length=255), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_checkpoint_permissions",
        "checkpoint_permissions",
        ["job_id", "step", "project_id"],
        unique=True,
    )


def downgrade() -> None:
    op.drop_table("checkpoint_permissions")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_column("result_files")
