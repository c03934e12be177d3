"""Lets the model answer the job's sample prompts, so that people see what it learns."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from worker.child.callback import Record

MAX_NEW_TOKENS = 64
MAX_SECONDS = 20.0
"""For all prompts of one checkpoint together; what is not done by then is cut short."""


class SampleCallback(TrainerCallback):  # type: ignore[misc]
    """Generates before the first step and at each checkpoint, and changes nothing of the training.

    Answers are the likeliest ones, which needs no random numbers.
    """

    def __init__(self, record: Record, prompts: Sequence[str]):
        self._record = record
        self._prompts = prompts

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """What the model says before it has learned; a resumed job has said so already."""
        if state.global_step == 0:
            self._sample(state.global_step, given["model"], given["processing_class"])

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """What the checkpoint says."""
        self._sample(state.global_step, given["model"], given["processing_class"])

    def _sample(
        self, step: int, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        was_training = model.training
        model.eval()
        deadline = time.monotonic() + MAX_SECONDS
        try:
            samples = [answer(model, tokenizer, each, deadline) for each in self._prompts]
        finally:
            model.train(was_training)
        self._record("samples", step=step, samples=samples)


@torch.no_grad()
def answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, deadline: float
) -> dict[str, str]:
    """The prompt and what the model makes of it: as a chat where the model has a template.

    An answer that fails is told as such: a look at the model is no reason to end its training.
    """
    try:
        tokens = _tokens(tokenizer, prompt).to(model.device)
        room = getattr(model.config, "max_position_embeddings", None)
        if room is not None:
            tokens = tokens[:, -max(1, room - MAX_NEW_TOKENS) :]
        generated = model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            generation_config=GenerationConfig(
                max_new_tokens=MAX_NEW_TOKENS,
                max_time=max(0.1, deadline - time.monotonic()),
                do_sample=False,
                use_cache=True,
                pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
                eos_token_id=tokenizer.eos_token_id,
            ),
        )
    except (RuntimeError, ValueError, MemoryError) as error:
        return {"prompt": prompt, "error": f"{type(error).__name__}: {error}"[:500]}
    text = tokenizer.decode(generated[0, tokens.shape[1] :], skip_special_tokens=True)
    return {"prompt": prompt, "completion": text}


def _tokens(tokenizer: PreTrainedTokenizerBase, prompt: str) -> torch.Tensor:
    if tokenizer.chat_template is None:
        encoded = tokenizer(prompt, return_tensors="pt")
    else:
        chat = [{"role": "user", "content": prompt}]
        encoded = tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
    tokens: torch.Tensor = encoded["input_ids"]
    return tokens
