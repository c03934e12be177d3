"""Searches the parsers of what strangers send for inputs that break a promise, guided by coverage.

    python -m benchmarks.fuzz_parsers --seconds 600 [TARGET ...]

Prints for each target how many inputs it got, how far the coverage grew and what broke it; ends
with 1 if anything did. `tests/abuse/parsers.py` has the targets and what they promise. Each runs in
a process of its own, since libFuzzer ends the process that it works in.
"""

import argparse
import re
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris

IS_INSIDE = "--inside" in sys.argv
with atheris.instrument_imports(include=["app", "core"]) if IS_INSIDE else nullcontext():
    from tests.abuse.parsers import SEEDS, TARGETS

MAX_BYTES = 4096
EXECUTIONS = re.compile(r"^#(\d+)\s.*?cov: (\d+) ft: (\d+)", re.MULTILINE)
FINDING = re.compile(r"^(?: === Uncaught Python exception: ===|==\d+== ?ERROR)", re.MULTILINE)
GRACE_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Found:
    """What came of one target."""

    executions: int
    covered: tuple[int, int]
    """Branches that the seeds reached, and that all inputs did."""
    said: str | None
    """What broke it."""


def main() -> int:
    """Run each target and print a table, or, as one of its processes, run one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", choices=[*TARGETS, []], help="all without any"
    )
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return _inside(options.targets[0], options.inside, options.seconds, options.seed)
    is_broken = False
    print("| target | inputs | branches of the seeds | branches in the end | broken |")
    print("| --- | --- | --- | --- | --- |")
    for name in options.targets or TARGETS:
        found = _run(name, options.seconds, options.seed)
        is_broken |= found.said is not None
        first, last = found.covered
        broken = "yes" if found.said else "no"
        print(f"| {name} | {found.executions:,} | {first} | {last} | {broken} |", flush=True)
        if found.said:
            print(found.said, file=sys.stderr)
    return is_broken


def _run(name: str, seconds: int, seed: int) -> Found:
    with TemporaryDirectory(prefix="tuneyard-parsers-") as folder:
        for number, data in enumerate(SEEDS[name]):
            (Path(folder) / str(number)).write_bytes(data)
        command = [sys.executable, "-m", "benchmarks.fuzz_parsers", name, "--inside", folder]
        done = subprocess.run(
            [*command, "--seconds", str(seconds), "--seed", str(seed)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds + GRACE_SECONDS,
            check=False,
        )
    lines = [tuple(map(int, line)) for line in EXECUTIONS.findall(done.stderr)]
    if not lines:
        return Found(0, (0, 0), done.stderr[-4000:])
    said = FINDING.search(done.stderr)
    is_broken = said is not None or done.returncode != 0
    text = done.stderr[said.start() if said else -4000 :][:4000]
    return Found(lines[-1][0], (lines[0][1], lines[-1][1]), text if is_broken else None)


def _inside(name: str, folder: str, seconds: int, seed: int) -> int:
    options = [f"-max_total_time={seconds}", f"-max_len={MAX_BYTES}", f"-seed={seed}"]
    options += ["-rss_limit_mb=0", "-timeout=30", f"-artifact_prefix={folder}/", "-close_fd_mask=1"]
    atheris.Setup([sys.argv[0], *options, folder], TARGETS[name])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
