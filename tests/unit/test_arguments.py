"""The user's `training`, `peft` and `quantization`, without torch."""

import math
import subprocess
import sys
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.arguments import (
    KINDS,
    CheckedArguments,
    Kind,
    check_peft,
    check_quantization,
    check_training,
    describe,
    user_names,
)
from core.arguments.policy import POLICIES
from core.errors import ForbiddenArgument, InvalidArgument, UnknownArgument

CHECKS: Mapping[Kind, Callable[[Mapping[str, object]], CheckedArguments]] = {
    "training": check_training,
    "peft": check_peft,
    "quantization": check_quantization,
}

ACCEPTED: Mapping[Kind, Mapping[str, object]] = {
    "training": {
        "activation_checkpointing": True,
        "activation_offloading": False,
        "adam_beta1": 0.9,
        "adam_beta2": 0.95,
        "adam_epsilon": 1e-8,
        "assistant_only_loss": True,
        "bf16": True,
        "completion_only_loss": False,
        "data_seed": 7,
        "dataloader_drop_last": True,
        "dataloader_num_workers": 2,
        "dataset_text_field": "answer text",
        "eos_token": "<|im_end|>",
        "eval_accumulation_steps": 4,
        "eval_delay": 2.5,
        "eval_on_start": True,
        "eval_packing": False,
        "eval_steps": 20,
        "eval_strategy": "steps",
        "fp16": True,
        "full_determinism": True,
        "gradient_accumulation_steps": 8,
        "gradient_checkpointing": True,
        "greater_is_better": False,
        "label_smoothing_factor": 0.1,
        "learning_rate": 2e-4,
        "load_best_model_at_end": False,
        "logging_steps": 5,
        "logging_strategy": "epoch",
        "loss_type": "dft",
        "lr_scheduler_kwargs": {},
        "lr_scheduler_type": "cosine",
        "max_grad_norm": 0.3,
        "max_length": 512,
        "max_steps": 100,
        "metric_for_best_model": "eval_loss",
        "neftune_noise_alpha": 5,
        "num_train_epochs": 0.5,
        "optim": "adamw_torch",
        "packing": True,
        "packing_strategy": "wrapped",
        "padding_free": False,
        "per_device_eval_batch_size": 16,
        "per_device_train_batch_size": 4,
        "router_aux_loss_coef": 0.01,
        "save_steps": 0.25,
        "save_strategy": "epoch",
        "save_total_limit": 3,
        "seed": 2**32 - 1,
        "shuffle_dataset": True,
        "tf32": None,
        "torch_empty_cache_steps": 10,
        "train_sampling_strategy": "group_by_length",
        "truncation_mode": "keep_start",
        "warmup_steps": 0.1,
        "weight_decay": 0.01,
    },
    "peft": {
        "bias": "lora_only",
        "ensure_weight_tying": True,
        "exclude_modules": ["lm_head"],
        "init_lora_weights": "gaussian",
        "layers_to_transform": [0, 1],
        "lora_alpha": 16.5,
        "lora_dropout": 0.05,
        "modules_to_save": ["embed_tokens"],
        "r": 16,
        "target_modules": ["q_proj", "self_attn.v_proj"],
        "use_dora": True,
        "use_rslora": True,
    },
    "quantization": {
        "bnb_4bit_compute_dtype": "bfloat16",
        "bnb_4bit_quant_storage": "uint8",
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "llm_int8_skip_modules": ["lm_head"],
        "llm_int8_threshold": 6.0,
        "load_in_4bit": True,
        "load_in_8bit": True,
    },
}
EACH_ACCEPTED = [(kind, name) for kind in KINDS for name in ACCEPTED[kind]]

BAD_VALUES: Mapping[str, object] = {
    "NaN": math.nan,
    "Infinity": math.inf,
    "-1": -1,
    "0": 0,
    "2**64": 2**64,
    "code": "1e-4; import os",
    "True": True,
    "[]": [],
    "{}": {},
    "1e308": 1e308,
    "10**30": 10**30,
}
LEGAL_AFTER_ALL: Mapping[str, str] = {
    "-1": "max_steps",
    "0": "adam_beta1 adam_beta2 data_seed dataloader_num_workers eval_delay label_smoothing_factor"
    " layers_to_transform llm_int8_threshold lora_dropout max_grad_norm neftune_noise_alpha"
    " router_aux_loss_coef seed warmup_steps weight_decay",
    "code": "dataset_text_field eos_token",
    "True": "activation_checkpointing activation_offloading assistant_only_loss bf16"
    " bnb_4bit_use_double_quant completion_only_loss dataloader_drop_last ensure_weight_tying"
    " eval_on_start eval_packing fp16 full_determinism gradient_checkpointing greater_is_better"
    " init_lora_weights load_in_4bit load_in_8bit packing shuffle_dataset tf32 use_dora use_rslora",
    "{}": "lr_scheduler_kwargs",
}


def check_one(kind: Kind, name: str, value: object) -> CheckedArguments:
    """Check `name` among what `kind` cannot do without."""
    needed = kind == "quantization" and not name.startswith("load_in_")
    return CHECKS[kind]({"load_in_4bit": True, name: value} if needed else {name: value})


def refusal(kind: Kind, name: str, value: object) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        check_one(kind, name, value)
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_of_this_test_has_every_name_that_a_user_may_set(kind: Kind) -> None:
    assert sorted(ACCEPTED[kind]) == sorted(user_names(kind))


@pytest.mark.parametrize(("kind", "name"), EACH_ACCEPTED)
def test_an_accepted_argument_arrives_as_it_was_given(kind: Kind, name: str) -> None:
    value = ACCEPTED[kind][name]

    checked = check_one(kind, name, value)

    canonical = POLICIES[kind].same_as.get(name, name)
    assert checked.values[canonical] == value
    assert type(checked.values[canonical]) is type(value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_argument_that_is_not_the_users_is_refused_with_its_reason(kind: Kind) -> None:
    fields = describe(kind)["fields"]

    for name in fields.keys() - set(user_names(kind)):
        with pytest.raises(ForbiddenArgument) as caught:
            CHECKS[kind]({name: "anything"})
        assert caught.value.param == f"{kind}.{name}"
        assert len(fields[name]["reason"]) > 10
        assert fields[name]["reason"] in caught.value.message
        assert "anything" not in caught.value.message


def test_a_refused_output_dir_says_where_the_checkpoints_are() -> None:
    error = refusal("training", "output_dir", "./out")

    assert error.message == (
        '"output_dir" cannot be set here: the service keeps checkpoints itself;'
        " their locations come back on the job."
    )


@pytest.mark.parametrize("bad", BAD_VALUES)
@pytest.mark.parametrize(("kind", "name"), EACH_ACCEPTED)
def test_a_bad_value_is_refused_by_name(kind: Kind, name: str, bad: str) -> None:
    value = BAD_VALUES[bad]

    if name in LEGAL_AFTER_ALL.get(bad, "").split():
        check_one(kind, name, value)
    else:
        error = refusal(kind, name, value)
        assert error.param == f"{kind}.{name}"
        assert f'"{name}"' in error.message


@pytest.mark.parametrize(
    ("kind", "name", "value", "part"),
    [
        ("training", "per_device_train_batch_size", 8.0, "a whole number from 1 to 1024"),
        ("training", "per_device_train_batch_size", "8", 'or "auto", not the text "8"'),
        ("training", "per_device_eval_batch_size", "auto", "from 1 to 1024, not"),
        ("training", "learning_rate", math.nan, 'above 0 and at most 1 or "auto", not NaN'),
        ("training", "weight_decay", math.inf, "from 0 to 1, not Infinity"),
        ("training", "adam_beta1", 1.5, "of at least 0 and below 1, not 1.5"),
        ("training", "max_steps", 0, "or -1 for no limit, not 0"),
        ("training", "max_steps", -2, "not -2"),
        ("training", "logging_steps", 2.5, "or a share of all steps below 1, not 2.5"),
        ("training", "save_steps", 0, "from 1 to 10000000"),
        ("training", "warmup_steps", 1.5, "from 0 to 1000000"),
        ("training", "save_strategy", "never", '"no", "steps", "epoch" or "best"'),
        ("training", "logging_strategy", "best", '"no", "steps" or "epoch"'),
        ("training", "learning_rate", None, "not null"),
        ("training", "seed", 10**300, "not a number of more than 38 digits"),
        ("training", "eos_token", "a\ud800", "printable"),
        ("training", "eos_token", "\n", "printable"),
        ("training", "eos_token", "x" * 65, "1 to 64 characters"),
        ("training", "learning_rate", object(), "not something of type object"),
        ("peft", "target_modules", ".*", "plain module names"),
        ("peft", "target_modules", "all-linear\n", "plain module names"),
        ("peft", "modules_to_save", ["embed_tokens", "lm_head", "lm_head"], "or both"),
        ("peft", "init_lora_weights", "pissa_niter_1000000000", '"pissa_niter_16"'),
        ("quantization", "bnb_4bit_compute_dtype", "load", '"float32" or null'),
    ],
)
def test_a_refusal_says_what_is_legal(kind: Kind, name: str, value: object, part: str) -> None:
    error = refusal(kind, name, value)

    assert error.param == f"{kind}.{name}"
    assert part in error.message


def test_a_number_that_python_does_not_print_is_refused_like_any_other() -> None:
    assert refusal("training", "seed", 10**5000).param == "training.seed"
    assert refusal("training", "learning_rate", -(10**5000)).param == "training.learning_rate"


def test_a_bad_part_of_a_list_or_object_is_named() -> None:
    kwargs = {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"power": math.inf}}
    with pytest.raises(InvalidArgument) as caught:
        check_training(kwargs)
    assert caught.value.param == "training.lr_scheduler_kwargs.power"

    error = refusal("peft", "target_modules", ["q_proj", "(a+)+$"])
    assert error.param == "peft.target_modules[1]"

    with pytest.raises(UnknownArgument, match="min_lr_rate"):
        check_training({"lr_scheduler_kwargs": {"last_epoch": 3}})


@pytest.mark.parametrize(
    "name",
    [
        "activation_checkpointing",
        "bf16",
        "gradient_accumulation_steps",
        "learning_rate",
        "num_train_epochs",
        "per_device_train_batch_size",
    ],
)
def test_auto_is_kept_for_the_caller(name: str) -> None:
    assert check_training({name: "auto"}).values == {name: "auto"}


def test_auto_gradient_checkpointing_is_kept_under_the_name_of_today() -> None:
    checked = check_training({"gradient_checkpointing": "auto"})

    assert checked == CheckedArguments({"activation_checkpointing": "auto"})


def test_whole_steps_become_whole_numbers_and_shares_stay() -> None:
    checked = check_training({"logging_steps": 10.0, "save_steps": 0.5, "eval_steps": 1.0})

    assert checked.values == {"logging_steps": 10, "save_steps": 0.5, "eval_steps": 1}
    assert type(checked.values["logging_steps"]) is int


@pytest.mark.parametrize(
    ("kind", "written", "nearest"),
    [
        ("training", "gradient_accumulation_stepz", "gradient_accumulation_steps"),
        ("training", "learning_rte", "learning_rate"),
        ("training", "Learning-Rate", "learning_rate"),
        ("peft", "lora_alfa", "lora_alpha"),
        ("peft", "target_module", "target_modules"),
        ("quantization", "load_in_4bits", "load_in_4bit"),
    ],
)
def test_a_misspelling_is_answered_with_the_nearest_name(
    kind: Kind, written: str, nearest: str
) -> None:
    with pytest.raises(UnknownArgument) as caught:
        CHECKS[kind]({written: 1})

    assert caught.value.message == f'unknown setting "{written}". Did you mean "{nearest}"?'
    assert caught.value.param == f"{kind}.{written}"


@pytest.mark.parametrize(
    ("kind", "name", "advice"),
    [
        ("training", "lora_dropout", 'It belongs in "peft", beside "training".'),
        ("peft", "load_in_4bit", 'It belongs in "quantization", beside "peft".'),
        ("training", "peft_config", "Give peft, beside training."),
        ("training", "tokenizer", "The base model brings its tokenizer."),
        ("training", "xyzzy", '"training" has no setting of that name.'),
    ],
)
def test_a_name_from_elsewhere_is_sent_there(kind: Kind, name: str, advice: str) -> None:
    with pytest.raises(UnknownArgument) as caught:
        CHECKS[kind]({name: 1})

    assert caught.value.message == f'unknown setting "{name}". {advice}'


@pytest.mark.parametrize(
    ("old", "value", "today", "result"),
    [
        ("evaluation_strategy", "epoch", "eval_strategy", "epoch"),
        ("max_seq_length", 512, "max_length", 512),
        ("warmup_ratio", 0.03, "warmup_steps", 0.03),
        ("group_by_length", True, "train_sampling_strategy", "group_by_length"),
        ("group_by_length", False, "train_sampling_strategy", "random"),
        ("per_gpu_train_batch_size", 2, "per_device_train_batch_size", 2),
    ],
)
def test_an_old_name_still_works_and_warns(
    old: str, value: object, today: str, result: object
) -> None:
    checked = check_training({old: value})

    assert checked.values == {today: result}
    assert checked.warnings == (f'"{old}" is called "{today}" today.',)


@pytest.mark.parametrize(
    ("old", "value"),
    [("warmup_ratio", 1), ("warmup_ratio", 30), ("group_by_length", 1), ("max_seq_length", 0)],
)
def test_a_bad_value_of_an_old_name_is_refused_under_that_name(old: str, value: object) -> None:
    assert refusal("training", old, value).param == f"training.{old}"


def test_no_cuda_is_refused_as_use_cpu_is() -> None:
    error = refusal("training", "no_cuda", True)

    assert isinstance(error, ForbiddenArgument)
    assert 'called "use_cpu" today' in error.message


def test_an_empty_request_is_fine() -> None:
    assert check_training({}) == CheckedArguments({}) == check_peft({})


def test_what_describe_returns_can_be_changed_without_harm() -> None:
    describe("training")["fields"].clear()

    assert "learning_rate" in describe("training")["fields"]


names = st.text() | st.sampled_from([name for kind in KINDS for name in describe(kind)["fields"]])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("auto"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


@given(kind=st.sampled_from(KINDS), given_values=st.dictionaries(names, values, max_size=4))
def test_nothing_else_is_ever_raised(kind: Kind, given_values: dict[str, object]) -> None:
    """Whatever is sent, the answer can be written as UTF-8 and belongs to this field."""
    error = None
    try:
        CHECKS[kind](given_values)
    except InvalidArgument as caught:
        error = caught

    if error is not None:
        assert error.message.isascii()
        assert (error.param or "").encode().startswith(kind.encode())


def test_a_name_with_half_a_surrogate_pair_can_be_answered() -> None:
    with pytest.raises(UnknownArgument) as caught:
        check_training({"learning_rate\ud800": 1})

    assert caught.value.param is not None
    assert caught.value.param.encode() == b"training.learning_rate\\ud800"
    assert caught.value.message.isascii()


def test_no_training_library_is_loaded() -> None:
    code = (
        "import sys, core.arguments as a; a.check_training({}); "
        "sys.exit(bool({'torch', 'transformers', 'trl', 'peft'} & sys.modules.keys()))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
