"""What is nobody's business in what a child says: secrets, and where this machine has its files."""

import re
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from core.settings import Settings

INSTALLED = (
    *sysconfig.get_paths().values(),
    sys.prefix,
    sys.base_prefix,
    str(Path(__file__).parent.parent),
)
"""Where Python, the libraries and this service are."""


class Redaction:
    """Stars in place of secrets; files are called by what comes below the folders named here."""

    def __init__(self, secrets: Iterable[str], folders: Iterable[Path]):
        self._secrets = tuple(secrets)
        named = {*map(Path, INSTALLED), *folders}
        named |= {folder.resolve() for folder in named}
        longest_first = sorted(map(str, named - {Path("/")}), key=len, reverse=True)
        names = "|".join(map(re.escape, longest_first))
        self._folders = re.compile(rf"(?<![\w.-])(?:{names})(?:(/+)(?=[^\s'\"])|(?![\w-]|\.\w))")

    @classmethod
    def of(cls, settings: Settings, scratch: Path) -> "Redaction":
        """By the settings, for an attempt that writes to `scratch`."""
        folders = [scratch, settings.scratch_folder, settings.home, *settings.model_roots]
        if settings.storage_url.startswith(("/", "file:///")):
            folders.append(Path(settings.storage_url.removeprefix("file://")))
        return cls(settings.secrets, folders)

    def apply(self, text: str) -> str:
        """The same text without them."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return self._folders.sub(_left, text) if "/" in text else text


def _left(match: re.Match[str]) -> str:
    return "" if match[1] else "."
