"""`python -m cli.embedded`: what `tuneyard up` becomes."""

import argparse
import os
import sys

from cli.embedded.up import run
from cli.errors import UserError
from core.errors import SettingsError
from core.settings import Settings


def main() -> int:
    """Take the options into the environment, and run; the exit code of `tuneyard up`."""
    parser = argparse.ArgumentParser(prog="tuneyard up")
    for name in ("home", "host", "port"):
        parser.add_argument(f"--{name}")
    for name, value in vars(parser.parse_args()).items():
        if value is not None:
            os.environ[f"TUNEYARD_{name.upper()}"] = value
    try:
        return run(Settings.from_environment())
    except UserError as error:
        sys.stderr.write(f"Error: {error.message}\n{error.hint}\n")
        return int(error.code)
    except SettingsError as error:
        sys.stderr.write(f"Error: {error.message}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
