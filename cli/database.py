"""`tuneyard db`: bring the database of DATABASE_URL to another schema."""

import logging
import sys

from alembic.util import CommandError

from core.db import Database
from core.errors import TuneyardError
from core.migrate import downgrade, upgrade
from core.settings import Settings


def main() -> int:
    """`upgrade [REVISION]` or `downgrade REVISION`."""
    logging.basicConfig(level=logging.WARNING)
    action, *rest = sys.argv[1:]
    try:
        database = Database(Settings.from_environment().database_url)
        if action == "upgrade":
            upgrade(database, *rest[:1])
        else:
            downgrade(database, rest[0])
    except (TuneyardError, CommandError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
