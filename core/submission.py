"""From a request to a job that can run: every reference looked up, every argument checked."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from core.arguments import check_peft, check_quantization, check_training
from core.base_model import local_folder, parse_model, pin_model
from core.dataset import FileReport, check_mask, check_usable, needs_chat_template
from core.dataset.template_check import check_chat_template, check_row_template
from core.db import Transactions, database_now, project_of
from core.errors import (
    FileNotFound,
    Invalid,
    InvalidArgument,
    InvalidFile,
    InvalidModel,
    InvalidState,
    NotFound,
    Unavailable,
)
from core.files import get_file
from core.model_folder import check_model_folder
from core.models import File, Job
from core.plan.amount import DEFAULT_EPOCHS
from core.plan.planner import PlanRequest, decide, plan
from core.plan.reader import FactsReader
from core.refit import effective_batch
from core.resuming import beginning_of_retry, last_step
from core.room import Fleet, check_fits_ever
from core.spec import JobSpec, ResolvedSpec, parse_spec
from core.states import JobStatus
from core.streaming import check_streaming, same_rows

logger = logging.getLogger(__name__)

DEFAULT_SEED = 42
"""SFTConfig's own default."""
BASE_LEARNING_RATE = 2e-5
"""SFTConfig's default; OpenAI's learning_rate_multiplier is a factor on it."""
BASE_LORA_LEARNING_RATE = 2e-4
EFFECTIVE_BATCH = "effective_batch_size"


def resolve_spec(
    session: Session,
    spec: JobSpec,
    *,
    model_roots: Sequence[Path],
    max_attempts: int,
    reader: FactsReader,
    fleet: Fleet,
    project_id: str | None = None,
) -> ResolvedSpec:
    """Check everything about a request that can be known before a worker sees it."""
    project_id = project_id or project_of(session)
    request, warnings = _checked(session, spec, model_roots, project_id)
    decision = decide(session, request, reader, fleet)
    check_fits_ever(decision.taken, fleet)
    return ResolvedSpec(
        training=decision.training,
        base_model=request.base_model,
        seed=_seed(spec, decision.training),
        max_attempts=spec.max_attempts or max_attempts,
        warnings=(*warnings, *decision.warnings),
        plan=decision.taken,
    )


def is_prepared(spec: JobSpec, reader: FactsReader) -> bool:
    """Whether there is nothing to `prepare`."""
    has_templates = spec.chat_template is not None or spec.template is not None
    return not has_templates and reader.is_fetched(spec.model)


def prepare(database: Transactions, spec: JobSpec, reader: FactsReader) -> None:
    """What takes too long for a transaction: trials of templates, and what the Hub knows."""
    check_templates(database, spec)
    fetch_facts(spec, reader)


def check_templates(database: Transactions, spec: JobSpec) -> None:
    """Try a request's templates in a process of their own, on the first rows of its files.

    Files that are not there are said so by who looks for them in the transaction.
    """
    if spec.chat_template is not None:
        check_chat_template(spec.chat_template)
    if spec.template is not None:
        with database.read() as session:
            samples = _samples(session, spec)
        check_row_template(spec.template, samples)


def _samples(session: Session, spec: JobSpec) -> list[dict[str, Any]]:
    samples = []
    for file_id in filter(None, (spec.training_file, spec.validation_file)):
        with suppress(FileNotFound):
            report = get_file(session, file_id).report
            if report is not None and report["sample"] is not None:
                samples.append(report["sample"])
    return samples


def fetch_facts(spec: JobSpec, reader: FactsReader) -> None:
    """Ask the Hub about the model of a request, so that it can be planned for.

    A Hub that is away is no reason to refuse a job: it has no plan then. A model that nothing can
    load is one.
    """
    try:
        reader.prefetch(spec.model)
    except InvalidModel:
        raise
    except (Invalid, NotFound, Unavailable) as error:
        logger.info("no plan for %s: %s", spec.model, error.message)


def plan_spec(
    session: Session,
    spec: JobSpec,
    *,
    model_roots: Sequence[Path],
    reader: FactsReader,
    project_id: str | None = None,
) -> dict[str, Any]:
    """What a request would take, checked as `resolve_spec` does."""
    project_id = project_id or project_of(session)
    request, warnings = _checked(session, spec, model_roots, project_id)
    answer = plan(session, request, reader, Fleet.alive(session, now=database_now(session)))
    return answer | {"warnings": [*warnings, *answer["warnings"]]}


def _checked(
    session: Session, spec: JobSpec, model_roots: Sequence[Path], project_id: str
) -> tuple[PlanRequest, list[str]]:
    """The request with everything looked up, "auto" still in it, and warnings."""
    _check_method(spec)
    given, effective = _effective_batch(spec)
    checked = check_training(given)
    warnings = list(checked.warnings)
    if spec.peft is not None:
        warnings += check_peft(spec.peft).warnings
    if spec.quantization is not None:
        warnings += check_quantization(spec.quantization).warnings
    training = _with_hyperparameters(spec, checked.values)
    _check_evaluation(spec, training)
    check_streaming(spec.dataset, training)
    base_model = pin_model(session, spec.model, model_roots=model_roots, project_id=project_id)
    file = _check_data(session, spec, training, project_id)
    _check_model(spec, training, file, model_roots)
    _seed(spec, training)
    request = PlanRequest(
        training=training,
        base_model=base_model,
        peft=spec.peft,
        quantization=spec.quantization,
        memory_bytes=spec.resources.memory if spec.resources else None,
        effective_batch_size=effective,
        file=file,
        has_evaluation=spec.has_validation_data,
        project_id=project_id,
    )
    return request, warnings


def retry_spec(session: Session, job: Job, training: Mapping[str, Any]) -> JobSpec:
    """The request of a job that failed or was cancelled, with some trainer arguments changed.

    The effective batch must stay: a resume would otherwise train some rows twice. And there must be
    a step left, or a job without a checkpoint of its own would "succeed" at once.
    """
    if job.status not in (JobStatus.FAILED, JobStatus.CANCELLED):
        raise InvalidState(
            f"Job {job.id} is {job.status}; only a failed or cancelled job can be retried."
        )
    body = dict(job.spec)
    for name in ("method", "hyperparameters", EFFECTIVE_BATCH):
        body.pop(name, None)
    body["training"] = {**job.training, **training}
    if effective_batch(body["training"]) != effective_batch(job.training):
        raise InvalidArgument(
            f"The effective batch must stay {effective_batch(job.training)}, since the job goes on "
            "from a checkpoint; change micro-batch and accumulation together.",
            param="training.per_device_train_batch_size",
        )
    _check_steps_left(session, job, body["training"])
    if body.get("dataset") is not None:
        body["dataset"] = same_rows(job, body["training"])
    return parse_spec(body)


def _check_steps_left(session: Session, job: Job, training: Mapping[str, Any]) -> None:
    begin = beginning_of_retry(session, job)
    if begin is None:
        return
    name = "max_steps"
    steps = check_training({name: training.get(name, -1)}).values[name]
    if isinstance(steps, int) and steps <= 0:
        name = "num_train_epochs"
        steps = _steps_of_epochs(session.get_one(Job, begin.job_id), training)
    if isinstance(steps, int) and steps <= begin.step:
        raise InvalidArgument(
            f"The job would go on from its checkpoint of step {begin.step}, which leaves nothing "
            f"to train with {name} {training.get(name, DEFAULT_EPOCHS)}. Ask for more, or take "
            f"that checkpoint as it is: jobs/{begin.job_id}.step-{begin.step}.",
            param=f"training.{name}",
        )


def _steps_of_epochs(trained: Job, training: Mapping[str, Any]) -> int | None:
    """The last step on the rows that a job was trained on; None where they will be others."""
    name = "num_train_epochs"
    given = {name: training[name]} if name in training else {}
    is_open = isinstance(check_training(given).values.get(name), str)
    is_packed = bool(training.get("packing") or trained.training.get("packing"))
    cutting = ("packing", "max_length", "packing_strategy")
    is_cut_anew = any(training.get(key) != trained.training.get(key) for key in cutting)
    report = (trained.data_report or {}).get("train")
    if report is None or is_open or (is_packed and is_cut_anew):
        return None
    return last_step(training, report["sequences"])


def _check_method(spec: JobSpec) -> None:
    if spec.training_file is not None and spec.dataset is not None:
        raise InvalidArgument(
            "Give either training_file or dataset, not both.", param="training_file"
        )
    if spec.training_file is None and spec.dataset is None:
        raise InvalidArgument('"training_file" is required (or dataset).', param="training_file")
    if (
        spec.quantization is not None
        and spec.peft is None
        and parse_model(spec.model).kind != "job"
    ):
        raise InvalidArgument(
            "Quantized weights cannot be trained themselves; give peft (LoRA) settings too.",
            param="quantization",
        )


def _with_hyperparameters(spec: JobSpec, training: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's hyperparameters under the trainer's names; both at once would be ambiguous."""
    given = spec.openai_hyperparameters
    rate = given.learning_rate_multiplier
    if isinstance(rate, float):
        rate *= BASE_LEARNING_RATE if spec.peft is None else BASE_LORA_LEARNING_RATE
    mapped = {
        "num_train_epochs": ("n_epochs", given.n_epochs),
        "per_device_train_batch_size": ("batch_size", given.batch_size),
        "learning_rate": ("learning_rate_multiplier", rate),
    }
    merged = dict(training)
    for name, (theirs, value) in mapped.items():
        if value is None:
            continue
        if name in training:
            raise InvalidArgument(
                f"training.{name} and the hyperparameter {theirs} say the same thing; give one.",
                param=f"training.{name}",
            )
        merged[name] = value
    return merged


def _effective_batch(spec: JobSpec) -> tuple[dict[str, Any], int | None]:
    """The trainer's arguments, and the effective batch, which is also understood among them."""
    training, effective = dict(spec.training), spec.effective_batch_size
    if EFFECTIVE_BATCH not in training:
        return training, effective
    value = training.pop(EFFECTIVE_BATCH)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65_536:
        raise InvalidArgument(
            f"{EFFECTIVE_BATCH} must be a whole number from 1 to 65536.",
            param=f"training.{EFFECTIVE_BATCH}",
        )
    if effective not in (None, value):
        raise InvalidArgument(
            f"{EFFECTIVE_BATCH} and training.{EFFECTIVE_BATCH} differ; give one.",
            param=EFFECTIVE_BATCH,
        )
    return training, value


def _check_evaluation(spec: JobSpec, training: dict[str, Any]) -> None:
    if spec.has_validation_data:
        training.setdefault("eval_strategy", "epoch")
        return
    if training.get("eval_strategy", "no") != "no":
        raise InvalidArgument(
            "Evaluation needs data: give validation_file, or dataset.eval_split.",
            param="training.eval_strategy",
        )


def _seed(spec: JobSpec, training: Mapping[str, Any]) -> int:
    seed = training.get("seed")
    if spec.seed is not None and seed is not None and seed != spec.seed:
        raise InvalidArgument("seed and training.seed differ; give one.", param="training.seed")
    return int(spec.seed if spec.seed is not None else seed if seed is not None else DEFAULT_SEED)


def _check_model(
    spec: JobSpec, training: Mapping[str, Any], file: File | None, model_roots: Sequence[Path]
) -> None:
    """What a folder of this server tells about itself; others are known to the worker alone."""
    if parse_model(spec.model).kind != "local" or not model_roots:
        return
    is_chat = False
    if file is not None and file.report is not None and spec.chat_template is None:
        is_chat = needs_chat_template(
            FileReport.from_dict(file.report),
            training,
            template=spec.template is not None,
            shape=spec.shape,
        )
    folder = local_folder(spec.model, model_roots)
    check_model_folder(spec.model, folder, is_chat=is_chat)


def _check_data(
    session: Session, spec: JobSpec, training: Mapping[str, Any], project_id: str
) -> File | None:
    """The training file, after a look at what both files hold; None for a Hub dataset."""
    found: dict[str, File] = {}
    has_template = spec.template is not None
    text_field = training.get("dataset_text_field")
    for param in ("training_file", "validation_file"):
        file_id = getattr(spec, param)
        if file_id is None:
            continue
        file = get_file(session, file_id, project_id=project_id, param=param)
        if file.purpose != "fine-tune" or file.report is None:
            raise InvalidFile(
                f'File {file.id} was uploaded for "{file.purpose}"; '
                'upload it with purpose "fine-tune" to train on it.',
                param=param,
            )
        report = FileReport.from_dict(file.report)
        check_usable(
            report, text_field=text_field, template=has_template, param=param, shape=spec.shape
        )
        check_mask(report, training, template=has_template, shape=spec.shape)
        found[param] = file
    return found.get("training_file")
