"""Bring the names that completion offers up to date. Started by a Tab, which does not wait."""

import contextlib

from cli.client import Client
from cli.completion import refresh
from cli.errors import UserError


def main() -> None:
    """Ask once; a server that is away is asked again by a later Tab."""
    with contextlib.suppress(UserError):
        client = Client()
        refresh(client.get, client.url)


if __name__ == "__main__":
    main()
