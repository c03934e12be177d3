"""Answers to requests that must not be done twice.

Revision: 0004, after 0003.
"""

import sqlalchemy as sa
from alembic import op

from core.columns import UtcDateTime

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "answers",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("body_hash", sa.String(length=255), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("is_retry", sa.Boolean(), nullable=False),
        sa.Column("body", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_answers_age", "answers", ["created_at"])


def downgrade() -> None:
    op.drop_table("answers")
