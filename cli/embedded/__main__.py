"""`python -m cli.embedded`: what `tuneyard up` becomes."""

import argparse
import os
import sys
from pathlib import Path

from cli.embedded.up import Options, run
from cli.errors import UserError


def main() -> int:
    """Parse the options; the environment gives their defaults."""
    environment = os.environ
    home = environment.get("TUNEYARD_HOME") or str(Path.home() / ".tuneyard")
    parser = argparse.ArgumentParser(prog="tuneyard up")
    parser.add_argument("--home", type=Path, default=Path(home))
    parser.add_argument("--host", default=environment.get("TUNEYARD_HOST", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=environment.get("TUNEYARD_PORT", "8080"))
    arguments = parser.parse_args()
    options = Options(
        home=arguments.home.expanduser().absolute(), host=arguments.host, port=arguments.port
    )
    try:
        return run(options)
    except UserError as error:
        sys.stderr.write(f"Error: {error.message}\n{error.hint}\n")
        return int(error.code)


if __name__ == "__main__":
    sys.exit(main())
