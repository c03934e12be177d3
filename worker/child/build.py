"""Makes a trainer of an order. The child and the tests of every argument use this one function."""

from collections.abc import Callable, Sequence
from pathlib import Path

from transformers import PrinterCallback, TrainerCallback

from worker.child.arguments import build_arguments
from worker.child.checkpoint import clean_checkpoint
from worker.child.data import load_tokens_of, training_part, validation_part
from worker.child.model import adapter_config, check_folders, load_model, load_tokenizer
from worker.child.order import Order
from worker.child.trainer import MAX_SHARD_BYTES, JobTrainer


def build_trainer(
    order: Order,
    *,
    callbacks: Sequence[TrainerCallback] = (),
    on_phase: Callable[[str], None] = lambda phase: None,
    before_save: Callable[[], None] = lambda: None,
    after_save: Callable[[Path], None] = lambda folder: None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> JobTrainer:
    """A trainer that is ready to train; its data are tokenized and its data_reports are there.

    `on_phase` hears "load", "data", and "save" and "train" around each checkpoint. `before_save`
    may wait; `after_save` gets the folder of the complete checkpoint.
    """
    on_phase("load")
    check_folders(order)
    # The smaller one first: what is wrong with it is said before the weights are read.
    tokenizer = load_tokenizer(order)
    model = load_model(order)

    on_phase("data")
    arguments = build_arguments(order, model.config)
    validation = validation_part(order)
    train = load_tokens_of(order, training_part(order), tokenizer)
    evaluation = load_tokens_of(order, validation, tokenizer) if validation else None

    def save_begins(_: Path) -> None:
        before_save()
        on_phase("save")

    def save_ends(folder: Path) -> None:
        clean_checkpoint(folder, order)
        after_save(folder)
        on_phase("train")

    trainer = JobTrainer(
        before_save=save_begins,
        after_save=save_ends,
        max_shard_bytes=max_shard_bytes,
        model=model,
        args=arguments,
        train_tokens=train,
        eval_tokens=evaluation,
        max_masked_fraction=order.max_masked_fraction,
        processing_class=tokenizer,
        peft_config=adapter_config(order),
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
