"""Make a tiny random language model, with a tokenizer, in seconds and without a network.

    python examples/tiny_model.py llama models/tiny-llama

The text that the tokenizer learns from, and that the two data files hold, comes with Python.
"""

import argparse
import json
from itertools import cycle, islice
from pathlib import Path
from pydoc_data.topics import topics

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

FAMILIES = ("opt", "llama", "qwen2", "gpt2")
POSITIONS = 512
VOCABULARY = 2048
WIDTH = 64

CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|im_end|>\n' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_tiny_model(family: str, folder: Path, *, seed: int = 0) -> Path:
    """Write a model of this family with random weights to `folder`, about 1 MB, and return it."""
    tokenizer = make_tokenizer()
    torch.manual_seed(seed)
    _random_model(family, len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer trained on Python's own documentation."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<pad>", "<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>"],
    )
    tokenizer.train_from_iterator(paragraphs(), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=POSITIONS,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def paragraphs() -> list[str]:
    """Paragraphs of English prose, always in the same order."""
    texts = (text for topic in sorted(topics) for text in topics[topic].split("\n\n"))
    return [" ".join(text.split()) for text in texts if len(text) > 80]


def write_pydoc_text(path: Path, rows: int) -> Path:
    """Write `rows` lines of {"text": ...}."""
    return _write(path, [{"text": text} for text in islice(cycle(paragraphs()), rows)])


def write_chat(path: Path, rows: int) -> Path:
    """Write `rows` lines of {"messages": [...]}: a question about Python and its answer."""
    chats = []
    for topic, text in islice(cycle(sorted(topics.items())), rows):
        question = {"role": "user", "content": f"Explain {topic} in Python."}
        answer = {"role": "assistant", "content": " ".join(text.split())[:300]}
        chats.append({"messages": [question, answer]})
    return _write(path, chats)


def _write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _random_model(family: str, vocabulary: int) -> PreTrainedModel:
    tokens = {"vocab_size": vocabulary, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    if family == "opt":
        config = OPTConfig(
            hidden_size=WIDTH,
            word_embed_proj_dim=WIDTH,
            ffn_dim=4 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=POSITIONS,
            **tokens,
        )
        return OPTForCausalLM(config)
    if family == "gpt2":
        config = GPT2Config(n_embd=WIDTH, n_layer=2, n_head=4, n_positions=POSITIONS, **tokens)
        return GPT2LMHeadModel(config)
    config_of, model_of = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    }[family]
    config = config_of(
        hidden_size=WIDTH,
        intermediate_size=172,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        **tokens,
    )
    return model_of(config)


def main() -> None:
    """Make the model that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    print(make_tiny_model(arguments.family, arguments.folder))


if __name__ == "__main__":
    main()
