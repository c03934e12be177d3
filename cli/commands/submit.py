"""What makes a job: `plan`, `submit` and `retry`."""

import json
from typing import Annotated, Any

import typer

from cli.client import JOBS, PLAN, Client
from cli.commands.jobs import exit_like
from cli.errors import Exit, UserError
from cli.options import AsJson, EffectiveBatch, ExampleFile, JobName, LoraRank, TrainerSettings
from cli.output import put, say
from cli.planned import plan_text
from cli.watch import follow


def plan(
    model: str,
    file: ExampleFile,
    settings: TrainerSettings = None,
    lora_r: LoraRank = None,
    effective_batch: EffectiveBatch = None,
    as_json: AsJson = False,
) -> None:
    """Show what fine-tuning MODEL on a file would take: memory, time, disk, and which batch."""
    client = Client()
    body = _body(model, settings, lora_r, effective_batch)
    uploaded = client.upload(file)
    try:
        found = client.post(PLAN, body | {"training_file": uploaded["id"]})
    finally:
        client.delete(f"/v1/files/{uploaded['id']}")
    put(found, as_json, plan_text(found))


def submit(
    model: str,
    file: ExampleFile,
    settings: TrainerSettings = None,
    lora_r: LoraRank = None,
    effective_batch: EffectiveBatch = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the job to its end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Upload a file and fine-tune MODEL on it."""
    body = _body(model, settings, lora_r, effective_batch)
    client = Client()
    uploaded = client.upload(file)
    report = uploaded["report"]
    say(f"✓ Uploaded {file.name}: {report['rows']} rows of {report['shape']}")
    body["training_file"] = uploaded["id"]
    job = client.post(JOBS, body)
    say(f"✓ Created {job['id']}")
    if watch:
        follow(client, job["id"])
        job = client.job(job["id"])
    put(job, as_json, job["id"])
    if watch:
        exit_like(job)


def retry(job: JobName, settings: TrainerSettings = None, as_json: AsJson = False) -> None:
    """Try a failed or cancelled job again from its last checkpoint, with --set changed."""
    client = Client()
    changes = {"training": dict(map(_setting, settings or []))}
    made = client.post(f"{JOBS}/{client.job(job)['id']}/retry", changes)
    put(made, as_json, made["id"])


def _body(
    model: str, settings: list[str] | None, lora_r: int | None, effective_batch: int | None
) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "training": dict(map(_setting, settings or []))}
    if lora_r is not None:
        body["peft"] = {"r": lora_r, "target_modules": "all-linear"}
    if effective_batch is not None:
        body["effective_batch_size"] = effective_batch
    return body


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set {text}: expected name=value.", code=Exit.USAGE)
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
