"""The form of a request: what is refused, and in which words."""

import pytest

from core.base_model import parse_model
from core.errors import InvalidArgument, UnknownArgument
from core.spec import parse_spec

BODY = {"model": "facebook/opt-350m", "training_file": "file-1"}


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"model": None}, "model", ""),
        ({"modle": "x"}, "modle", 'Did you mean "model"?'),
        ({"dataset": {"path": "imdb", "spilt": "train"}}, "dataset.spilt", '"split"'),
        ({"dataset": {"path": "../etc"}}, "dataset.path", ""),
        ({"method": {"type": "dpo"}}, "method.type", "supervised"),
        (
            {"method": {"supervised": {"hyperparameters": {"n_epoch": 3}}}},
            "method.supervised.hyperparameters.n_epoch",
            '"n_epochs"',
        ),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", "1"),
        ({"hyperparameters": {"batch_size": True}}, "hyperparameters.batch_size", ""),
        ({"seed": -1}, "seed", ""),
        ({"seed": 2**40}, "seed", ""),
        ({"seed": 1.5}, "seed", ""),
        ({"suffix": ""}, "suffix", ""),
        ({"metadata": {"k": "v" * 513}}, "metadata.k", ""),
        ({"metadata": {str(n): "v" for n in range(17)}}, "metadata", ""),
        ({"training": []}, "training", ""),
        ({"integrations": [{"type": "wandb"}]}, "integrations", ""),
        ({"priority": 1e9}, "priority", ""),
        ({"status": "succeeded"}, "status", ""),
        ({"project_id": "other"}, "project_id", ""),
    ],
)
def test_a_bad_field_is_named_by_its_path(change, param, words) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_spec(BODY | change)

    assert caught.value.param == param
    assert words in caught.value.message


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InvalidArgument, match='"model" is required'):
        parse_spec({"training_file": "file-1"})


def test_an_unknown_field_has_a_code_of_its_own() -> None:
    with pytest.raises(UnknownArgument):
        parse_spec(BODY | {"anything": 1})


def test_the_request_is_kept_as_it_was_sent() -> None:
    body = BODY | {"training": {"max_steps": 3}, "peft": None}

    assert parse_spec(body).as_sent() == body


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("facebook/opt-350m", "hub"),
        ("gpt2", "hub"),
        ("local/tiny-opt", "local"),
        ("local/team/tiny-opt", "local"),
        ("jobs/ftjob-0123456789abcdef01234567", "job"),
        ("jobs/ftjob-0123456789abcdef01234567.step-500", "job"),
    ],
)
def test_model_names(name, kind) -> None:
    assert parse_model(name).kind == kind


@pytest.mark.parametrize(
    "name",
    [
        "../../etc",
        "/etc",
        "..",
        "~/x",
        "http://host/x",
        "file:///etc",
        "a/b/c",
        "local/../x",
        "local//x",
        "local/",
        "jobs/other",
        "jobs/ftjob-0123456789abcdef01234567.step-0",
        "x\x00y",
        "a--b",
        "a" * 98,
        "name.",
        "",
    ],
)
def test_what_is_not_a_model_name(name) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_model(name)
    assert caught.value.param == "model"
