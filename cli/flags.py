"""What was said before the command: --debug and --no-input."""

import os
import sys
from dataclasses import dataclass


@dataclass(slots=True)
class Flags:
    """Of this run of the command."""

    is_debug: bool = False
    is_without_input: bool = False

    def may_ask(self) -> bool:
        """Whether somebody is there to answer a question."""
        return not self.is_without_input and sys.stdin.isatty()


flags = Flags(is_debug=bool(os.environ.get("TUNEYARD_DEBUG")))
