"""The memory model: its terms, and what it makes of smaller pieces."""

from core.model_facts import ModelFacts, make_facts
from core.plan.fit import advice, peak_with_margin, smallest_change
from core.plan.memory import FLOAT, TERMS, predict_peak
from core.plan.settings import TrainSettings, settings_of
from tests.unit.test_model_facts import LLAMA

SMOLLM = LLAMA | {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
}


def smollm() -> ModelFacts:
    """The facts of SmolLM2-135M."""
    return make_facts("local/smollm", SMOLLM, {})


def settings(**training: object) -> TrainSettings:
    """Full training of 128 tokens a row."""
    return settings_of(smollm(), {"max_length": 128, **training})


def test_the_formula_counts_smollm_as_its_authors_do() -> None:
    assert abs(smollm().parameters - 134_515_008) < 50_000


def test_a_peak_is_the_sum_of_its_terms() -> None:
    peak = predict_peak(smollm(), settings())

    assert tuple(peak.terms) == TERMS
    assert peak.total == sum(peak.terms.values())


def test_weights_and_adam_are_four_and_eight_bytes_a_parameter() -> None:
    terms = predict_peak(smollm(), settings()).terms

    assert terms["weights"] == FLOAT * smollm().parameters
    assert terms["optimizer"] == 8 * smollm().parameters


def test_each_smaller_micro_batch_takes_less() -> None:
    batch = settings(per_device_train_batch_size=32)
    peaks = [
        predict_peak(smollm(), batch.split(size, checkpointing=False)).total
        for size in (32, 16, 8, 4, 2, 1)
    ]

    assert peaks == sorted(peaks, reverse=True)


def test_checkpointing_and_lora_take_less() -> None:
    full = settings(per_device_train_batch_size=8)
    lora = settings_of(smollm(), {"max_length": 128}, peft={"r": 8})
    packed = settings_of(
        smollm(), {"max_length": 128}, peft={"r": 8}, quantization={"load_in_4bit": True}
    )

    peak = predict_peak(smollm(), full).total
    assert predict_peak(smollm(), full.split(8, checkpointing=True)).total < peak
    assert predict_peak(smollm(), lora).total < peak
    assert predict_peak(smollm(), packed).total < predict_peak(smollm(), lora).total


def test_an_evaluation_of_large_batches_can_be_the_peak() -> None:
    small = settings_of(
        smollm(),
        {"max_length": 1024, "per_device_train_batch_size": 1, "per_device_eval_batch_size": 64},
        peft={"r": 8},
        has_evaluation=True,
    )

    assert predict_peak(smollm(), small).moment == "evaluation"


def test_the_smallest_change_is_a_smaller_micro_batch_and_it_fits() -> None:
    wanted = settings(per_device_train_batch_size=32)
    limit = round(peak_with_margin(smollm(), wanted.split(4, checkpointing=False))) + 1

    change = smallest_change(smollm(), wanted, limit)

    assert change is not None
    assert change.body == {
        "training": {
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 8,
            "activation_checkpointing": False,
        }
    }


def test_advice_says_lora_where_full_training_cannot_fit() -> None:
    told = advice(smollm(), settings(), 2_000_000_000)

    assert told["needed_bytes"] > told["limit_bytes"]
    assert told["change"]["peft"] == {"r": 8, "target_modules": "all-linear"}
    assert told["changed_bytes"] < 2_000_000_000


def test_nothing_fits_into_less_than_the_runtime() -> None:
    assert smallest_change(smollm(), settings(), 100_000_000) is None
