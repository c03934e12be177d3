"""Public identifiers: a prefix that says what it is, and 24 random hex digits.

They obey the Hub's rule for repository names, since `jobs/<job id>` is one.
"""

import secrets


def new_id(prefix: str) -> str:
    """A new identifier like `ftjob-5f0c...`; the prefix brings its own separator."""
    return prefix + secrets.token_hex(12)


def event_id(job_id: str, seq: int) -> str:
    """The identifier of event number `seq` of a job, as clients page with it."""
    return f"ftevent-{job_id.removeprefix('ftjob-')}-{seq}"


def event_seq(job_id: str, identifier: str) -> int | None:
    """The number of an event from its identifier; None when it is not one of this job."""
    head, _, tail = identifier.rpartition("-")
    if (
        head != f"ftevent-{job_id.removeprefix('ftjob-')}"
        or not tail.isascii()
        or not tail.isdigit()
    ):
        return None
    return int(tail)
