"""Brings everything to this machine that a training child needs: it has no network itself."""

import json
import os
import selectors
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import orjson

from core.arguments import CheckedArguments, check_peft, check_quantization
from core.base_model import check_links, find_model_checkpoint, local_folder, parse_model
from core.checkpoints import STATE_FILES, Part, entries, mark_corrupt
from core.db import Database, database_now
from core.errors import InvalidModel, NotFound
from core.events import NewEvent
from core.failure import Failure
from core.files import get_file
from core.model_check import ADAPTER, check_adapter, check_complete
from core.models import Checkpoint, Job
from core.queue import Lease, note_resume, record
from core.resuming import resumable
from core.settings import Settings
from core.states import EventKind, FailureReason, Level
from core.storage import CorruptObject, Storage
from core.streaming import streamed_rows
from worker.loglines import LineSplitter
from worker.tokencache import TokenCache, tokens_key

MAX_ADAPTER_DEPTH = 8
LOOK_SECONDS = 0.2
TRUSTED = frozenset({"HF_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY"})
"""Variables whose URLs the operator chose: a fetch reaches them wherever they are."""


class InputError(Exception):
    """An input that cannot be had; carries the failure of the attempt."""

    def __init__(self, failure: Failure):
        self.failure = failure
        super().__init__(failure.message)


class Interrupted(Exception):
    """Somebody wants the attempt to stop while it gathers its inputs."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A model folder on this machine; with an adapter on top that is to be trained on."""

    folder: Path
    public_name: str
    adapter: Path | None = None
    revision: str | None = None
    """Commit of what came from the Hub."""


@dataclass(slots=True)
class Inputs:
    """Gathers the inputs of one attempt below `scratch`. `check` raises Interrupted to stop it."""

    settings: Settings
    database: Database
    storage: Storage
    lease: Lease
    check: Callable[[], None]
    on_log: Callable[[str], None]
    cache: Path = field(init=False)
    tokens: TokenCache = field(init=False)

    def __post_init__(self) -> None:
        self.cache = self.settings.scratch_folder / "cache"
        limit = self.settings.token_cache_bytes
        self.tokens = TokenCache(self.cache / "tokens", limit_bytes=limit)

    def order(self, job: Job, scratch: Path) -> dict[str, Any]:
        """The training child's order, with everything in it on this machine."""
        model = self.model(job.base_model, job.project_id, revision=job.model_revision)
        self._pin(job, model)
        train, evaluation = self._data(job, model.folder)
        for source in filter(None, (train, evaluation)):
            self.tokens.lend(source["tokens_key"], scratch / "tokens")
        return {
            "job_id": job.id,
            "attempt": self.lease.attempt,
            "seed": job.seed,
            "model_dir": str(model.folder),
            "adapter_dir": str(model.adapter) if model.adapter else None,
            "public_model": model.public_name,
            "train": train,
            "eval": evaluation,
            "template": job.spec.get("template"),
            "shape": job.spec.get("shape"),
            "chat_template": job.spec.get("chat_template"),
            "max_masked_fraction": job.spec.get("max_masked_fraction"),
            "training": job.training,
            "peft": _checked(check_peft, job.spec.get("peft")),
            "quantization": _checked(check_quantization, job.spec.get("quantization")),
            "memory_bytes": (job.spec.get("resources") or {}).get("memory"),
            "sample_prompts": job.spec.get("sample_prompts", []),
            "scratch": str(scratch),
            "resume_from": self._resume(job, scratch),
        }

    def _pin(self, job: Job, model: BaseModel) -> None:
        """What is trained on stays what it is, wherever the Hub's repository goes meanwhile."""
        if model.revision == job.model_revision:
            return
        with self.database.write() as session:
            now = database_now(session)
            record(session, self.lease, [], now=now, model_revision=model.revision)

    def model(
        self, name: str, project_id: str, *, revision: str | None = None, depth: int = 0
    ) -> BaseModel:
        """The model of this name in a project; an adapter brings its own base along.

        What comes from the Hub is of the commit `revision`, or of the newest one.
        """
        try:
            return self._checked_model(name, project_id, revision, depth)
        except InvalidModel as error:
            raise _refuse(FailureReason.INVALID_MODEL, error.message, "model") from error

    def _checked_model(
        self, name: str, project_id: str, revision: str | None, depth: int
    ) -> BaseModel:
        parsed = parse_model(name)
        try:
            if parsed.kind == "local":
                folder = local_folder(name, self.settings.model_roots)
                check_complete(name, folder)
                return BaseModel(folder, name)
            if parsed.kind == "hub":
                found = self._from_hub({"kind": "model", "name": name, "revision": revision})
                folder = Path(found["path"])
                check_links(name, folder, (self.cache / "hub").resolve())
                check_complete(name, folder)
                return BaseModel(folder, name, revision=found["revision"])
            with self.database.read(project_id=project_id) as session:
                checkpoint = find_model_checkpoint(session, parsed)
                maker = session.get_one(Job, checkpoint.job_id)
        except NotFound as error:
            raise _refuse(FailureReason.MODEL_NOT_FOUND, error.message, "model") from error
        folder = self._checkpoint(checkpoint, "weights")
        if not (folder / ADAPTER).is_file():
            check_complete(name, folder)
            return BaseModel(folder, name)
        base_name = check_adapter(name, folder)
        if depth >= MAX_ADAPTER_DEPTH:
            raise _refuse(FailureReason.INVALID_MODEL, "Too many adapters in a row.", "model")
        # What a permitted checkpoint began from is its own project's, and of the commit that its
        # adapter was trained on.
        base = self.model(
            base_name,
            maker.project_id,
            revision=revision or maker.model_revision,
            depth=depth + 1,
        )
        return replace(base, adapter=folder)

    def _data(self, job: Job, model: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
        train, evaluation = None, None
        dataset = job.spec.get("dataset")
        if dataset is not None:
            train = self._split(job, dataset, "train", model)
            if dataset.get("eval_split"):
                evaluation = self._split(job, dataset, "eval", model)
        if job.training_file is not None:
            train = self._file(job, job.training_file, "training_file", model)
        if job.validation_file is not None:
            evaluation = self._file(job, job.validation_file, "validation_file", model)
        assert train is not None
        return train, evaluation

    def _split(
        self, job: Job, dataset: dict[str, Any], use: Literal["train", "eval"], model: Path
    ) -> dict[str, Any]:
        is_train = use == "train"
        # What was trained on stays what it was, wherever its branch goes meanwhile.
        seen = (job.data_report or {}).get(use) or {}
        request = {
            "kind": "dataset",
            "name": dataset["path"],
            "config": dataset.get("name"),
            "split": dataset.get("split", "train") if is_train else dataset["eval_split"],
            "revision": seen.get("revision") or dataset.get("revision"),
        }
        if dataset.get("streaming"):
            is_shuffled = is_train and job.training.get("shuffle_dataset", False)
            request["stream"] = {
                "rows": streamed_rows(job.training) if is_train else None,
                "seed": job.seed if is_shuffled else None,
            }
        fetched = self._from_hub(request)
        source = {"kind": "saved", "path": fetched["path"], "revision": fetched["revision"]}
        return self._with_tokens(job, source, model)

    def _file(self, job: Job, file_id: str, param: str, model: Path) -> dict[str, Any]:
        try:
            with self.database.read(project_id=job.project_id) as session:
                file = get_file(session, file_id)
        except NotFound as error:
            raise _refuse(FailureReason.INVALID_TRAINING_FILE, error.message, param) from error
        path = self.storage.local_path(file.storage_key)
        if path is None:
            path = self.cache / "files" / file.sha256
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                self._fetch(file.storage_key, path, file.sha256, param)
        report = file.report or {}
        kind, compression = report.get("format", "jsonl"), report.get("compression")
        source = {"kind": kind, "path": str(path), "compression": compression}
        return self._with_tokens(job, source, model, digest=file.sha256)

    def _with_tokens(
        self, job: Job, source: dict[str, Any], model: Path, *, digest: str | None = None
    ) -> dict[str, Any]:
        """Add how the tokens of these rows are named."""
        return source | {"tokens_key": tokens_key(job, source, model, digest=digest)}

    def _fetch(self, key: str, path: Path, sha256: str, param: str) -> None:
        self.check()
        try:
            self.storage.fetch(key, path, sha256=sha256)
        except (NotFound, CorruptObject) as error:
            message = f"The bytes of {param} are gone or damaged in storage."
            raise _refuse(FailureReason.INVALID_TRAINING_FILE, message, param) from error

    def _checkpoint(self, checkpoint: Checkpoint, part: Part) -> Path:
        """One part of a checkpoint as a folder in the cache, verified."""
        folder = self.cache / checkpoint.prefix / part
        if folder.exists():
            return folder
        try:
            with _appearing(folder) as staging:
                for entry in entries(checkpoint, part):
                    self.check()
                    key = f"{checkpoint.prefix}/{entry.path}"
                    self.storage.fetch(key, _below(staging, entry.path), sha256=entry.sha256)
        except (NotFound, CorruptObject) as error:
            message = f"The checkpoint jobs/{checkpoint.job_id}.step-{checkpoint.step} is damaged."
            raise _refuse(FailureReason.INVALID_MODEL, message, "model") from error
        return folder

    def _resume(self, job: Job, scratch: Path) -> str | None:
        """The newest checkpoint that is whole, fetched; None to begin at step 0."""
        with self.database.read() as session:
            candidates = resumable(session, job)
        for checkpoint in candidates:
            folder = scratch / f"resume-{checkpoint.step}"
            damage = self._damage(checkpoint, folder)
            with self.database.write() as session:
                now = database_now(session)
                if damage is None:
                    note_resume(session, self.lease, step=checkpoint.step, now=now)
                    return str(folder)
                mark_corrupt(session, self.lease, checkpoint, reason=damage, now=now)
            shutil.rmtree(folder, ignore_errors=True)
        if candidates:
            self._warn("No checkpoint is whole; the training begins again at step 0")
        return None

    def _damage(self, checkpoint: Checkpoint, folder: Path) -> str | None:
        """Fetch a checkpoint to resume from; what is wrong with it, or None."""
        present = {entry.path for entry in entries(checkpoint)}
        absent = sorted(_REQUIRED_STATE - present)
        if absent:
            return f"{absent[0]} is missing"
        for entry in entries(checkpoint):
            self.check()
            key = f"{checkpoint.prefix}/{entry.path}"
            try:
                self.storage.fetch(key, _below(folder, entry.path), sha256=entry.sha256)
            except NotFound:
                return f"{entry.path} is missing"
            except CorruptObject:
                return f"{entry.path} does not match its hash"
        return None

    def _warn(self, message: str) -> None:
        event = NewEvent(kind=EventKind.MESSAGE, level=Level.WARN, message=message)
        with self.database.write() as session:
            record(session, self.lease, [event], now=database_now(session), step=0)

    def _from_hub(self, request: dict[str, Any]) -> dict[str, Any]:
        """Fetch a model or dataset in a process of its own, which alone has network and token."""
        folder = self.cache / "hub"
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "worker.fetch"]
        answer: dict[str, Any] = {}
        environment = _hub_environment(self.settings, folder)
        walls = {
            "allowed": [str(network) for network in self.settings.egress_allow],
            "trusted": [environment[name] for name in environment if name.upper() in TRUSTED],
        }
        with subprocess.Popen(
            [*command, json.dumps(request | walls | {"folder": str(folder)})],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            try:
                for line in self._lines_of(process):
                    if line.startswith('{"tuneyard":'):
                        answer = orjson.loads(line)["tuneyard"]
                    else:
                        self.on_log(line)
            finally:
                process.kill()
        if "path" in answer:
            return answer
        reason = FailureReason.of(answer.get("code", "internal"))
        message = answer.get("message", f"Fetching {request['name']} from the Hub failed.")
        raise _refuse(reason, message, request["kind"])

    def _lines_of(self, process: subprocess.Popen[bytes]) -> Iterator[str]:
        """What a process prints, while somebody may want us to stop."""
        assert process.stdout is not None
        splitter = LineSplitter()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                self.check()
                if not selector.select(timeout=LOOK_SECONDS):
                    continue
                data = os.read(process.stdout.fileno(), 65536)
                yield from splitter.feed(data) if data else splitter.finish()
                if not data:
                    return


_REQUIRED_STATE = STATE_FILES - {"scaler.pt"}


def _refuse(reason: FailureReason, message: str, param: str) -> InputError:
    return InputError(Failure(reason=reason, message=message, param=param))


def _below(folder: Path, path: str) -> Path:
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A staging folder that becomes `folder` at once when its content is complete."""
    staging = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _hub_environment(settings: Settings, folder: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in {"PATH", "LANG", "VIRTUAL_ENV", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"}
        or name.lower() in {"http_proxy", "https_proxy", "no_proxy"}
    }
    kept |= {"HOME": str(folder), "HF_HOME": str(folder), "HF_ENDPOINT": settings.hf_endpoint}
    # What Xet downloads, it downloads past the wall that looks at addresses.
    kept |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "PYTHONUNBUFFERED": "1"}
    if settings.hf_token:
        kept["HF_TOKEN"] = settings.hf_token
    return kept


def _checked(
    check: Callable[[dict[str, Any]], CheckedArguments], given: dict[str, Any] | None
) -> dict[str, Any] | None:
    """What reaches the library: without what a request only repeats."""
    return None if given is None else check(given).values
