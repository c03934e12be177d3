"""How fast uploads are validated, against the least that reading JSONL can cost.

    python -m benchmarks.validate_jsonl --megabytes 100

The reference is `for line in file: orjson.loads(line)` over the same file in the same run, so the
ratio means the same on every machine.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from core.dataset import JsonlValidator

CHUNK_BYTES = 256 * 1024
WORDS = ("keeps", "every", "step", "it", "has", "taken,", "and", "says", "so", "when", "asked")


def main() -> None:
    """Print MB/s for each shape of file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=50)
    parser.add_argument("--row-bytes", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    print(f"{'shape':<18} {'rows':>9} {'validator':>14} {'bare loop':>14} {'ratio':>7}")
    for shape, make in SHAPES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.jsonl"
            rows = write_rows(path, make, int(given.megabytes * 1e6), given.row_bytes)
            megabytes = path.stat().st_size / 1e6
            validator = megabytes / best(validate, path, given.repeats)
            bare = megabytes / best(read_bare, path, given.repeats)
        ratio = validator / bare
        print(f"{shape:<18} {rows:>9,} {validator:>9.0f} MB/s {bare:>9.0f} MB/s {ratio:>7.2f}")


def write_rows(
    path: Path, make: Callable[[random.Random, int], object], size: int, row_bytes: int
) -> int:
    """Fill a file to about `size` bytes; returns the number of rows."""
    source = random.Random(7)
    block = b"".join(orjson.dumps(make(source, row_bytes)) + b"\n" for _ in range(500))
    blocks = max(1, size // len(block))
    with path.open("wb") as file:
        for _ in range(blocks):
            file.write(block)
    return blocks * 500


def validate(path: Path) -> None:
    """What an upload costs."""
    validator = JsonlValidator()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            validator.feed(chunk)
    assert not validator.finish().errors


def read_bare(path: Path) -> None:
    """What reading costs anybody."""
    with path.open("rb") as file:
        for line in file:
            orjson.loads(line)


def best(run: Callable[[Path], None], path: Path, repeats: int) -> float:
    """Seconds of the fastest of several runs."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        run(path)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def text_of(source: random.Random, size: int) -> str:
    """About `size` bytes of words."""
    return " ".join(source.choices(WORDS, k=max(1, size // 5)))


def text_row(source: random.Random, size: int) -> object:
    """One long text."""
    return {"text": text_of(source, size)}


def messages_row(source: random.Random, size: int) -> object:
    """A system message and four turns."""
    roles = ("system", "user", "assistant", "user", "assistant")
    return {"messages": [{"role": role, "content": text_of(source, size // 6)} for role in roles]}


def pair_row(source: random.Random, size: int) -> object:
    """A prompt and its completion."""
    return {"prompt": text_of(source, size // 2), "completion": text_of(source, size // 2)}


def columns_row(source: random.Random, size: int) -> object:
    """Six columns, of which two come and go."""
    row = {
        "id": source.randrange(10**6),
        "instruction": text_of(source, size // 3),
        "input": source.choice([None, text_of(source, size // 3)]),
        "output": text_of(source, size // 3),
        "score": source.random(),
    }
    return row | ({"tag": "a"} if source.random() < 0.5 else {})


SHAPES: dict[str, Callable[[random.Random, int], object]] = {
    "text": text_row,
    "messages": messages_row,
    "prompt_completion": pair_row,
    "columns": columns_row,
}

if __name__ == "__main__":
    main()
