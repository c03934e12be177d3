"""`tuneyard`: submit jobs, watch them, take home what they learned; and start the service.

Text for people goes to standard error, data to standard output.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import JOBS, PLAN, TERMINAL, Client
from cli.errors import Exit, UserError
from cli.nouns import (
    AsJson,
    JobName,
    OnlyIds,
    call_api,
    checkpoints,
    doctor,
    files,
    models,
    workers,
)
from cli.output import job_row, put, put_rows, say
from cli.planned import plan_text
from cli.watch import follow, log_lines, stream_events

app = typer.Typer(
    no_args_is_help=True,
    help="Fine-tune open models on your own machine.",
    pretty_exceptions_enable=False,
)
database = typer.Typer(no_args_is_help=True, help="The database of DATABASE_URL.")
app.add_typer(database, name="db")

jobs = typer.Typer(no_args_is_help=True, help="Trainings.")
NOUNS = {"jobs": jobs, "files": files, "checkpoints": checkpoints, "models": models}
for noun, group in (NOUNS | {"workers": workers}).items():
    app.add_typer(group, name=noun)
app.command("api")(call_api)
app.command("doctor")(doctor)
keys = typer.Typer(no_args_is_help=True, help="API keys, on the machine of the server.")
app.add_typer(keys, name="keys")

ExampleFile = Annotated[Path, typer.Option("--file", "-f", exists=True, dir_okay=False)]
TrainerSettings = Annotated[
    list[str] | None, typer.Option("--set", help="name=value of SFTConfig; may be repeated.")
]
LoraRank = Annotated[int | None, typer.Option(help="Train a LoRA adapter of this rank.")]
EffectiveBatch = Annotated[
    int | None, typer.Option(min=1, help="Rows of a step; the plan chooses how they are split.")
]
WAIT_SECONDS = 1.0


def main() -> None:
    """Run the command; an expected failure is one sentence and one next step."""
    try:
        app()
    except UserError as error:
        sys.stderr.write(f"Error: {error.message}\n")
        if error.hint:
            sys.stderr.write(f"{error.hint}\n")
        sys.exit(error.code)


@app.command()
def up(
    home: Annotated[Path | None, typer.Option(help="Folder of everything that is kept.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535)] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
) -> None:
    """Start the whole service on this machine; Ctrl-C stops it."""
    _replace_by("cli.embedded", *_given(home=home, port=port, host=host))


@database.command("upgrade")
def db_upgrade(revision: str = "head") -> None:
    """Apply the migrations that are missing."""
    _replace_by("cli.database", "upgrade", revision)


@database.command("downgrade")
def db_downgrade(revision: str) -> None:
    """Take migrations back down to a revision; `base` empties the database."""
    _replace_by("cli.database", "downgrade", revision)


@keys.command("create")
def keys_create(
    name: str,
    scope: Annotated[str, typer.Option(help="read, write or admin.")] = "write",
    project: Annotated[str | None, typer.Option(help="Made if it is not there yet.")] = None,
    days: Annotated[float | None, typer.Option(min=0, help="It ends after so many days.")] = None,
) -> None:
    """Make a key and print it, once. From the first key on nobody comes in without one."""
    _replace_by("cli.keys", "create", name, *_given(scope=scope, project=project, days=days))


@keys.command("list")
def keys_list(project: str | None = None) -> None:
    """List the keys of a project."""
    _replace_by("cli.keys", "list", *_given(project=project))


@keys.command("revoke")
def keys_revoke(key: str, project: str | None = None) -> None:
    """End a key, by its id."""
    _replace_by("cli.keys", "revoke", key, *_given(project=project))


@app.command()
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


@app.command()
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
        _exit_like(job)


@app.command("list")
def list_jobs(
    limit: int = 20,
    status: Annotated[
        str | None, typer.Option(help="Only those that are queued, running, …")
    ] = None,
    only_ids: OnlyIds = False,
    as_json: AsJson = False,
) -> None:
    """List the jobs, the newest first."""
    found = Client().get(JOBS, limit=limit)["data"]
    if not found:
        say("No jobs yet. Start one: tuneyard submit MODEL --file data.jsonl")
    found = [job for job in found if status in (None, job["status"])]
    put_rows(found, as_json, map(job_row, found), only_ids=only_ids)


@app.command()
def show(job: JobName, as_json: AsJson = False) -> None:
    """Show a job."""
    found = Client().job(job)
    lines = ["\t".join(job_row(found))]
    if found["queue"]:
        lines.append(found["queue"]["reason"])
    if found["error"]:
        lines.append(f"{found['error']['code']}: {found['error']['message']}")
    put(found, as_json, "\n".join(lines))


@app.command()
def watch(
    job: JobName,
    as_json: Annotated[bool, typer.Option("--json", help="One event a line.")] = False,
) -> None:
    """Follow a job to its end; the exit code is its result. Ctrl-C leaves it running."""
    client = Client()
    job_id = client.job(job)["id"]
    if as_json:
        for event in stream_events(client, job_id):
            sys.stdout.write(f"{json.dumps(event)}\n")
            sys.stdout.flush()
    else:
        follow(client, job_id)
    _exit_like(client.job(job_id))


@app.command()
def logs(
    job: JobName,
    is_following: Annotated[bool, typer.Option("--follow", "-f")] = False,
    tail: Annotated[int | None, typer.Option(min=1)] = None,
    grep: Annotated[str, typer.Option(help="Only lines with this text.")] = "",
) -> None:
    """Print what the training has printed."""
    client = Client()
    job_id = client.job(job)["id"]
    for text in log_lines(client, job_id, is_following=is_following, tail=tail, grep=grep):
        sys.stdout.write(text)
        sys.stdout.flush()


@app.command()
def pull(
    job: JobName,
    step: Annotated[int | None, typer.Option(help="Default: the newest checkpoint.")] = None,
    to: Annotated[Path | None, typer.Option(help="Default: a folder with the job's id.")] = None,
) -> None:
    """Download what a job has learned; each file is verified."""
    client = Client()
    job_id = client.job(job)["id"]
    checkpoint = _checkpoint(client, job_id, step)
    folder = (to or Path(job_id)).resolve()
    for entry in checkpoint["files"]:
        if entry["part"] != "weights":
            continue
        target = (folder / entry["path"]).resolve()
        if not target.is_relative_to(folder):
            raise UserError(f"The server names a file outside of {folder}: {entry['path']}")
        path = f"{JOBS}/{job_id}/checkpoints/{checkpoint['step_number']}/files/{entry['path']}"
        client.download(path, target, size=entry["size_bytes"], sha256=entry["sha256"])
        say(f"✓ {entry['path']}  {entry['size_bytes']:,} bytes, verified")
    sys.stdout.write(f"{folder}\n")


@app.command()
def cancel(job: JobName, save: bool = False, as_json: AsJson = False) -> None:
    """Cancel a job; --save keeps a last checkpoint."""
    _act(job, "cancel", as_json, save=save)


@app.command()
def pause(job: JobName, as_json: AsJson = False) -> None:
    """Pause a job; it saves and frees its device."""
    _act(job, "pause", as_json)


@app.command()
def resume(job: JobName, as_json: AsJson = False) -> None:
    """Let a paused job go on exactly where it stopped."""
    _act(job, "resume", as_json)


@app.command()
def retry(job: JobName, settings: TrainerSettings = None, as_json: AsJson = False) -> None:
    """Try a failed or cancelled job again from its last checkpoint, with --set changed."""
    client = Client()
    changes = {"training": dict(map(_setting, settings or []))}
    made = client.post(f"{JOBS}/{client.job(job)['id']}/retry", changes)
    put(made, as_json, made["id"])


@app.command()
def wait(
    job: JobName,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds; then it exits 8.")] = None,
) -> None:
    """Wait for a job's end without a word; the exit code is its result."""
    client = Client()
    ends = time.monotonic() + timeout if timeout is not None else None
    while (found := client.job(job))["status"] not in TERMINAL:
        if ends is not None and time.monotonic() >= ends:
            raise UserError(f"{found['id']} is still {found['status']}.", code=Exit.TIMED_OUT)
        time.sleep(WAIT_SECONDS)
    _exit_like(found)


@jobs.command("events")
def list_events(job: JobName) -> None:
    """Print a job's events as they come, one JSON object a line."""
    watch(job, as_json=True)


@jobs.command("metrics")
def show_metrics(job: JobName) -> None:
    """Print a job's metrics by step, as CSV."""
    client = Client()
    path = f"{JOBS}/{client.job(job)['id']}/metrics?format=csv"
    with client.stream(path) as response:
        for text in response.iter_text():
            sys.stdout.write(text)


@jobs.command("delete")
def delete(job: JobName, as_json: AsJson = False) -> None:
    """Delete a job that has ended, with all that it learned."""
    client = Client()
    done = client.delete(f"{JOBS}/{client.job(job)['id']}")
    put(done, as_json, done["id"])


@jobs.command("open")
def open_page(job: JobName) -> None:
    """Open a job's page in the browser."""
    client = Client()
    url = f"{client.url}/jobs/{client.job(job)['id']}"
    typer.launch(url)
    put(url, False, url)


VERBS: dict[str, Callable[..., None]] = {
    "create": submit,
    "plan": plan,
    "list": list_jobs,
    "ls": list_jobs,
    "show": show,
    "watch": watch,
    "wait": wait,
    "logs": logs,
    "cancel": cancel,
    "pause": pause,
    "resume": resume,
    "retry": retry,
}
for name, command in VERBS.items():
    jobs.command(name, hidden=name == "ls")(command)
checkpoints.command("download")(pull)


def _checkpoint(client: Client, job_id: str, step: int | None) -> Any:
    if step is not None:
        return client.get(f"{JOBS}/{job_id}/checkpoints/{step}")
    newest = client.get(f"{JOBS}/{job_id}/checkpoints", limit=1)["data"]
    if not newest:
        raise UserError(
            "The job has saved nothing yet.", f"tuneyard watch {job_id}", code=Exit.NOT_FOUND
        )
    return newest[0]


def _act(name: str, action: str, as_json: bool, **query: Any) -> None:
    client = Client()
    job = client.post(f"{JOBS}/{client.job(name)['id']}/{action}", **query)
    put(job, as_json, "\t".join(job_row(job)))


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


def _exit_like(job: dict[str, Any]) -> None:
    codes = {"failed": Exit.JOB_FAILED, "cancelled": Exit.JOB_CANCELLED}
    if job["status"] in TERMINAL and job["status"] in codes:
        message = (job["error"] or {}).get("message", f"The job was {job['status']}.")
        raise UserError(message, code=codes[job["status"]])


def _given(**options: object) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items() if value is not None]


def _replace_by(module: str, *arguments: str) -> None:
    """Become another program: the server's own code is not loaded into this one."""
    # -P: a folder named `core` in the user's folder is not ours.
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])


if __name__ == "__main__":
    main()
