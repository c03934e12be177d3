"""TRL's trainer, with what an unattended and interruptible training needs and no other change."""

import copy
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors import SafetensorError
from transformers import (
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import ExportableState
from trl import SFTConfig, SFTTrainer

from core.dataset.tokens import Cutting, TokenReport
from worker.child.cut import count_sequences, cut_rows
from worker.child.failure import ChildFailure
from worker.child.learning_rate import adopt_learning_rate
from worker.child.loss import TokenLoss, learned_positions, only_at, token_loss
from worker.child.regroup import (
    WEIGHTS,
    Batch,
    has_dropout,
    is_empty,
    regroup_batches,
)
from worker.child.room import lacks_room
from worker.child.tokenstore import StoredTokens

MEANS = ("mean_token_accuracy", "entropy")
"""What is logged as a mean over micro-batches."""

MAX_SHARD_BYTES = 4 * 10**9
"""Size of a file of weights."""

SaveHook = Callable[[Path], None]


class JobTrainer(SFTTrainer):  # type: ignore[misc]
    """An SFTTrainer that reports on its data, stops at a non-finite loss and resumes exactly.

    `before_save` and `after_save` are called with a checkpoint's folder around writing it.
    """

    def __init__(
        self,
        *,
        train_tokens: StoredTokens,
        eval_tokens: StoredTokens | None,
        max_masked_fraction: float | None,
        before_save: SaveHook,
        after_save: SaveHook,
        max_shard_bytes: int = MAX_SHARD_BYTES,
        **arguments: Any,
    ):
        self.data_reports: dict[str, TokenReport] = {}
        """By "train" and "eval"."""
        self._tokens = {"train": train_tokens, "eval": eval_tokens}
        self._max_masked_fraction = max_masked_fraction
        self._before_save = before_save
        self._after_save = after_save
        evaluation = eval_tokens.dataset if eval_tokens else None
        super().__init__(train_dataset=train_tokens.dataset, eval_dataset=evaluation, **arguments)
        if isinstance(self.model, PreTrainedModel):
            # The trainer would write files of up to 50 GB, and a client that is killed in the
            # middle of one fetches it again from its first byte.
            save = partial(self.model.save_pretrained, max_shard_size=max_shard_bytes)
            self.model.save_pretrained = save
        # The trainer makes these when it begins, which is after it asks callbacks for their state.
        self._tr_loss = torch.tensor(0.0)
        self._globalstep_last_logged = 0
        self.add_callback(ExactResume(self))

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Any]:
        """The micro-batches of one optimizer step, padded as little as possible."""
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self._can_regroup and num_items is not None:
            collate = self.data_collator
            batches = regroup_batches(
                batches,
                collate,
                longest=self._longest_row,
                multiple=collate.pad_to_multiple_of or 1,
            )
        return batches, num_items

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Nothing, for a micro-batch whose rows went into others."""
        if is_empty(inputs):
            for name in MEANS:
                self._metrics["train"][name].append(0.0)
            return torch.zeros((), device=self.args.device)
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        return loss

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> Any:
        """The mean loss of a token, from the model's logits where there is no faster way.

        TRL never makes the logits, which saves memory where Triton is. On a CPU its way is slower
        and takes more memory than they do.
        """
        if return_outputs or not self._has_plain_loss():
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        row_weights = inputs.pop(WEIGHTS, None)
        labels = inputs.pop("labels")
        mask = learned_positions(labels)
        with only_at(mask, self.model.get_output_embeddings()):
            logits = model(**inputs, use_cache=False).logits
        if logits.dim() > mask.dim():
            logits = logits[mask]
        result = token_loss(logits, labels.roll(-1, 1)[mask])
        count = mask.sum()
        weights = row_weights.repeat_interleave(mask.sum(1)) if row_weights is not None else None
        self._record_metrics(result, weights, inputs)
        # A batch without anything to learn must give zero, not 0 / 0.
        num_items = count if num_items_in_batch is None else num_items_in_batch
        return result.total / torch.as_tensor(num_items).clamp(min=1)

    def _has_plain_loss(self) -> bool:
        return (
            self.args.device.type == "cpu"
            and self.args.loss_type == "nll"
            and self.label_smoother is None
            and not self.aux_loss_enabled
        )

    @cached_property
    def _can_regroup(self) -> bool:
        """Whether it makes no difference which rows are in a micro-batch together."""
        return (
            self._has_plain_loss()
            and self.args.world_size == 1
            and self.args.neftune_noise_alpha is None
            and not has_dropout(self.model)
        )

    @cached_property
    def _longest_row(self) -> int:
        """Tokens of the longest row that is trained on."""
        longest = self.data_reports["train"].longest_row_tokens
        return min(longest, self.args.max_length or longest)

    def _record_metrics(
        self, result: TokenLoss, weights: torch.Tensor | None, inputs: Batch
    ) -> None:
        """TRL's metrics, by TRL's definitions: means over the micro-batches of their means."""
        mode = "train" if self.model.training else "eval"
        metrics = self._metrics[mode]
        for name, values in zip(MEANS, (result.is_correct, result.entropy), strict=True):
            if weights is None:
                mean = values.float().mean() if len(values) else values.new_zeros(())
            else:
                mean = (values * weights).sum()
            metrics[name].append(mean.item())
        if mode == "train":
            read = inputs.get("attention_mask")
            tokens = inputs["input_ids"].numel() if read is None else int(read.sum())
            self._total_train_tokens += tokens
        metrics["num_tokens"] = [self._total_train_tokens]

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        """The last look before the optimizer moves: no step is taken with what is not a number."""
        norm = super()._get_grad_norm(model, grad_norm)
        step = self.state.global_step + 1
        loss = float(self._tr_loss)
        if not math.isfinite(loss):
            raise non_finite("loss", loss, step)
        # In half precision a gradient may overflow: the scaler then skips the step.
        if not self.args.fp16 and not math.isfinite(float(norm)):
            raise non_finite("gradient norm", float(norm), step)
        return norm

    def _prepare_dataset(
        self,
        dataset: Dataset,
        processing_class: Any,
        args: SFTConfig,
        packing: bool,
        formatting_func: Any,
        dataset_name: str,
    ) -> Dataset:
        """Cut what is tokenized already, count it, and let TRL pack it."""
        tokens = self._tokens[dataset_name]
        assert tokens is not None
        cutting = Cutting(
            max_length=args.max_length,
            keeps_end=args.truncation_mode == "keep_end",
            packing=packing,
            packing_strategy=args.packing_strategy,
            batch_rows=args.per_device_train_batch_size,
        )
        folder = Path(args.output_dir).parent / f"cut-{dataset_name}"
        cut, counter = cut_rows(dataset, cutting, folder)
        report = counter.report(trained_on=tokens.trained_on, samples=tokens.samples)
        if report.trained_tokens == 0:
            is_long = report.nothing_to_learn_rows < report.rows
            raise _nothing_to_learn(dataset_name, args.max_length if is_long else None)
        whole = copy.copy(args)
        if not packing:
            whole.max_length = None
        final = super()._prepare_dataset(
            cut, processing_class, whole, packing, formatting_func, dataset_name
        )
        if packing:
            report = _of_packs(report, final)
        self.data_reports[dataset_name] = report
        if dataset_name == "train" and self._max_masked_fraction is not None:
            _check_masked(report, self._max_masked_fraction)
        return final

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load both, and let the learning rate be that of the arguments."""
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            adopt_learning_rate(self.optimizer, self.lr_scheduler, self.args.learning_rate)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Write a checkpoint; what an earlier attempt left half-written there is removed."""
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        shutil.rmtree(folder, ignore_errors=True)
        self._before_save(folder)
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:
            if not lacks_room(error, folder):
                raise
            raise ChildFailure(
                "disk_full", f"The scratch disk is too full to save step {self.state.global_step}."
            ) from error
        self._after_save(folder)


class ExactResume(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Keeps in each checkpoint what the trainer forgets, so that a resumed job logs the same."""

    def __init__(self, trainer: JobTrainer):
        self._trainer = trainer

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, in the form that the trainer asks for."""
        trainer = self._trainer
        return {
            "args": {},
            "attributes": {
                "num_tokens": trainer._total_train_tokens,
                "loss_since_log": float(trainer._tr_loss),
                "last_logged_step": trainer._globalstep_last_logged,
                "metrics_since_log": dict(trainer._metrics["train"]),
                "effective_batch_size": _effective_batch_size(trainer.args),
            },
        }

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Take over what the checkpoint kept."""
        if state.global_step == 0:
            return
        kept = state.stateful_callbacks[type(self).__name__]["attributes"]
        if kept["effective_batch_size"] != _effective_batch_size(args):
            raise ChildFailure(
                "invalid_checkpoint",
                f"The checkpoint was made with {kept['effective_batch_size']} rows in a batch "
                f"and cannot go on with {_effective_batch_size(args)}.",
            )
        trainer = self._trainer
        trainer._total_train_tokens = kept["num_tokens"]
        trainer._tr_loss.fill_(kept["loss_since_log"])
        trainer._globalstep_last_logged = kept["last_logged_step"]
        trainer._metrics["train"].update(kept["metrics_since_log"])


def non_finite(quantity: str, value: float, step: int) -> ChildFailure:
    """The failure of a training that no longer computes with numbers."""
    return ChildFailure(
        "non_finite_loss",
        f"The {quantity} became {value} at step {step}. Try a smaller learning_rate, or bf16 "
        "in place of fp16.",
        param="training.learning_rate",
    )


def _of_packs(report: TokenReport, packs: Dataset) -> TokenReport:
    sequences, tokens, trained = count_sequences(packs)
    masked = round(1 - trained / tokens, 6)
    return replace(
        report,
        sequences=sequences,
        tokens=tokens,
        trained_tokens=trained,
        masked_fraction=masked,
    )


def _check_masked(report: TokenReport, limit: float) -> None:
    if report.masked_fraction > limit:
        raise ChildFailure(
            "no_trained_tokens",
            f"{report.masked_fraction:.1%} of the tokens are masked, which is more than "
            f"max_masked_fraction={limit:g}. Trained on: {report.trained_on}.",
            param="max_masked_fraction",
        )


def _nothing_to_learn(name: str, max_length: int | None = None) -> ChildFailure:
    file = "training_file" if name == "train" else "validation_file"
    why = "" if max_length is None else f" within max_length={max_length} tokens"
    return ChildFailure(
        "no_trained_tokens",
        f"No row of {file} has anything to learn{why}. Look at max_length, at "
        "completion_only_loss and at assistant_only_loss.",
        param=file,
    )


def _effective_batch_size(args: TrainingArguments) -> int:
    return int(args.train_batch_size * args.gradient_accumulation_steps * args.world_size)
