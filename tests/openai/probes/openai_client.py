"""Run by the tests: makes every call that this version of the client has, prints what came of it.

The argument is JSON: where the server is, and what there is on it.
"""

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
from openai import OpenAI

PLAN = json.loads(sys.argv[1])
ROWS = PLAN["rows"].encode()
RESOURCES = ("files", "uploads", "models", "fine_tuning", "webhooks")
RESULTS: dict[str, Any] = {}

client = OpenAI(
    base_url=f"{PLAN['url']}/v1",
    api_key=PLAN["key"],
    max_retries=0,
    _strict_response_validation=PLAN["strict"],
)


def attempt(name: str, call: Callable[[], Any]) -> Any:
    """Make a call; its result, or its error in words."""
    try:
        RESULTS[name] = call()
    except Exception as error:  # noqa: BLE001 - whatever a client raises is the finding
        RESULTS[name] = {
            "error": type(error).__name__,
            "status": getattr(error, "status_code", None),
            "code": getattr(error, "code", None),
            "param": getattr(error, "param", None),
            "request_id": bool(getattr(error, "request_id", None)),
        }
    return RESULTS[name]


def surface(resource: Any, path: str) -> Iterator[str]:
    """Every call below a resource of this version."""
    for name in dir(type(resource)):
        if name.startswith(("_", "with_")):
            continue
        value = getattr(resource, name)
        if callable(value):
            yield f"{path}.{name}"
        else:
            yield from surface(value, f"{path}.{name}")


def try_files() -> None:
    """Files, in the order that a user has them."""
    files = client.files
    hour = {"anchor": "created_at", "seconds": 3600}
    file = files.create(file=("rows.jsonl", ROWS), purpose="fine-tune", expires_after=hour)
    attempt("files.create", lambda: [file.object, file.bytes, file.status, file.purpose])
    attempt("expires_at", lambda: file.expires_at - file.created_at)
    attempt("files.retrieve", lambda: files.retrieve(file.id) == file)
    attempt("files.list", lambda: file.id in [item.id for item in files.list(limit=1)])
    attempt("files.content", lambda: files.content(file.id).read() == ROWS)
    attempt("files.wait_for_processing", lambda: files.wait_for_processing(file.id).status)
    with files.with_streaming_response.content(file.id) as response:
        streamed = b"".join(response.iter_bytes())
    attempt("streamed", lambda: streamed == ROWS)
    if hasattr(files, "retrieve_content"):
        attempt("files.retrieve_content", lambda: files.retrieve_content(file.id) == ROWS.decode())
    attempt("files.delete", lambda: files.delete(file.id).deleted)
    attempt("deleted_file", lambda: files.retrieve(file.id))
    bad = b'{"text": "a"}\n{"text": 5}\n'
    attempt("bad_rows", lambda: files.create(file=bad, purpose="fine-tune"))


def try_uploads() -> None:
    """Files in parts."""
    uploads = client.uploads

    def create() -> Any:
        return uploads.create(
            bytes=len(ROWS), filename="rows.jsonl", mime_type="text/plain", purpose="fine-tune"
        )

    upload = create()
    attempt("uploads.create", lambda: [upload.status, upload.expires_at - upload.created_at])
    parts = [uploads.parts.create(upload.id, data=data) for data in (ROWS[:50], ROWS[50:])]
    attempt("uploads.parts.create", lambda: [part.object for part in parts])
    done = uploads.complete(
        upload.id, part_ids=[part.id for part in parts], md5=hashlib.md5(ROWS).hexdigest()
    )
    attempt("uploads.complete", lambda: [done.status, done.file.bytes, done.file.status])
    attempt("uploads.cancel", lambda: uploads.cancel(create().id).status)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_bytes(ROWS)
        chunked = uploads.upload_file_chunked(
            file=path, mime_type="text/plain", purpose="fine-tune", part_size=100
        )
    content = client.files.content(chunked.file.id).read()
    attempt("uploads.upload_file_chunked", lambda: content == ROWS)
    attempt("expired_part", lambda: uploads.parts.create(upload.id, data=b"late"))


def try_jobs() -> None:
    """Jobs; nobody runs them."""
    jobs = client.fine_tuning.jobs
    file = client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune")

    def create(**more: Any) -> Any:
        fields = {"model": PLAN["model"], "training_file": file.id, **more}
        return jobs.create(**fields)

    auto = {"n_epochs": "auto", "batch_size": 2, "learning_rate_multiplier": 0.5}
    job = create(
        validation_file=file.id,
        seed=7,
        suffix="mine",
        metadata={"team": PLAN["team"]},
        integrations=None,
        method={"type": "supervised", "supervised": {"hyperparameters": auto}},
        extra_body={"peft": {"r": 4}},
    )
    attempt("fine_tuning.jobs.create", lambda: [job.status, job.seed, job.object, job.metadata])
    attempt("extra_body", lambda: job.model_extra["peft"])
    attempt("fine_tuning.jobs.retrieve", lambda: jobs.retrieve(job.id).id == job.id)
    attempt("fine_tuning.jobs.pause", lambda: jobs.pause(job.id).status)
    attempt("fine_tuning.jobs.resume", lambda: jobs.resume(job.id).status)
    attempt("fine_tuning.jobs.cancel", lambda: jobs.cancel(job.id).status)
    others = [create(metadata={"team": PLAN["team"]}).id for _ in range(2)]
    mine = {"team": PLAN["team"]}
    listed = [item.id for item in jobs.list(limit=1, metadata=mine)]
    attempt("fine_tuning.jobs.list", lambda: listed == [*others[::-1], job.id])
    once = {"Idempotency-Key": PLAN["team"]}
    keyed = [create(extra_headers=once).id for _ in range(2)]
    attempt("idempotent", lambda: keyed[0] == keyed[1])
    attempt("conflict", lambda: create(seed=1, extra_headers=once))
    attempt("bad_argument", lambda: create(extra_body={"training": {"learning_rat": 1}}))
    attempt("bad_state", lambda: jobs.pause(job.id))
    attempt("integration", lambda: create(integrations=[PLAN["wandb"]]))
    attempt("no_method", lambda: create(method={"type": "reinforcement"}))


def try_results() -> None:
    """What a job that has ended left."""
    tuning = client.fine_tuning
    done = tuning.jobs.retrieve(PLAN["done"])
    attempt("done", lambda: [done.status, done.fine_tuned_model, done.trained_tokens])
    attempt("results", lambda: client.files.content(done.result_files[0]).text)
    kind = client.files.list(purpose="fine-tune-results")
    attempt("result_file", lambda: done.result_files[0] in [item.id for item in kind])
    events = list(tuning.jobs.list_events(done.id, limit=2))
    attempt("fine_tuning.jobs.list_events", lambda: [event.message for event in events])
    points = [event.data for event in events if event.type == "metrics"]
    attempt("metrics", lambda: [point["train_loss"] for point in points])
    checkpoints = list(tuning.jobs.checkpoints.list(done.id, limit=1))
    steps = [item.step_number for item in checkpoints]
    attempt("fine_tuning.jobs.checkpoints.list", lambda: steps)
    try_permissions(checkpoints[-1].fine_tuned_model_checkpoint)


def try_permissions(checkpoint: str) -> None:
    """Who else may use a checkpoint."""
    permissions = client.fine_tuning.checkpoints.permissions
    path = "fine_tuning.checkpoints.permissions"
    made = permissions.create(checkpoint, project_ids=["proj_b", "proj_c"]).data
    attempt(f"{path}.create", lambda: [item.project_id for item in made])
    if hasattr(permissions, "list"):
        listed = permissions.list(checkpoint, order="ascending", limit=1)
        attempt(f"{path}.list", lambda: sorted(item.project_id for item in listed))
    found = permissions.retrieve(checkpoint, project_id="proj_c").data
    attempt(f"{path}.retrieve", lambda: [item.project_id for item in found])
    answers = [permissions.delete(item.id, fine_tuned_model_checkpoint=checkpoint) for item in made]
    attempt(f"{path}.delete", lambda: [item.deleted for item in answers])


def try_models() -> None:
    """Models by their names, slashes and all."""
    models = client.models
    names = [item.id for item in models.list()]
    attempt("models.list", lambda: [PLAN["model"] in names, PLAN["doomed"] in names])
    attempt("models.retrieve", lambda: models.retrieve(PLAN["doomed"]).id == PLAN["doomed"])
    attempt("models.delete", lambda: models.delete(PLAN["doomed"]).deleted)
    attempt("deleted_model", lambda: models.retrieve(PLAN["doomed"]))
    attempt("operators_model", lambda: models.delete(PLAN["model"]))


def try_graders() -> None:
    """What is not offered."""
    graders = client.fine_tuning.alpha.graders
    grader = {"type": "string_check", "name": "a", "input": "a", "operation": "eq"}
    grader["reference"] = "a"
    path = "fine_tuning.alpha.graders"
    attempt(f"{path}.run", lambda: graders.run(grader=grader, model_sample="a"))
    attempt(f"{path}.validate", lambda: graders.validate(grader=grader))


def try_webhooks() -> None:
    """Webhooks: their signatures in every version, their endpoints in new ones."""
    webhooks, signed = client.webhooks, PLAN["signed"]
    body, headers, secret = signed["body"], signed["headers"], signed["secret"]
    event = webhooks.unwrap(body, headers, secret=secret)
    attempt("webhooks.unwrap", lambda: [event.type, event.data.id])
    attempt(
        "webhooks.verify_signature",
        lambda: webhooks.verify_signature(body, headers, secret=secret),
    )
    attempt("forged", lambda: webhooks.unwrap(f"{body} ", headers, secret=secret))
    if not hasattr(webhooks, "create"):
        return
    types = webhooks.event_types.list().data
    attempt("webhooks.event_types.list", lambda: types)
    made = webhooks.create(name="mine", url=PLAN["receiver"], event_types=types)
    attempt("webhooks.create", lambda: made.signing_secret[:6])
    attempt("webhooks.retrieve", lambda: webhooks.retrieve(made.id).url == PLAN["receiver"])
    attempt("webhooks.list", lambda: made.id in [item.id for item in webhooks.list(limit=1)])
    attempt("webhooks.update", lambda: webhooks.update(made.id, name="other").name)
    rotated = webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
    attempt("webhooks.rotate_secret", lambda: rotated.signing_secret != made.signing_secret)
    tested = webhooks.test(made.id, event_type=types[0])
    attempt("webhooks.test", lambda: [tested.status_code, tested.success])
    attempt("webhooks.delete", lambda: webhooks.delete(made.id).deleted)


def try_keys() -> None:
    """Who may not come in, and what is not there."""
    with OpenAI(base_url=f"{PLAN['url']}/v1", api_key="wrong", max_retries=0) as stranger:
        attempt("wrong_key", lambda: stranger.files.list())
    attempt("no_job", lambda: client.fine_tuning.jobs.retrieve("ftjob-nothing"))
    raw = client.files.with_raw_response.list()
    attempt("request_id", lambda: bool(raw.headers["x-request-id"]))


for part in (try_files, try_uploads, try_jobs, try_results, try_models, try_graders):
    part()
try_webhooks()
try_keys()
calls = [call for name in RESOURCES for call in surface(getattr(client, name), name)]
found = {"version": openai.__version__, "surface": calls, "results": RESULTS}
print(json.dumps(found, default=repr))
