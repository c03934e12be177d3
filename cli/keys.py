"""`tuneyard keys`: the keys in the database of DATABASE_URL, for who has the machine."""

import argparse
import logging
import sys
from datetime import timedelta

from core.db import DEFAULT_PROJECT, Database, database_now
from core.errors import ProjectNotFound, TuneyardError
from core.keys import Scope, create_key, create_project, get_project, list_keys, revoke_key
from core.migrate import upgrade
from core.settings import Settings


def main() -> int:
    """`create NAME`, `list` or `revoke ID`; the exit code."""
    logging.basicConfig(level=logging.WARNING)
    given = _parser().parse_args()
    try:
        database = Database(Settings.from_environment().database_url)
        upgrade(database)
        return {"create": _create, "list": _list, "revoke": _revoke}[given.action](database, given)
    except TuneyardError as error:
        sys.stderr.write(f"Error: {error.message}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tuneyard keys")
    actions = parser.add_subparsers(dest="action", required=True)
    create, listing, revoke = (actions.add_parser(name) for name in ("create", "list", "revoke"))
    create.add_argument("name")
    create.add_argument("--scope", choices=[*Scope], default=Scope.WRITE)
    create.add_argument("--days", type=float)
    revoke.add_argument("key")
    for each in (create, listing, revoke):
        each.add_argument("--project", default=DEFAULT_PROJECT)
    return parser


def _create(database: Database, given: argparse.Namespace) -> int:
    lives = timedelta(days=given.days) if given.days is not None else None
    with database.write(project_id=given.project) as session:
        now = database_now(session)
        if given.project != DEFAULT_PROJECT:
            try:
                get_project(session, given.project)
            except ProjectNotFound:
                create_project(session, given.project, now=now)
        key, text = create_key(session, given.name, scope=Scope(given.scope), now=now, lives=lives)
    sys.stderr.write(f"{key.id} of project {key.project_id}, scope {key.scope}. Shown once:\n")
    sys.stdout.write(f"{text}\n")
    return 0


def _list(database: Database, given: argparse.Namespace) -> int:
    with database.read(project_id=given.project) as session:
        now = database_now(session)
        for key in list_keys(session):
            ended = key.expires_at is not None and key.expires_at <= now
            state = "revoked" if key.revoked_at else "expired" if ended else "active"
            sys.stdout.write(f"{key.id}  {key.beginning}...  {key.scope}  {state}  {key.name}\n")
    return 0


def _revoke(database: Database, given: argparse.Namespace) -> int:
    with database.write(project_id=given.project) as session:
        revoke_key(session, given.key, now=database_now(session))
    sys.stderr.write(f"{given.key} is not known any more.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
