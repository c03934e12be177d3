"""Alembic's entry: migrates DATABASE_URL, or the database that `core.migrate` hands over."""

from alembic import context

from core import access, models  # noqa: F401 - they fill the metadata
from core.columns import Base
from core.db import Database
from core.settings import Settings


def run() -> None:
    """Run the migrations in one transaction."""
    database = context.config.attributes.get("database") or Database(
        Settings.from_environment().database_url
    )
    # SQLite changes tables by copying them, which foreign keys must not notice.
    with database.engine.connect().execution_options(writes=True) as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=True,
            compare_type=True,
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()


run()
