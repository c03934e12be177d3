"""What a training child is asked to do: one JSON object, all of it on this machine."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from core.dataset import ShapeName


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class DataSource(_Strict):
    """Examples: a file of one of the formats, or a folder that `Dataset.save_to_disk` wrote."""

    kind: Literal["jsonl", "json", "csv", "parquet", "saved"]
    path: Path
    compression: Literal["gzip", "zstd"] | None = None
    """How the file is packed."""
    tokens_key: str | None = None
    """Name of the tokens of this file by this tokenizer: a folder in `tokens` of the scratch
    folder, which is there already where this machine has them."""
    revision: str | None = None
    """The commit of a Hub dataset."""


class Order(_Strict):
    """One attempt of one job. The supervisor has checked what the user gave."""

    job_id: str
    attempt: int
    seed: int
    model_dir: Path
    """Folder with config, tokenizer and safetensors."""
    adapter_dir: Path | None = None
    """Folder of a LoRA adapter of this model, to be trained on."""
    public_model: str
    """The name of the model in what leaves this machine, in place of `model_dir`."""
    train: DataSource
    eval: DataSource | None = None
    template: str | None = None
    """Jinja over a row's columns that gives the text to train on."""
    shape: ShapeName | None = None
    """The shape of the rows, where the user says it."""
    chat_template: str | None = None
    """In place of the model's own."""
    max_masked_fraction: float | None = None
    """With a larger share of tokens that are not learned there is no training."""
    training: dict[str, Any]
    """SFTConfig arguments, by today's names."""
    peft: dict[str, Any] | None = None
    """LoraConfig arguments; null trains all weights."""
    quantization: dict[str, Any] | None = None
    """BitsAndBytesConfig arguments."""
    sample_prompts: tuple[str, ...] = ()
    """What the model is to answer at each checkpoint, for people to look at."""
    scratch: Path
    """Folder of this attempt alone, where everything is written."""
    resume_from: Path | None = None
    """A verified checkpoint folder."""
    threads: int
    """Cores that the child may use."""
    device: Literal["cpu", "cuda"]
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of the weights in memory."""
    memory_bytes: int | None = None
    """What this process may hold in memory, on the device that it trains on; null: all there is."""
    lease_seconds: float = 60.0
    """A supervisor that was silent for so long is gone."""
    is_sandboxed: bool = False
    """Whether the child gives up everything on this machine that the order does not name."""

    @property
    def inputs(self) -> list[Path]:
        """What the child reads, without the links that lead there.

        A model of the Hub's cache is a folder of links to files beside it.
        """
        folders = [self.model_dir, self.adapter_dir, self.resume_from, self.train.path]
        folders.append(self.eval.path if self.eval is not None else None)
        named = [folder.resolve() for folder in folders if folder is not None]
        linked = [file.resolve() for file in self.model_dir.glob("*") if file.is_symlink()]
        return named + linked
