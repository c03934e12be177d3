"""Since when a worker claims nothing more.

Revision: 0013, after 0012.
"""

import sqlalchemy as sa
from alembic import op

from core.columns import UtcDateTime

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("workers", schema=None) as batch_op:
        batch_op.add_column(sa.Column("drained_at", UtcDateTime(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("workers", schema=None) as batch_op:
        batch_op.drop_column("drained_at")
