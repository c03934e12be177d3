"""Every argument of a request reaches the real trainer, one by one."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import OPTForCausalLM

from tests.training.conftest import OrderFactory
from worker.child.build import build_trainer
from worker.child.failure import ChildFailure
from worker.child.order import Order
from worker.child.trainer import JobTrainer

pytestmark = [
    pytest.mark.training,
    # Notices of the libraries to each other.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def trainer_of(order: dict[str, Any]) -> JobTrainer:
    return build_trainer(Order.model_validate(order))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("per_device_train_batch_size", 3),
        ("per_device_eval_batch_size", 5),
        ("gradient_accumulation_steps", 7),
        ("max_steps", 11),
        ("num_train_epochs", 2),
        ("learning_rate", 3e-4),
        ("weight_decay", 0.02),
        ("warmup_steps", 4),
        ("lr_scheduler_type", "cosine"),
        ("optim", "sgd"),
        ("max_grad_norm", 0.5),
        ("adam_beta2", 0.95),
        ("logging_steps", 3),
        ("logging_strategy", "epoch"),
        ("save_strategy", "epoch"),
        ("save_steps", 9),
        ("neftune_noise_alpha", 5.0),
        ("max_length", 48),
        ("packing", True),
        ("dataloader_num_workers", 1),
        ("bf16", True),
        ("activation_checkpointing", True),
    ],
)
def test_an_argument_reaches_the_trainer(
    make_order: OrderFactory, name: str, value: object
) -> None:
    trainer = trainer_of(make_order(training={name: value}))

    assert getattr(trainer.args, name) == value


@pytest.mark.parametrize(("name", "value"), [("eval_strategy", "steps"), ("eval_steps", 2)])
def test_an_argument_of_evaluation_reaches_the_trainer(
    make_order: OrderFactory, eval_file: Path, name: str, value: object
) -> None:
    order = make_order(training={name: value}, eval=jsonl(eval_file))

    assert getattr(trainer_of(order).args, name) == value


@pytest.mark.parametrize("name", ["activation_checkpointing", "gradient_checkpointing"])
def test_checkpointing_of_activations_is_on_when_asked_for(
    make_order: OrderFactory, name: str
) -> None:
    assert not trainer_of(make_order()).args.gradient_checkpointing
    assert trainer_of(make_order(training={name: True})).args.gradient_checkpointing


def test_the_seed_reaches_the_trainer(make_order: OrderFactory) -> None:
    assert trainer_of(make_order(seed=123)).args.seed == 123


def test_the_model_is_the_one_of_the_order_in_single_precision(make_order: OrderFactory) -> None:
    model = trainer_of(make_order("opt")).model

    assert isinstance(model, OPTForCausalLM)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("value", ["eager", "flash_attention_2"])
def test_the_model_does_not_choose_how_attention_is_computed(
    make_order: OrderFactory, models: Path, tmp_path: Path, value: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models / "llama", folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"attn_implementation": value, "_attn_implementation": value}
    (folder / "config.json").write_text(json.dumps(config))

    model = trainer_of(make_order(model_dir=str(folder))).model

    assert model.config._attn_implementation == "sdpa"


def test_the_data_sets_are_those_of_the_order(make_order: OrderFactory, eval_file: Path) -> None:
    trainer = trainer_of(make_order(eval=jsonl(eval_file)))

    assert len(trainer.train_dataset) == 200
    assert len(trainer.eval_dataset) == 10
    first = json.loads(eval_file.read_text().splitlines()[0])["text"]
    assert text_of(trainer, trainer.eval_dataset[0]) == first + "</s>"


def test_the_tokenizer_is_that_of_the_model(make_order: OrderFactory) -> None:
    tokenizer = trainer_of(make_order()).processing_class

    assert len(tokenizer) == 2048
    assert tokenizer.eos_token == "</s>"


def test_the_text_field_is_trained_on(make_order: OrderFactory, tmp_path: Path) -> None:
    rows = [{"text": "not this", "body": "but this", "prompt": "a", "completion": "b"}]
    order = make_order(train=written(tmp_path, rows), training={"dataset_text_field": "body"})

    trainer = trainer_of(order)

    assert text_of(trainer, trainer.train_dataset[0]) == "but this</s>"


def test_a_template_makes_the_text(make_order: OrderFactory, tmp_path: Path) -> None:
    rows = [{"question": "Why?", "answer": "So."}]
    order = make_order(train=written(tmp_path, rows), template="{{ question }} -> {{ answer }}")

    trainer = trainer_of(order)

    assert text_of(trainer, trainer.train_dataset[0]) == "Why? -> So.</s>"


def test_a_prompt_is_read_and_its_completion_learned(
    make_order: OrderFactory, tmp_path: Path
) -> None:
    rows = [{"prompt": "The sky is", "completion": " blue."}]

    trainer = trainer_of(make_order(train=written(tmp_path, rows)))

    assert learned_text(trainer) == " blue.</s>"


def test_messages_go_through_the_chat_template(make_order: OrderFactory, chat_file: Path) -> None:
    order = make_order(train=jsonl(chat_file), training={"assistant_only_loss": True})

    trainer = trainer_of(order)

    text = text_of(trainer, trainer.train_dataset[0])
    assert text.startswith("<|im_start|>user\nExplain assert in Python.<|im_end|>")
    report = trainer.data_reports["train"]
    assert report.trained_tokens < report.tokens - report.rows


def test_keys_of_messages_that_some_rows_lack_are_kept(
    make_order: OrderFactory, tmp_path: Path
) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]},
        {"messages": [{"role": "user", "content": "hi", "name": "Bo"}], "tools": None},
    ]

    assert len(trainer_of(make_order(train=written(tmp_path, rows))).train_dataset) == 2


def test_messages_of_weight_zero_are_not_learned(make_order: OrderFactory, tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "not this", "weight": 0},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "but this", "weight": 1},
    ]

    trainer = trainer_of(make_order(train=written(tmp_path, [{"messages": messages}])))

    text = learned_text(trainer)
    assert "not this" not in text
    assert "two<|im_end|>\n<|im_start|>assistant\nbut this<|im_end|>" in text


def test_a_saved_dataset_is_trained_on(make_order: OrderFactory, tmp_path: Path) -> None:
    from datasets import Dataset  # noqa: PLC0415 - the other tests need no datasets

    Dataset.from_list([{"text": "one"}, {"text": "two"}]).save_to_disk(str(tmp_path / "saved"))

    trainer = trainer_of(make_order(train={"kind": "saved", "path": str(tmp_path / "saved")}))

    assert text_of(trainer, trainer.train_dataset[1]) == "two</s>"


def test_lora_reaches_the_model(make_order: OrderFactory) -> None:
    peft = {"r": 3, "lora_alpha": 6, "lora_dropout": 0.2, "target_modules": ["q_proj", "v_proj"]}

    model = trainer_of(make_order(peft=peft)).model

    assert isinstance(model, PeftModel)
    config = model.peft_config["default"]
    assert isinstance(config, LoraConfig)
    assert (config.r, config.lora_alpha, config.lora_dropout) == (3, 6, 0.2)
    assert config.target_modules == {"q_proj", "v_proj"}


def test_packing_fills_the_sequences(make_order: OrderFactory) -> None:
    trainer = trainer_of(make_order(training={"packing": True, "max_length": 128}))

    report = trainer.data_reports["train"]
    assert len(trainer.train_dataset) == report.sequences < report.rows == 200
    assert report.tokens / report.sequences > 100


def test_quantization_reaches_the_model(make_order: OrderFactory) -> None:
    pytest.importorskip("bitsandbytes")
    peft = {"r": 4, "target_modules": "all-linear"}

    model = trainer_of(make_order(peft=peft, quantization={"load_in_4bit": True})).model

    assert model.is_loaded_in_4bit


def test_the_operator_decides_the_rest(make_order: OrderFactory) -> None:
    order = make_order(training={"save_total_limit": 1, "load_best_model_at_end": True})

    args = trainer_of(order).args

    assert args.output_dir == f"{order['scratch']}/output"
    assert args.report_to == []
    assert not args.logging_nan_inf_filter
    assert not args.save_only_model
    # The service keeps and chooses checkpoints; rotation would delete what is being published.
    assert args.save_total_limit is None
    assert not args.load_best_model_at_end


def test_the_best_of_all_evaluations_can_be_kept(make_order: OrderFactory, eval_file: Path) -> None:
    training = {"save_strategy": "best", "eval_strategy": "steps", "eval_steps": 2}

    args = trainer_of(make_order(training=training, eval=jsonl(eval_file))).args

    assert (args.save_strategy, args.save_steps) == ("steps", 2)


def test_the_length_is_that_of_the_model_at_most(make_order: OrderFactory) -> None:
    order = make_order()
    del order["training"]["max_length"]
    assert trainer_of(order).args.max_length == 512

    with pytest.raises(ChildFailure, match="at most 512") as caught:
        trainer_of(make_order(training={"max_length": 513}))
    assert caught.value.param == "training.max_length"


def jsonl(path: Path) -> dict[str, str]:
    return {"kind": "jsonl", "path": str(path)}


def written(folder: Path, rows: list[dict[str, Any]]) -> dict[str, str]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return jsonl(path)


def text_of(trainer: JobTrainer, row: dict[str, Any]) -> str:
    return str(trainer.processing_class.decode(row["input_ids"]))


def learned_text(trainer: JobTrainer) -> str:
    """What is learned of the first row."""
    row = trainer.train_dataset[0]
    pairs = zip(row["input_ids"], row["labels"], strict=True)
    return str(trainer.processing_class.decode([token for token, label in pairs if label != -100]))
