"""Hub datasets of which a job fetches only the rows that its steps will see."""

from collections.abc import Mapping
from typing import Any

from core.errors import InvalidArgument
from core.models import Job
from core.refit import effective_batch
from core.spec import DatasetSpec


def check_streaming(dataset: DatasetSpec | None, training: Mapping[str, Any]) -> None:
    """InvalidArgument when it cannot be known how many rows of a streamed dataset are needed."""
    if dataset is None or not dataset.streaming:
        return
    if int(training.get("max_steps", -1)) <= 0:
        raise InvalidArgument(
            "A streamed dataset has no known end: say by max_steps how far to read it.",
            param="training.max_steps",
        )
    if training.get("packing"):
        raise InvalidArgument(
            "A streamed dataset is not packed: how many rows fill a pack is not known before "
            "they are read. Leave out packing, or dataset.streaming.",
            param="training.packing",
        )
    if "[" in dataset.split:
        raise InvalidArgument(
            "A streamed split is read from its beginning, as far as max_steps goes; leave out "
            "the slice.",
            param="dataset.split",
        )


def same_rows(job: Job, training: Mapping[str, Any]) -> dict[str, Any]:
    """The dataset of a job that is tried again: the rows that its checkpoints were trained on."""
    dataset = dict(job.spec["dataset"])
    if dataset.get("streaming") and training["max_steps"] != job.training["max_steps"]:
        raise InvalidArgument(
            f"max_steps must stay {job.training['max_steps']}: it says which rows of a streamed "
            "dataset the checkpoints were trained on.",
            param="training.max_steps",
        )
    trained_on = ((job.data_report or {}).get("train") or {}).get("revision")
    return dataset | ({} if trained_on is None else {"revision": trained_on})


def streamed_rows(training: Mapping[str, Any]) -> int:
    """How many rows the steps of a checked request see."""
    return int(training["max_steps"]) * effective_batch(training)
