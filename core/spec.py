"""The body of a job request: OpenAI's fields, and ours beside them."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from core.dataset import ShapeName
from core.errors import InvalidArgument, UnknownArgument

Auto = Literal["auto"]
Label = Annotated[str, Field(max_length=512)]
Prompt = Annotated[str, Field(min_length=1, max_length=4096)]
LabelKey = Annotated[str, Field(min_length=1, max_length=64)]


Body = TypeVar("Body", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Hyperparameters(_Strict):
    """OpenAI's names; each is also there under the trainer's own name in `training`."""

    n_epochs: Auto | Annotated[int, Field(ge=1, le=50)] | None = None
    """`training.num_train_epochs`."""
    batch_size: Auto | Annotated[int, Field(ge=1, le=256)] | None = None
    """`training.per_device_train_batch_size`."""
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Factor on 2e-5, or on 2e-4 for LoRA: `training.learning_rate`."""


class Supervised(_Strict):
    """Settings of supervised fine-tuning."""

    hyperparameters: Hyperparameters = Hyperparameters()


class Method(_Strict):
    """How to train. Only supervised fine-tuning is offered."""

    type: Literal["supervised"] = "supervised"
    supervised: Supervised = Supervised()


def _no_tracker(integrations: list[JsonValue]) -> list[JsonValue]:
    if integrations:
        raise ValueError(
            "no tracker is connected, since what trains here has no network; leave it out, and "
            "take the metrics from the events or from result_files"
        )
    return integrations


class DatasetSpec(_Strict):
    """A dataset of the Hugging Face Hub, in place of an uploaded file."""

    path: Annotated[
        str,
        Field(
            max_length=193,
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?$",
        ),
    ]
    """Its id, like `stanfordnlp/imdb`."""
    name: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """Its configuration, where it has several."""
    split: Annotated[str, Field(min_length=1, max_length=255)] = "train"
    """The split to train on; slices like `train[:1000]` are allowed."""
    eval_split: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """The split to evaluate on."""
    revision: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """Branch, tag or commit. Later attempts read the commit that the first one trained on."""
    streaming: bool = False
    """Whether no more rows of `split` are fetched than `training.max_steps` will see."""


class Resources(_Strict):
    """What a job may use."""

    memory: Annotated[int, Field(ge=64 * 1024**2, le=2**50)] | None = None
    """Bytes that the training process may hold, on the device that it trains on."""


class JobSpec(_Strict):
    """A request to fine-tune one model on one dataset."""

    model: Annotated[str, Field(min_length=1, max_length=255)]
    """Hub id, `local/<folder>` under MODEL_ROOTS, `jobs/<id>` or `jobs/<id>.step-N`."""
    training_file: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """Id of an uploaded file."""
    validation_file: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    dataset: DatasetSpec | None = None
    """A Hub dataset, in place of `training_file`."""
    template: Annotated[str, Field(min_length=1, max_length=65_536)] | None = None
    """Sandboxed Jinja over a row's columns that gives the text to train on."""
    shape: ShapeName | None = None
    """The shape of the rows, where it is not the one that validation saw."""
    chat_template: Annotated[str, Field(min_length=1, max_length=65_536)] | None = None
    """In place of the model's own; it goes with the trained model."""
    max_masked_fraction: Annotated[float, Field(ge=0, lt=1)] | None = None
    """With a larger share of tokens that are not learned the job fails before it trains."""
    training: dict[str, JsonValue] = {}
    """SFTConfig arguments by their own names."""
    peft: dict[str, JsonValue] | None = None
    """LoraConfig arguments by their own names; null trains all weights."""
    quantization: dict[str, JsonValue] | None = None
    """BitsAndBytesConfig arguments by their own names."""
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None
    """OpenAI's older place for `method.supervised.hyperparameters`."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    metadata: Annotated[dict[LabelKey, Label], Field(max_length=16)] | None = None
    integrations: Annotated[list[JsonValue], AfterValidator(_no_tracker)] | None = None
    """Accepted empty: trackers are not connected."""
    resources: Resources | None = None
    effective_batch_size: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Rows of one optimizer step; how they are split is left open."""
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    """Higher is run first."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] | None = None
    """How often the job may be tried; the server has a default."""
    sample_prompts: Annotated[list[Prompt], Field(max_length=8)] = []
    """Answered by the model before the training and at each checkpoint, as events `samples`."""
    on_non_finite: Literal["fail", "rollback"] = "fail"
    """What follows a loss or gradient norm that is not finite: `rollback` goes back one checkpoint,
    once, and on with a tenth of the learning rate."""
    max_seconds: Annotated[float, Field(gt=0, le=1e8)] | None = None
    """Longest time of one attempt; it ends with a last checkpoint, as failed."""

    def as_sent(self) -> dict[str, Any]:
        """The request without what was left out."""
        return self.model_dump(mode="json", exclude_unset=True)

    @property
    def openai_hyperparameters(self) -> Hyperparameters:
        """From `method`, else from the older place."""
        if self.method is not None and "supervised" in self.method.model_fields_set:
            return self.method.supervised.hyperparameters
        return self.hyperparameters or Hyperparameters()

    @property
    def has_validation_data(self) -> bool:
        """Whether there is something to evaluate on."""
        return self.validation_file is not None or (
            self.dataset is not None and self.dataset.eval_split is not None
        )


class RetryBody(_Strict):
    """What may change when a job is tried again."""

    training: dict[str, JsonValue] = {}
    """SFTConfig arguments by their own names, over those of the job."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedSpec:
    """What a checked request became."""

    training: dict[str, Any]
    base_model: str
    seed: int
    max_attempts: int
    warnings: tuple[str, ...]
    plan: dict[str, Any] | None = None
    """The option taken, and what "auto" became; null where nothing was predicted."""


def parse_spec(body: Mapping[str, Any]) -> JobSpec:
    """Check the form of a request; the error names the path of the first bad field."""
    return checked(JobSpec, body)


def retry_changes(body: Mapping[str, Any]) -> dict[str, Any]:
    """Check the form of a retry; the trainer arguments to change."""
    return dict(checked(RetryBody, body).training)


def checked(model: type[Body], body: Mapping[str, Any]) -> Body:
    """A body of this form, or the error that names the path of its first bad field."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise request_error(error.errors(include_url=False, include_input=False)) from error


def request_error(errors: Sequence[Mapping[str, Any]]) -> InvalidArgument:
    """The first bad field among pydantic's errors, with all that it could have been."""
    first = argument_error(errors[0])
    if errors[0]["type"] in ("extra_forbidden", "missing"):
        return first
    found = [argument_error(error) for error in errors]
    reasons = [
        _reason(error) for error, its in zip(errors, found, strict=True) if its.param == first.param
    ]
    return InvalidArgument(
        f"{first.param}: {', or '.join(dict.fromkeys(reasons))}", param=first.param
    )


def argument_error(error: Mapping[str, Any]) -> InvalidArgument:
    """One of pydantic's errors in the user's words."""
    # Unions put the name of the alternative into the location; a user has no use for it.
    path = [part for part in error["loc"] if not _is_union_tag(part)]
    param = ".".join(str(part) for part in path)
    if error["type"] == "extra_forbidden":
        name = str(path[-1])
        near = difflib.get_close_matches(name, _names_at(path[:-1]), n=1)
        hint = f' Did you mean "{near[0]}"?' if near else ""
        return UnknownArgument(f'Unknown field "{name}".{hint}', param=param)
    if error["type"] == "missing":
        return InvalidArgument(f'"{param}" is required.', param=param)
    return InvalidArgument(f"{param}: {_reason(error)}", param=param)


def _reason(error: Mapping[str, Any]) -> str:
    return str(error["msg"]).removeprefix("Value error, ")


def _is_union_tag(part: object) -> bool:
    return part in ("int", "float") or str(part).startswith(("literal[", "constrained-"))


def _names_at(path: list[Any]) -> list[str]:
    model: Any = JobSpec
    for part in path:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        if field is None:
            return []
        model = _model_in(field.annotation)
        if model is None:
            return []
    return list(model.model_fields)


def _model_in(annotation: Any) -> Any:
    candidates = (annotation, *getattr(annotation, "__args__", ()))
    models = (c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return next(models, None)
