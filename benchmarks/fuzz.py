"""Sends so many requests, made of its own description, to an API with two keys.

    python -m benchmarks.fuzz --cases 50000

Prints each server error and each answer that breaks its schema; ends with 1 if there was one.
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
from tests.api.conftest import listening, serving
from tests.api.test_keys import make_key

OPERATIONS = 80
"""About so many; each is asked the same number of times with each key."""


def main() -> int:
    """Run, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable()
    with TemporaryDirectory(prefix="tuneyard-fuzz-") as home:
        found = _run(Path(home), max(1, options.cases // (2 * OPERATIONS)), options.seed)
    print(f"{found.cases} requests; answers by status: {dict(sorted(found.statuses.items()))}")
    for text in (*found.server_errors, *found.violations):
        print(text)
    print(f"{len(found.server_errors)} server errors, {len(found.violations)} schema violations")
    return bool(found.server_errors or found.violations)


def _run(home: Path, examples: int, seed: int) -> Findings:
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
    with serving(settings, database, authorization=f"Bearer {keys[0]}") as site:
        ids = make_ids(site)
    with listening(create_app(settings)) as url:
        found = fuzz(url, keys, ids, examples=examples, start=seed)
    database.close()
    return found


if __name__ == "__main__":
    sys.exit(main())
