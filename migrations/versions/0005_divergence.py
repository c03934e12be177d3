"""Where a job went back to when its loss was not finite, and from which checkpoints none goes on.

Revision: 0005, after 0004.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("rollback", JSON, nullable=True))
    with op.batch_alter_table("checkpoints", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("is_diverged", sa.Boolean(), nullable=False, server_default=sa.false())
        )
    with op.batch_alter_table("checkpoints", schema=None) as batch_op:
        batch_op.alter_column("is_diverged", server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("checkpoints", schema=None) as batch_op:
        batch_op.drop_column("is_diverged")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_column("rollback")
