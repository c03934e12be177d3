"""Which server the command speaks to, with which key, and what it keeps in the user's folders.

The environment wins over `tuneyard login`. A key goes to the server that it was given for, and to
no other: one of the config file only to the URL beside it, one of OpenAI's variables only to a
server that they name as well.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from cli.errors import Exit, UserError

DEFAULT_URL = "http://127.0.0.1:8080"
NAMES = ("url", "key")


@dataclass(frozen=True, slots=True)
class Connection:
    """A server, the key for it, and what says so."""

    url: str
    key: str | None
    source: str


def connection() -> Connection:
    """What TUNEYARD_URL and TUNEYARD_API_KEY say; else the config file; else OpenAI's pair."""
    kept, environment = read_config(), os.environ
    own_url, own_key = environment.get("TUNEYARD_URL"), environment.get("TUNEYARD_API_KEY")
    if own_url:
        url = _clean(own_url)
        return Connection(url, own_key or _key_for(url, kept), "TUNEYARD_URL")
    if "url" in kept:
        return Connection(kept["url"], own_key or kept.get("key"), str(config_file()))
    base, key = environment.get("OPENAI_BASE_URL"), environment.get("OPENAI_API_KEY")
    if base and key:
        url = _clean(base).removesuffix("/v1")
        return Connection(url, own_key or key, "OPENAI_BASE_URL")
    return Connection(DEFAULT_URL, own_key or _key_for(DEFAULT_URL, kept), "the default")


def read_config() -> dict[str, str]:
    """What `login` and `config set` have kept."""
    path = config_file()
    try:
        kept = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read: {error}", "Correct it, or delete it and `tuneyard login`."
        ) from error
    if not isinstance(kept, dict):
        raise UserError(f"{path} is no object.", "Delete it, and `tuneyard login` again.")
    return {name: value for name, value in kept.items() if name in NAMES and value}


def write_config(values: dict[str, str]) -> None:
    """Keep these, and nobody but the user may read them."""
    write_private(config_file(), json.dumps(values, indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Replace a file that is the user's own; whoever reads it meanwhile sees one or the other."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)


def check_name(name: str) -> str:
    """The name of something to configure."""
    if name not in NAMES:
        raise UserError(
            f'Unknown name "{name}".', f"There are: {', '.join(NAMES)}.", code=Exit.USAGE
        )
    return name


def clean_url(url: str) -> str:
    """A server's URL, as it is kept."""
    if not url.startswith(("http://", "https://")):
        raise UserError(
            f"{url} is not a URL.", "It begins with http:// or https://.", code=Exit.USAGE
        )
    return _clean(url)


def config_file() -> Path:
    """Where it is kept."""
    return _folder("XDG_CONFIG_HOME", ".config") / "config.json"


def state_folder() -> Path:
    """For what a later run goes on with."""
    return _folder("XDG_STATE_HOME", ".local/state")


def cache_folder() -> Path:
    """For what can be asked for again."""
    return _folder("XDG_CACHE_HOME", ".cache")


def _folder(variable: str, default: str) -> Path:
    base = os.environ.get(variable)
    return (Path(base) if base else Path.home() / default) / "tuneyard"


def _key_for(url: str, kept: dict[str, str]) -> str | None:
    return kept.get("key") if kept.get("url", DEFAULT_URL) == url else None


def _clean(url: str) -> str:
    return url.rstrip("/")
