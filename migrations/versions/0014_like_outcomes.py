"""What an outcome may speak for: the size of its model and rows, and of a step.

Older outcomes have none of it: they compare a plan for the longest rows with rows of any length,
so they teach nothing any more.

Revision: 0014, after 0013.
"""

import sqlalchemy as sa
from alembic import op

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("plan_outcomes", schema=None) as batch_op:
        batch_op.add_column(sa.Column("parameters", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("longest_tokens", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("step_tokens", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("is_filled", sa.Boolean(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("plan_outcomes", schema=None) as batch_op:
        batch_op.drop_column("is_filled")
        batch_op.drop_column("step_tokens")
        batch_op.drop_column("longest_tokens")
        batch_op.drop_column("parameters")
