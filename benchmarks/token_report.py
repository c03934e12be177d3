"""How fast the tokens of a file are counted, against a loop that only tokenizes row by row.

    python benchmarks/token_report.py --model models/smollm2-135m-instruct

Goal: at least 500,000 tokens a second.

Method: chats and texts in JSON lines, no sampling; the work of the report's own process is called
in this one. It parses rows, renders the chat template, tokenizes, finds what is learned, and
counts. The reference is the tokenizer's `encode` on the same texts, one after the other.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.material import small_model
from benchmarks.report import Report, parser_of
from core.dataset.token_check import report
from examples.tiny_model import paragraphs

GOAL = 500_000


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--model", type=Path, help="model folder; default: the demo's SmolLM2-135M")
    parser.add_argument("--rows", type=int, default=20_000)
    given = parser.parse_args()
    model = small_model(given.model)
    texts = list(islice(cycle(paragraphs()), given.rows))
    result = Report("Token report", ["", "rows", "tokens", "tokens/s", "row by row", "ratio"])
    with tempfile.TemporaryDirectory() as folder:
        for name, rows, training in (
            ("text", [{"text": text} for text in texts], {}),
            ("assistant turns", [_chat(text) for text in texts], {"assistant_only_loss": True}),
        ):
            path = Path(folder) / f"{name}.jsonl"
            path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
            request = _request(path, model, len(rows), training)
            seconds, answer = _timed(partial(report, request))
            reference, count = _timed(partial(_row_by_row, model, texts))
            speed = _read(answer) / seconds
            result.rows.append(
                [
                    name,
                    len(rows),
                    _read(answer),
                    speed,
                    count / reference,
                    speed * reference / count,
                ]
            )
            result.goals.append((f"{name}: {speed:,.0f} tokens/s", speed >= GOAL))
    result.show(as_json=given.json)


def _chat(text: str) -> dict[str, Any]:
    question, _, answer = text.partition(".")
    turns = [("user", question or "Go on"), ("assistant", answer or text)]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def _request(path: Path, model: Path, rows: int, training: dict[str, Any]) -> dict[str, Any]:
    request = {"path": str(path), "format": "jsonl", "compression": None, "model": str(model)}
    request |= {"rows": rows, "max_rows": rows, "training": training | {"max_length": None}}
    return request | {"chat_template": None, "template": None, "shape": None}


def _read(answer: dict[str, Any]) -> int:
    return int(answer["tokens"] + answer["truncated_tokens"])


def _row_by_row(model: Path, texts: list[str]) -> int:
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    return sum(len(tokenizer.encode(text).ids) for text in texts)


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    answer = call()
    return time.perf_counter() - begin, answer


if __name__ == "__main__":
    main()
