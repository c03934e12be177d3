"""The body of a job from what was said on the command line, and from a file if one was named."""

import difflib
import importlib
import inspect
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from cli.client import Client
from cli.errors import Exit, UserError
from cli.output import say
from cli.transfer import upload

DataFile = typer.Option("--file", "-f", "-d", exists=True, dir_okay=False, help="Data to train on.")
BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmMgGtT]?)(i?)[bB]?")
POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
CLONED = (
    *("model", "training_file", "validation_file", "dataset", "template", "shape"),
    *("chat_template", "max_masked_fraction", "training", "peft", "quantization", "seed"),
    *("metadata", "resources", "priority", "max_attempts", "max_seconds", "sample_prompts"),
    "on_non_finite",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobOptions:
    """What `submit`, `plan` and `clone` take; all of it may be left out."""

    model: Annotated[str | None, typer.Option("--model", "-m")] = None
    file: Annotated[Path | None, DataFile] = None
    eval_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Data to evaluate on.")
    ] = None
    dataset: Annotated[
        str | None, typer.Option(help="A Hub dataset in place of a file: ID or ID:SPLIT.")
    ] = None
    template: Annotated[
        str | None, typer.Option(help="Jinja over a row's columns, or @FILE with it.")
    ] = None
    name: Annotated[
        str | None, typer.Option(help="What to call the job: its suffix, in place of the id.")
    ] = None
    lora_rank: Annotated[
        int | None, typer.Option("--lora-rank", "--lora-r", help="Train a LoRA adapter.")
    ] = None
    effective_batch: Annotated[
        int | None, typer.Option(min=1, help="Rows of a step; the plan finds the split.")
    ] = None
    micro_batch: Annotated[int | None, typer.Option(min=1, help="Rows at once.")] = None
    grad_accum: Annotated[int | None, typer.Option(min=1, help="Micro-batches of a step.")] = None
    epochs: Annotated[float | None, typer.Option(help="How often to go through the data.")] = None
    max_steps: Annotated[int | None, typer.Option(min=1, help="Steps at most.")] = None
    memory: Annotated[str | None, typer.Option(help="What the training may hold, like 20GiB.")] = (
        None
    )
    sample_prompt: Annotated[
        list[str] | None, typer.Option(help="Answered at each checkpoint; may be repeated.")
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="name=value of SFTConfig, or --NAME VALUE; may be repeated."),
    ] = None
    from_file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="The API's body as JSON or YAML."),
    ] = None


def with_job_options(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take all of JobOptions, as its argument `options`."""
    names = {field.name: field.default for field in fields(JobOptions)}
    hints = get_type_hints(JobOptions, include_extras=True)
    own = [
        parameter
        for parameter in inspect.signature(command, eval_str=True).parameters.values()
        if parameter.name != "options"
    ]
    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [
        inspect.Parameter(name, keyword, default=default, annotation=hints[name])
        for name, default in names.items()
    ]
    of_own = [parameter.replace(kind=keyword) for parameter in own]

    def run(**given: Any) -> None:
        options = JobOptions(**{name: given.pop(name) for name in names})
        command(options=options, **given)

    merged = [*of_own[:1], *added, *of_own[1:]]
    run.__doc__, run.__name__ = command.__doc__, command.__name__
    run.__signature__ = inspect.Signature(merged)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in merged}
    return run


def job_body(
    options: JobOptions, words: Sequence[str], base: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What was asked for over `base`, without the files. `words` are MODEL and --NAME VALUE."""
    read = _read_body(options.from_file) if options.from_file else {}
    body: dict[str, Any] = {"training": {}} | (base or {}) | read
    model, free = _split_words(words)
    if model and options.model:
        raise UserError(f"Which model: {model} or {options.model}?", code=Exit.USAGE)
    _set(body, model=options.model or model, suffix=options.name)
    _set(body, effective_batch_size=options.effective_batch)
    _set(body, sample_prompts=options.sample_prompt, template=_template(options.template))
    if options.lora_rank is not None:
        body["peft"] = {"target_modules": "all-linear"} | (body.get("peft") or {})
        body["peft"]["r"] = options.lora_rank
    if options.dataset is not None:
        path, _, split = options.dataset.partition(":")
        body["dataset"] = {"path": path} | ({"split": split} if split else {})
    if options.memory is not None:
        body["resources"] = {"memory": parse_bytes(options.memory)}
    body["training"] = dict(body["training"]) | training_of(options.settings, free)
    _set(
        body["training"],
        num_train_epochs=options.epochs,
        max_steps=options.max_steps,
        per_device_train_batch_size=options.micro_batch,
        gradient_accumulation_steps=options.grad_accum,
    )
    if "seed" in body["training"]:
        # The body has a place of its own for it, which a cloned job has filled.
        body["seed"] = body["training"].pop("seed")
    if "model" not in body:
        raise UserError("Which model?", "Name one: tuneyard submit MODEL …", code=Exit.USAGE)
    return body


def upload_data(
    client: Client, options: JobOptions, body: dict[str, Any], *, is_told: bool = True
) -> list[str]:
    """Upload the files that the body is to name, put their ids into it, and return those."""
    folder = options.from_file.parent if options.from_file else Path()
    made = []
    for field, named in (("training_file", options.file), ("validation_file", options.eval_file)):
        path = named or _local(body.get(field), folder)
        if path is None:
            continue
        file = upload(client, path)
        body[field] = file["id"]
        made.append(file["id"])
        if is_told:
            report = file["report"]
            say(f"✓ Uploaded {path.name}: {report['rows']:,} rows of {report['shape']}")
    if options.file is not None:
        body.pop("dataset", None)
    if options.dataset is not None and options.file is None:
        body.pop("training_file", None)
    if not body.get("training_file") and not body.get("dataset"):
        raise UserError(
            "Which data?", "Name a file with --file, or a Hub dataset.", code=Exit.USAGE
        )
    return made


def body_of(job: dict[str, Any]) -> dict[str, Any]:
    """The body that makes a job like this one."""
    return {name: job[name] for name in CLONED if job[name] is not None}


def training_of(settings: Sequence[str] | None, free: Sequence[str]) -> dict[str, Any]:
    """Trainer arguments from `name=value`, and from options that are none of the command's."""
    pairs = [*(settings or []), *_free_settings(free)]
    return dict(map(_setting, pairs))


def parse_bytes(text: str) -> int:
    """Bytes from 20GiB, 20G, 20 GB or 20000000000."""
    found = BYTES.fullmatch(text.strip())
    if found is None:
        raise UserError(f"{text} is no size.", "Say 20GiB, or 20GB.", code=Exit.USAGE)
    number, unit, is_binary = found.groups()
    factor: int = (1024 if is_binary else 1000) ** POWERS[unit.upper()]
    return round(float(number) * factor)


def _split_words(words: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    if words and not words[0].startswith("-"):
        return words[0], words[1:]
    return None, words


def _free_settings(words: Sequence[str]) -> list[str]:
    """`--NAME VALUE` and `--NAME=VALUE` as `NAME=VALUE`."""
    pairs, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name:
            raise UserError(f"What is {word!r} for?", "See --help.", code=Exit.USAGE)
        if not equals and (not rest or rest[0].startswith("--")):
            message = f"There is no option {word}; as a setting it needs a value."
            raise UserError(message, _nearest(word), code=Exit.USAGE)
        pairs.append(f"{name.replace('-', '_')}={value if equals else rest.pop(0)}")
    return pairs


def _nearest(word: str) -> str:
    names = [f"--{field.name.replace('_', '-')}" for field in fields(JobOptions)]
    near = difflib.get_close_matches(word, [*names, "--watch", "--dry-run", "--json"], n=1)
    return f"Did you mean {near[0]}?" if near else "See --help."


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set {text}: expected name=value.", code=Exit.USAGE)
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _set(body: dict[str, Any], **values: Any) -> None:
    body |= {name: value for name, value in values.items() if value not in (None, [])}


def _template(text: str | None) -> str | None:
    if text is None or not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{text[1:]} cannot be read: {error}", code=Exit.USAGE) from error


def _local(value: object, folder: Path) -> Path | None:
    """The file on this machine that a body names, if it is none of the server's."""
    if not isinstance(value, str) or value.startswith("file-"):
        return None
    path = folder / value
    if not path.is_file():
        raise UserError(f"{path} is no file.", code=Exit.USAGE)
    return path


def _read_body(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text()
        body = _yaml(text) if path.suffix in (".yaml", ".yml") else json.loads(text)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}", code=Exit.USAGE) from error
    if not isinstance(body, dict):
        raise UserError(f"{path} is no object with the fields of a job.", code=Exit.USAGE)
    return body


def _yaml(text: str) -> Any:
    try:
        yaml = importlib.import_module("yaml")
    except ImportError as error:
        hint = "Install it (pip install pyyaml), or write the body as JSON."
        raise UserError("YAML needs PyYAML.", hint, code=Exit.USAGE) from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
