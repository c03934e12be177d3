"""What goes wrong for users of the command, with the exit code that says so."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes; scripts may rely on them."""

    ERROR = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_ALLOWED = 4
    CONFLICT = 5
    NO_SERVER = 7
    TIMED_OUT = 8
    JOB_FAILED = 10
    JOB_CANCELLED = 11
    DATA_REFUSED = 12
    INTERRUPTED = 130


class UserError(Exception):
    """One sentence of what went wrong, and the next step."""

    def __init__(self, message: str, hint: str = "", *, code: Exit = Exit.ERROR):
        self.message = message
        self.hint = hint
        self.code = code
        super().__init__(message)
