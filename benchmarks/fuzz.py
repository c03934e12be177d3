"""Sends so many requests, made of its own description, to an API with two keys.

    python -m benchmarks.fuzz --cases 50000 --journeys 500

Prints each server error and each answer that breaks its schema; ends with 1 if there was one. Then
two projects go through files and jobs in any order, each answer held against a model of both.
"""

import argparse
import logging
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

from app.main import create_app
from core.db import Database
from core.migrate import upgrade
from core.settings import Settings
from tests.abuse.fuzzing import Findings, fuzz, make_ids
from tests.abuse.journeys import Count, travel
from tests.api.conftest import listening, serving
from tests.api.test_keys import make_key

OPERATIONS = 80
"""About so many; each is asked the same number of times with each key."""


def main() -> int:
    """Run, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=50_000)
    parser.add_argument("--journeys", type=int, default=500, help="of 50 steps each")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable()
    with TemporaryDirectory(prefix="tuneyard-fuzz-") as home:
        found, count = _run(Path(home), options)
    print(f"{found.cases} requests; answers by status: {dict(sorted(found.statuses.items()))}")
    for text in (*found.server_errors, *found.violations):
        print(text)
    print(f"{len(found.server_errors)} server errors, {len(found.violations)} schema violations")
    print(
        f"{options.journeys} journeys: {count.requests:,} requests, {count.carried_out:,} carried "
        "out, each answered as it had to be"
    )
    return bool(found.server_errors or found.violations)


def _run(home: Path, options: argparse.Namespace) -> tuple[Findings, Count]:
    examples = options.cases // (2 * OPERATIONS)
    model = home / "models" / "tiny"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    settings = Settings(
        TUNEYARD_HOME=home,
        MODEL_ROOTS=(model.parent,),
        HF_ENDPOINT="http://127.0.0.1:9",
        RATE_LIMIT_PER_MINUTE=0,
    )
    database = Database(settings.database_url)
    upgrade(database)
    keys = make_key(database), make_key(database, project="strangers")
    found = Findings()
    with serving(settings, database, authorization=f"Bearer {keys[0]}") as site:
        count = travel(site, keys, journeys=options.journeys, steps=50, start=options.seed)
        ids = make_ids(site)
    if examples:
        with listening(create_app(settings)) as url:
            found = fuzz(url, keys, ids, examples=examples, start=options.seed)
    database.close()
    return found, count


if __name__ == "__main__":
    sys.exit(main())
