"""The settings of a training that memory and time depend on."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from core.errors import InvalidArgument
from core.model_facts import ModelFacts
from core.refit import ACCUMULATION, CHECKPOINTING, DEFAULT_BATCH_SIZE, EVAL_BATCH, MICRO_BATCH

Method = Literal["full", "lora", "lora_8bit", "lora_4bit"]

DEFAULT_MAX_LENGTH = 1024
"""SFTConfig's own."""
DEFAULT_RANK = 8
DEFAULT_TARGETS: dict[str, tuple[str, ...]] = {
    "opt": ("q_proj", "v_proj"),
    "gpt2": ("c_attn",),
    "llama": ("q_proj", "v_proj"),
    "qwen": ("q_proj", "v_proj"),
    "generic": ("q_proj", "v_proj"),
}
"""PEFT's own, where a request does not say which modules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """One way to train: everything that memory and time depend on besides the model."""

    micro_batch: int
    accumulation: int
    checkpointing: bool
    bf16: bool
    length: int
    """Tokens of the longest row as it is trained on."""
    method: Method
    lora_parameters: int = 0
    adapted_width: int = 0
    """Sum of the ranks of all adapters of one layer."""
    optimizer: str = "adamw_torch_fused"
    eval_batch: int = 0
    """Rows of an evaluation's batch; 0 without evaluation."""
    eval_length: int | None = None
    """Tokens of its longest row, where that is known apart."""
    is_padded: bool = True
    """Whether rows of one micro-batch differ in length."""
    device: Literal["cpu", "cuda"] = "cpu"
    mean_length: float | None = None
    """Tokens of a row in the mean, where something is known of it."""
    adapter_dropout: bool = False

    @property
    def tokens(self) -> int:
        """Tokens that are in memory at the same time."""
        return self.micro_batch * self.length

    @property
    def effective_batch(self) -> int:
        """Rows of one optimizer step."""
        return self.micro_batch * self.accumulation

    @property
    def step_tokens(self) -> int:
        """Tokens of one optimizer step, without padding."""
        mean = self.length if self.mean_length is None else min(self.mean_length, self.length)
        return max(1, round(self.effective_batch * mean))

    def split(self, micro_batch: int, *, checkpointing: bool) -> "TrainSettings":
        """The same effective batch in other pieces."""
        return dataclasses.replace(
            self,
            micro_batch=micro_batch,
            accumulation=self.effective_batch // micro_batch,
            checkpointing=checkpointing,
        )


def check_length(facts: ModelFacts, length: Any) -> None:
    """InvalidArgument for a `max_length` beyond what the model reads at once."""
    if isinstance(length, int) and facts.positions is not None and length > facts.positions:
        raise InvalidArgument(
            f"max_length is {length}, but {facts.model} reads at most {facts.positions} tokens.",
            param="training.max_length",
        )


def settings_of(
    facts: ModelFacts,
    training: Mapping[str, Any],
    *,
    peft: Mapping[str, Any] | None = None,
    quantization: Mapping[str, Any] | None = None,
    has_evaluation: bool = False,
) -> TrainSettings:
    """The settings that a job's arguments mean for this model."""
    method: Method = "full" if peft is None else "lora"
    if peft is not None and quantization:
        method = "lora_4bit" if quantization.get("load_in_4bit") else "lora_8bit"
    micro_batch = int(training.get(MICRO_BATCH, DEFAULT_BATCH_SIZE))
    trained, width = _adapters(facts, peft) if peft is not None else (0, 0)
    eval_batch = int(training.get(EVAL_BATCH, DEFAULT_BATCH_SIZE)) if has_evaluation else 0
    return TrainSettings(
        micro_batch=micro_batch,
        accumulation=int(training.get(ACCUMULATION, 1)),
        checkpointing=bool(training.get(CHECKPOINTING, False)),
        bf16=bool(training.get("bf16", False)) or bool(training.get("fp16", False)),
        length=row_length(facts, training),
        method=method,
        lora_parameters=trained,
        adapted_width=width,
        optimizer=str(training.get("optim", "adamw_torch_fused")),
        eval_batch=eval_batch,
        is_padded=not training.get("packing", False),
        adapter_dropout=bool(peft and peft.get("lora_dropout")),
    )


def row_length(facts: ModelFacts, training: Mapping[str, Any]) -> int:
    """Tokens of the longest row that the trainer would let through."""
    length = training.get("max_length", min(DEFAULT_MAX_LENGTH, facts.positions or 2**20))
    return int(length or facts.positions or DEFAULT_MAX_LENGTH)


def _adapters(facts: ModelFacts, peft: Mapping[str, Any]) -> tuple[int, int]:
    """Parameters of all adapters, and the sum of the ranks of one layer's."""
    rank = int(peft.get("r", DEFAULT_RANK))
    targets = peft.get("target_modules") or DEFAULT_TARGETS[facts.family]
    named = [
        shape
        for name, shape in facts.matrices.items()
        if targets == "all-linear" or _is_named(name, targets)
    ]
    # A pattern, or names of an unknown architecture: as if it were everything.
    adapted = named or list(facts.matrices.values())
    layer = rank * sum(rows + columns for rows, columns in adapted)
    whole = sum(
        facts.head_parameters
        for module in peft.get("modules_to_save") or ()
        if str(module).endswith(("lm_head", "embed_tokens", "wte"))
    )
    return facts.layers * layer + whole, rank * len(adapted)


def _is_named(name: str, targets: object) -> bool:
    listed = [targets] if isinstance(targets, str) else targets
    assert isinstance(listed, list | tuple)
    return any(name == target or name.endswith(f".{target}") for target in listed)
