"""What a job needs on disks, and why the service paused it.

Revision: 0010, after 0009.
"""

import sqlalchemy as sa
from alembic import op

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("pause_reason", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("scratch_bytes", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("storage_bytes", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_column("storage_bytes")
        batch_op.drop_column("scratch_bytes")
        batch_op.drop_column("pause_reason")
