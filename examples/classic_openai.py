"""The classic recipe by the stock `openai` client: only `base_url` is ours.

    python examples/classic_openai.py             facebook/opt-350m on imdb, from the Hub
    python examples/classic_openai.py --offline   a tiny OPT and text that Python ships

The offline run makes its model in MODEL_ROOTS (default ~/.tuneyard/models, as `make up` has it).
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from openai import OpenAI
from tiny_model import make_tiny_model, write_pydoc_text

HERE = Path(__file__).parent
URL = os.environ.get("TUNEYARD_URL", "http://127.0.0.1:8080")


def main() -> None:
    """Create the job, follow it, and say where the result is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--offline", action="store_true", help="tiny model, text of Python's docs")
    parser.add_argument("--models", type=Path, default=Path.home() / ".tuneyard" / "models")
    arguments = parser.parse_args()
    client = OpenAI(base_url=f"{URL}/v1", api_key=os.environ.get("TUNEYARD_API_KEY", "none"))
    body = offline_body(client, arguments.models) if arguments.offline else recipe("opt-350m-imdb")
    job = create(client, body)
    print(f"created {job.id}")
    follow(client, job.id)
    job = client.fine_tuning.jobs.retrieve(job.id)
    print(
        f"{job.status}: load it as {job.fine_tuned_model!r}" if job.fine_tuned_model else job.error
    )


def recipe(name: str) -> dict[str, Any]:
    """A request body of this folder."""
    body: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text())
    return body


def offline_body(client: OpenAI, models: Path) -> dict[str, Any]:
    """The same recipe on a model and data that need no network."""
    make_tiny_model("opt", models / "tiny-opt")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "pydoc.jsonl"
        write_pydoc_text(data, rows=640)
        file = client.files.create(file=data, purpose="fine-tune")
    return recipe("tiny-opt") | {"training_file": file.id}


def create(client: OpenAI, body: dict[str, Any]) -> Any:
    """Create the job; what OpenAI's client does not know goes through `extra_body`."""
    extra = {name: body[name] for name in body.keys() - {"model", "training_file"}}
    return client.fine_tuning.jobs.create(
        model=body["model"], training_file=body.get("training_file"), extra_body=extra
    )


def follow(client: OpenAI, job_id: str) -> None:
    """Print the job's events until it has ended, by polling as OpenAI's users do."""
    seen: set[str] = set()
    while True:
        job = client.fine_tuning.jobs.retrieve(job_id)
        events = client.fine_tuning.jobs.list_events(job_id, limit=100).data
        for event in reversed(events):
            if event.id not in seen:
                print(event.message)
            seen.add(event.id)
        if job.status in ("succeeded", "failed", "cancelled"):
            return
        time.sleep(1)


if __name__ == "__main__":
    main()
