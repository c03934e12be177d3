"""Which tokens of a chat are learned, for chat templates with and without marks of their own."""

from importlib.resources import files
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from core.dataset.chat import ChatTemplate
from core.dataset.encode import IGNORED, Encoder, Masking
from core.dataset.examples import ChatExample, Example, Reading
from core.errors import InvalidArgument, InvalidTemplate

SPECIALS = [
    "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>",
    "<|user|>", "<|assistant|>", "<|return|>", "<|eot|>",
]  # fmt: skip
TEXTS = {"bos_token": "<s>", "eos_token": "</s>"}
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKED = (
    "{% for m in messages %}{% if m.role == 'assistant' %}A:{% generation %}{{ m.content }}</s>"
    "{% endgeneration %}{% else %}U:{{ m.content }}\n{% endif %}{% endfor %}"
)
# It refuses chats that do not take turns, as Mistral's does, and forgets earlier thoughts.
STRICT = (
    "{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {{ m.content | trim }} [/INST]"
    "{% elif loop.last %} {{ m.content }}</s>"
    "{% else %} {{ m.content.split('</think>')[-1] | trim }}</s>{% endif %}{% endfor %}"
)
UNMARKED_BY_TRL = (
    "cohere", "cohere2", "gemma3", "glm4moe", "gptoss", "lfm2", "llama3", "phi3", "qwen2_5",
    "qwen3", "qwen3_instruct_2507", "deepseekv3",
)  # fmt: skip


def tokenizer() -> Tokenizer:
    """One token for each byte, and the special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: n for n, letter in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(SPECIALS)
    return made


def encoder(template: str | None, **masking: Any) -> Encoder:
    chat = ChatTemplate(template, TEXTS, SPECIALS) if template else None
    return Encoder(tokenizer(), eos_token="</s>", chat=chat, masking=Masking(**masking))


def trained(template: str | None, example: Example, **masking: Any) -> list[str]:
    """The texts that are learned, decoded from just the tokens that are."""
    (tokens,) = (made := encoder(template, **masking)).encode([example])
    assert all(
        label in (token, IGNORED)
        for token, label in zip(tokens.input_ids, tokens.labels, strict=True)
    )
    return [part["text"] for part in made.segments(tokens) if part["trained"]]


def chat(*turns: str, weightless: frozenset[int] = frozenset(), prompt: int = 0) -> ChatExample:
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(turns)]
    return ChatExample(messages, weightless=weightless, prompt_messages=prompt)


def test_unmarked_templates_learn_the_answers_and_their_ends() -> None:
    found = trained(CHATML, chat("one", "u\u00f1o", "two", "dos"), assistant_only=True)

    assert found == ["u\u00f1o<|im_end|>", "dos<|im_end|>"]


def test_marked_templates_learn_what_they_mark() -> None:
    found = trained(MARKED, chat("one", "uno", "two", "dos"), assistant_only=True)

    assert found == ["uno</s>", "dos</s>"]


def test_a_template_that_renders_the_last_answer_otherwise_is_understood() -> None:
    example = chat("one", "<think>hm</think> uno", "two", "<think>so</think> dos")

    assert trained(STRICT, example, assistant_only=True) == [
        " uno</s>",
        " <think>so</think> dos</s>",
    ]


def test_equal_words_of_user_and_assistant_are_told_apart() -> None:
    found = trained(CHATML, chat("yes", "yes", "yes", ""), assistant_only=True)

    assert found == ["yes<|im_end|>", "<|im_end|>"]


@pytest.mark.parametrize("name", UNMARKED_BY_TRL)
def test_answers_are_found_in_the_templates_of_known_models(name: str) -> None:
    """The original templates, which have no marks; TRL brings them to recognize models by."""
    template = (files("trl") / "chat_templates" / f"{name}.jinja").read_text()
    example = chat("one", "uno", "two", "dos")
    made = ChatTemplate(template, TEXTS, SPECIALS)
    text = made.text(example)

    spans = [made.answer(example, text, index) for index in (1, 3)]

    said = [text[start:end] for start, end in filter(None, spans)]
    assert ["uno" in said[0], "dos" in said[1]] == [True, True]
    assert not any("one" in part or "two" in part for part in said)
    assert not any(part.endswith("\n") for part in said)


def test_weight_zero_is_read_and_not_learned_by_any_mask() -> None:
    example = chat("one", "uno", "two", "dos", weightless=frozenset({1}))

    assert trained(CHATML, example, assistant_only=True) == ["dos<|im_end|>"]
    assert trained(MARKED, example, assistant_only=True) == ["dos</s>"]
    whole = trained(CHATML, example)
    assert "uno" not in "".join(whole)
    assert whole[-1].endswith("two<|im_end|>\n<|im_start|>assistant\ndos<|im_end|>\n")


def test_of_a_completion_in_messages_only_its_answer_is_learned() -> None:
    example = chat("one", "uno", "two", "dos", prompt=3)

    assert trained(CHATML, example) == ["dos<|im_end|>\n"]
    assert trained(CHATML, example, assistant_only=True) == ["dos<|im_end|>"]
    assert len(trained(CHATML, example, completion_only=False)) == 1


SHAPES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "text": ({"text": "abc"}, ["bc</s>"]),
    "pair": ({"prompt": "a b", "completion": " c"}, [" c</s>"]),
    "alpaca": ({"instruction": "Say", "input": "", "output": "hi"}, ["hi</s>"]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_without_a_chat_template_texts_are_learned(name: str) -> None:
    row, learned = SHAPES[name]
    convert = Reading().converter(row, has_chat_template=False)

    assert trained(None, convert(row)) == learned


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [{"from": "human", "value": "one"}, {"from": "gpt", "value": "uno"}]},
        {"messages": [{"role": "User", "content": "one"}, {"role": "model", "content": "uno"}]},
        {"instruction": "one", "output": "uno"},
        {"prompt": [{"role": "user", "content": "one"}],
         "completion": [{"role": "assistant", "content": "uno"}]},
    ],
)  # fmt: skip
def test_every_shape_of_chat_becomes_the_same_one(row: dict[str, Any]) -> None:
    convert = Reading().converter(row, has_chat_template=True)

    assert trained(CHATML, convert(row), assistant_only=True) == ["uno<|im_end|>"]


def test_arguments_of_tools_are_objects_for_the_template() -> None:
    call = {"id": "1", "function": {"name": "add", "arguments": '{"a": 1}'}}
    messages = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "function", "content": "2", "tool_calls": None},
    ]
    row = {"messages": messages, "tools": '[{"name": "add"}]'}

    example = Reading().converter(row, has_chat_template=True)(row)

    assert isinstance(example, ChatExample)
    assert example.tools == [{"name": "add"}]
    assert example.messages[1]["tool_calls"][0]["function"]["arguments"] == {"a": 1}
    assert example.messages[2] == {"role": "tool", "content": "2"}


def test_given_labels_are_kept() -> None:
    row = {"input_ids": [70, 71, 72], "labels": [-100, -100, 72]}

    (tokens,) = encoder(None).encode([Reading().converter(row, has_chat_template=False)(row)])

    assert tokens == ([70, 71, 72], [-100, -100, 72])


@pytest.mark.parametrize(
    ("masking", "param"),
    [
        ({"assistant_only": True}, "training.assistant_only_loss"),
        ({"completion_only": True}, "training.completion_only_loss"),
    ],
)
def test_a_mask_that_the_rows_do_not_have_is_refused(masking: dict[str, Any], param: str) -> None:
    row = {"text": "a"}

    with pytest.raises(InvalidArgument) as raised:
        encoder(None, **masking).encode([Reading().converter(row, has_chat_template=False)(row)])

    assert raised.value.param == param


@pytest.mark.parametrize(
    "source", ["{% for", "{{ ''.__class__.__mro__ }}", "{{ messages[9].x.y }}"]
)
def test_a_bad_chat_template_is_an_error_with_its_reason(source: str) -> None:
    with pytest.raises(InvalidTemplate, match="the chat template fails"):
        ChatTemplate(source, TEXTS).text(chat("one", "uno"))
