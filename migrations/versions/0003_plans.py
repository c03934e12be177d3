"""What was planned for a job, what it took, and how the two compare.

Revision: 0003, after 0002.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from core.columns import UtcDateTime

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("plan", JSON, nullable=True))
        batch_op.add_column(sa.Column("measured", JSON, nullable=True))
    op.create_table(
        "plan_outcomes",
        sa.Column("job_id", sa.String(length=255), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("worker", sa.String(length=255), nullable=False),
        sa.Column("family", sa.String(length=255), nullable=False),
        sa.Column("method", sa.String(length=255), nullable=False),
        sa.Column("raw_memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("predicted_memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("measured_memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("raw_seconds_per_step", sa.Double(), nullable=False),
        sa.Column("predicted_seconds_per_step", sa.Double(), nullable=False),
        sa.Column("measured_seconds_per_step", sa.Double(), nullable=True),
        sa.Column("predicted_disk_bytes", sa.BigInteger(), nullable=False),
        sa.Column("measured_disk_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "attempt"),
    )
    with op.batch_alter_table("plan_outcomes", schema=None) as batch_op:
        batch_op.create_index(
            "ix_plan_outcomes_kind", ["family", "method", "created_at"], unique=False
        )


def downgrade() -> None:
    op.drop_table("plan_outcomes")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_column("measured")
        batch_op.drop_column("plan")
