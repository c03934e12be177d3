"""What makes a job: `plan`, `submit`, `clone` and `retry`."""

from typing import Annotated, Any

import typer

from cli.body import JobOptions, body_of, job_body, training_of, upload_data, with_job_options
from cli.client import JOBS, PLAN, Client
from cli.commands.jobs import exit_like
from cli.errors import Exit, UserError
from cli.flags import flags
from cli.options import AsJson, JobName
from cli.output import put, say, width
from cli.planned import fits_somewhere, fitting_options, plan_text
from cli.watch import follow

Words = Annotated[list[str] | None, typer.Argument(metavar="[MODEL] [--SETTING VALUE]...")]
Free = Annotated[list[str] | None, typer.Argument(metavar="[--SETTING VALUE]...")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Follow the job to its end.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check and plan it; print the body.")]


@with_job_options
def plan(*, words: Words = None, options: JobOptions, as_json: AsJson = False) -> None:
    """Show what fine-tuning MODEL on a file would take: memory, time, disk, and which batch.

    Examples:
    tuneyard plan Qwen/Qwen2.5-0.5B-Instruct -f train.jsonl --lora-rank 16
    tuneyard plan local/tiny -f train.jsonl --effective-batch 32 --max_length 1024
    """
    found, _ = _planned(Client(), options, job_body(options, words or []))
    put(found, as_json, plan_text(found, width=width()))
    _check_fits(found)


@with_job_options
def submit(
    *,
    words: Words = None,
    options: JobOptions,
    watch: Watch = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Upload a file and fine-tune MODEL on it.

    Every argument of the trainer is an option, too: --learning_rate 1e-4.

    Examples:
    tuneyard submit Qwen/Qwen2.5-0.5B-Instruct -f train.jsonl --lora-rank 16 --watch
    tuneyard submit local/tiny -f train.jsonl --name faq-v2 --epochs 3 --eval-file test.jsonl
    tuneyard submit --from-file job.json --dry-run
    """
    _submit(options, job_body(options, words or []), watch=watch, dry_run=dry_run, as_json=as_json)


@with_job_options
def clone(
    *,
    job: JobName,
    words: Free = None,
    options: JobOptions,
    watch: Watch = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make a job like another one, with some settings changed.

    Examples:
    tuneyard jobs clone faq-v2 --name faq-v3 --learning_rate 1e-4
    """
    base = body_of(Client().job(job))
    body = job_body(options, words or [], base)
    _submit(options, body, watch=watch, dry_run=dry_run, as_json=as_json)


def retry(
    job: JobName,
    words: Free = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="name=value of SFTConfig; may be repeated.")
    ] = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Try a failed or cancelled job again from its last checkpoint, with settings changed.

    Examples:
    tuneyard retry tone-test --max_length 1024 --watch
    """
    client = Client()
    changes = {"training": training_of(settings, words or [])}
    made = client.post(f"{JOBS}/{client.job(job)['id']}/retry", changes)
    _shown(client, made, watch=watch, as_json=as_json)


def _submit(
    options: JobOptions, body: dict[str, Any], *, watch: bool, dry_run: bool, as_json: bool
) -> None:
    client = Client()
    if dry_run:
        found, body = _planned(client, options, body)
        say(plan_text(found, width=width()))
        put(body, True, "")
        _check_fits(found)
        return
    made = upload_data(client, options, body)
    try:
        job = client.post(JOBS, body)
    except UserError as error:
        if error.code is not Exit.NO_SERVER:
            # Refused: who corrects the request sends the data with it again.
            _delete_files(client, made)
        raise
    _shown(client, job, watch=watch, as_json=as_json)


def _shown(client: Client, job: dict[str, Any], *, watch: bool, as_json: bool) -> None:
    name = job["user_provided_suffix"]
    say(f"✓ Created {f'{name}  ' if name else ''}{job['id']}")
    say(f"  {client.url}/jobs/{job['id']}")
    if not watch:
        put(job, as_json, job["id"])
        return
    follow(client, job["id"])
    job = client.job(job["id"])
    put(job, as_json, job["id"])
    exit_like(job)


def _planned(
    client: Client, options: JobOptions, body: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """The plan of a body, and the body as it is before its files are uploaded for good."""
    asked = dict(body)
    made = upload_data(client, options, asked, is_told=flags.is_debug)
    try:
        found = client.post(PLAN, asked)
    finally:
        _delete_files(client, made)
    for field, path in (("training_file", options.file), ("validation_file", options.eval_file)):
        if path is not None:
            asked[field] = str(path)
        elif field in body:
            asked[field] = body[field]
    return found, asked


def _delete_files(client: Client, file_ids: list[str]) -> None:
    for file_id in file_ids:
        client.delete(f"/v1/files/{file_id}")


def _check_fits(found: dict[str, Any]) -> None:
    if not fits_somewhere(found):
        change = fitting_options(found)
        hint = (
            f"It fits with {change}" if change else "No change makes it fit: a smaller model may."
        )
        raise UserError("This fits on no worker.", hint, code=Exit.DATA_REFUSED)
