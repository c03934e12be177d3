"""How long a plan takes over HTTP, once the model's files were read.

    python benchmarks/plan.py

Goal: 99 of 100 plans within 50 ms.

Method: a real server in a process of its own, SQLite, a model folder with the configuration of a
Llama of 1.2 billion parameters, a file of 1000 rows, an effective batch of 32 (12 options, each
with all its terms). One client asks one plan after another over one connection.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import Report, parser_of
from cli.embedded.broker import free_port

GOAL_SECONDS = 0.050
LLAMA = {
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128_256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}


def main() -> None:
    """Ask for plans and take the time."""
    parser = parser_of(__doc__)
    parser.add_argument("--plans", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = sorted(measure(Path(folder), given.plans))
    result = Report(f"{given.plans} plans", ["quantile", "ms"])
    for share in (0.5, 0.9, 0.99, 1.0):
        quantile = seconds[min(len(seconds) - 1, int(share * len(seconds)))]
        result.rows.append([f"{share:.0%}", 1000 * quantile])
    slow = seconds[int(0.99 * len(seconds))]
    result.goals.append((f"99 of 100 within 50 ms: {1000 * slow:.1f} ms", slow < GOAL_SECONDS))
    result.show(as_json=given.json)


def measure(home: Path, plans: int) -> list[float]:
    """Seconds of each plan."""
    model = home / "models" / "llama"
    model.mkdir(parents=True)
    (model / "config.json").write_text(json.dumps(LLAMA))
    port = free_port()
    environment = {
        "TUNEYARD_HOME": str(home),
        "MODEL_ROOTS": str(home / "models"),
        "DATABASE_URL": f"sqlite:///{home / 'plan.db'}",
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
    }
    subprocess.run(
        [sys.executable, "-m", "cli.database", "upgrade", "head"], env=environment, check=True
    )
    command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app"]
    command += ["--port", str(port), "--log-level", "warning", "--no-access-log"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as server:
        try:
            return _ask(f"http://127.0.0.1:{port}", plans)
        finally:
            server.terminate()


def _ask(url: str, plans: int) -> list[float]:
    with httpx.Client(base_url=url, transport=httpx.HTTPTransport(retries=10)) as client:
        rows = b"".join(b'{"text": "row %d"}\n' % number for number in range(1000))
        file = client.post(
            "/v1/files", data={"purpose": "fine-tune"}, files={"file": ("rows.jsonl", rows)}
        ).json()
        body = {"model": "local/llama", "training_file": file["id"], "effective_batch_size": 32}
        client.post("/v1/fine_tuning/plan", json=body).raise_for_status()
        seconds = []
        for _ in range(plans):
            begin = time.perf_counter()
            client.post("/v1/fine_tuning/plan", json=body).raise_for_status()
            seconds.append(time.perf_counter() - begin)
        return seconds


if __name__ == "__main__":
    main()
