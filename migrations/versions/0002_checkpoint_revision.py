"""Checkpoints are commits to clients of the Hub.

Revision: 0002, after 0001.
"""

import hashlib
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")

CHECKPOINTS = sa.table(
    "checkpoints",
    sa.column("id", sa.String),
    sa.column("job_id", sa.String),
    sa.column("step", sa.BigInteger),
    sa.column("manifest", JSON),
    sa.column("revision", sa.String),
)


def upgrade() -> None:
    column = sa.Column("revision", sa.String(length=255), nullable=False, server_default="")
    with op.batch_alter_table("checkpoints", schema=None) as batch_op:
        batch_op.add_column(column)
    connection = op.get_bind()
    table = CHECKPOINTS.c
    rows = connection.execute(sa.select(table.id, table.job_id, table.step, table.manifest))
    for row in rows.all():
        commit = _commit(f"jobs/{row.job_id}.step-{row.step}", row.manifest)
        change = sa.update(CHECKPOINTS).where(table.id == row.id).values(revision=commit)
        connection.execute(change)
    with op.batch_alter_table("checkpoints", schema=None) as batch_op:
        batch_op.alter_column("revision", server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("checkpoints", schema=None) as batch_op:
        batch_op.drop_column("revision")


def _commit(name: str, manifest: list[dict[str, Any]]) -> str:
    digest = hashlib.sha1(name.encode(), usedforsecurity=False)
    weights = ((item["path"], item["sha256"]) for item in manifest if item["part"] == "weights")
    for path, content in sorted(weights):
        digest.update(f"\0{path}\0{content}".encode())
    return digest.hexdigest()
