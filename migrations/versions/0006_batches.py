"""How many batches of events an attempt has written, so that none is written twice.

Revision: 0006, after 0005.
"""

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("num_batches", sa.BigInteger(), nullable=False, server_default="0")
        )
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.alter_column("num_batches", server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.drop_column("num_batches")
