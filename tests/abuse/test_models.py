"""Model folders that a stranger made: refused where they are asked for, by file and fix.

Each case is one change of a folder that is good. What only native code can find, a training child
finds: `tests/training/test_child_failures.py`.
"""

import json
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from core.arguments.policy import POLICIES
from core.base_model import local_folder
from core.errors import InvalidModel
from core.jobs import list_jobs
from core.model_check import check_adapter, check_complete, check_model
from core.model_facts import INDEX
from tests.abuse.test_cases import case
from tests.api.conftest import JOBS, Site, problem_of

NAME = "local/tiny"
CODE = {"AutoConfig": "theirs.Config", "AutoModelForCausalLM": "theirs.Model"}
CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "tie_word_embeddings": True,
    "dtype": "float32",
}
ADAPTER = {
    "peft_type": "LORA",
    "base_model_name_or_path": "acme/base",
    "r": 4,
    "target_modules": ["q_proj"],
    "auto_mapping": None,
    "rank_pattern": {},
    "of_tomorrow": False,
}

Change = Callable[[Path], None]


def write_good(folder: Path) -> Path:
    """A model whose weights have a header and no content: nothing here reads further."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tensors = {"model.embed_tokens.weight": [512, 64], "model.norm.weight": [64]}
    for layer in range(2):
        tensors |= {
            f"model.layers.{layer}.self_attn.q_proj.weight": [64, 64],
            f"model.layers.{layer}.mlp.up_proj.weight": [384, 64],
        }
    entries = {
        tensor: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
        for tensor, shape in tensors.items()
    }
    header = json.dumps(entries).encode()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return folder


def config(**values: Any) -> Change:
    """Change config.json."""
    return lambda folder: written(folder, "config.json", CONFIG | values)


def written(folder: Path, name: str, content: Any) -> None:
    """Write one file: text as it is, and anything else as JSON."""
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text)


def file(name: str, content: Any) -> Change:
    """Add or replace one file."""
    return lambda folder: written(folder, name, content)


def only(name: str, content: bytes = b"") -> Change:
    """Have these weights in place of safetensors."""

    def change(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(content)

    return change


def weights(content: bytes) -> Change:
    """Replace the weights."""
    return lambda folder: bool((folder / "model.safetensors").write_bytes(content)) or None


def link(name: str, target: str) -> Change:
    """Replace a file by a link."""

    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return change


def index(weight_map: Any) -> Change:
    """Name the weights in an index."""
    return file(INDEX, {"metadata": {}, "weight_map": weight_map})


DEEP = '{"a":' * 5000 + "1" + "}" * 5000
GGUF = b"GGUF" + struct.pack("<IQQ", 3, 2**62, 2**62)

REFUSED = [
    case(only("pytorch_model.bin", b"\x80\x04."), "in pytorch_model.bin", id="only a pickle"),
    case(only("model.pt"), "in model.pt", id="only a .pt"),
    case(only("model.gguf", GGUF), "in model.gguf", id="a GGUF of 2**62 tensors"),
    case(weights(struct.pack("<Q", 2**62)), "no safetensors header", id="a header of 2**62 bytes"),
    case(weights(struct.pack("<Q", 4) + b"{[}]"), "is damaged", id="a damaged header"),
    case(config(model_type="theirs", auto_map=CODE), "needs code of its own", id="auto_map"),
    case(config(model_type="theirs"), "model_type 'theirs'", id="an unknown architecture"),
    case(config(model_type=7), "model_type 7", id="a number for an architecture"),
    case(config(model_type=["llama"]), "model_type ['llama']", id="a list for an architecture"),
    case(config(architectures="x"), "no list of names", id="architectures as a text"),
    case(config(architectures=[3]), "no list of names", id="architectures of numbers"),
    case(config(architectures=["AutoTokenizer"]), "'AutoTokenizer'", id="a tokenizer as a model"),
    case(config(architectures=["Trainer"]), "'Trainer'", id="a trainer as a model"),
    case(config(architectures=["GenerationConfig"]), "'GenerationConfig'", id="a configuration"),
    case(config(architectures=["os.system"]), "'os.system'", id="a dotted name"),
    *(
        case(config(**{key: value}), f"names code to be run: {key}", id=f"{key} {number}")
        for key in ("attn_implementation", "_attn_implementation",
                    "_attn_implementation_internal", "experts_implementation")
        for number, value in enumerate(("evil/kernel", {"": "evil/kernel@main:f"}))
    ),
    case(config(text_config={"_attn_implementation": "evil/kernel"}), "code to be run",
         id="code to be run, within"),
    case(config(num_hidden_layers=10**6), "1000000", id="a million layers"),
    case(config(num_hidden_layers="2"), "num_hidden_layers '2'", id="layers as a text"),
    case(config(num_hidden_layers=True), "num_hidden_layers True", id="layers that are true"),
    case(config(num_hidden_layers=1), "says 1 layers, but its weights have 2",
         id="layers that would be left out"),
    case(config(num_hidden_layers=3), "says 3 layers, but its weights have 2",
         id="layers that are not there"),
    case(config(hidden_size=10**8), "hidden_size 100000000", id="a width of 10**8"),
    case(config(intermediate_size=10**5), "do not belong together", id="far too many parameters"),
    case(config(vocab_size=10, intermediate_size=1), "do not belong together",
         id="far too few parameters"),
    case(config(vocab_size=10**9), "vocab_size 1000000000", id="a vocabulary of 10**9"),
    case(config(num_attention_heads=0), "num_attention_heads 0", id="no heads"),
    case(config(vision_config={"num_hidden_layers": 10**6}), "1000000", id="layers, within"),
    case(config(dtype="evil"), "dtype 'evil'", id="an unknown type"),
    case(config(torch_dtype=["float32"]), "torch_dtype ['float32']", id="a list for a type"),
    case(config(dtype={"": "os.system"}), "dtype 'os.system'", id="a type of a part"),
    case(config(quantization_config={"quant_method": "gptq"}), "quantized by 'gptq'",
         id="weights that cannot be trained on"),
    case(config(quantization_config=[1]), "quantized by [1]", id="a list for a quantization"),
    case(file("config.json", DEEP), "is not JSON", id="5,000 levels"),
    case(file("config.json", DEEP[:500] + "1" + "}" * 100), "nested more than", id="100 levels"),
    case(file("config.json", '{"model_type": "ll'), "is not JSON", id="half of a configuration"),
    case(file("config.json", [1]), "is not an object", id="a list for a configuration"),
    case(file("tokenizer_config.json", [1]), "is not an object", id="a list for a tokenizer's"),
    case(file("tokenizer_config.json", DEEP), "is not JSON", id="5,000 levels of a tokenizer's"),
    case(index({"a": "../outside.safetensors"}), "outside of its folder", id="an index leads up"),
    case(index({"a": "/etc/passwd"}), "outside of its folder", id="an index leads to the root"),
    case(index({"a": 3}), "outside of its folder", id="an index of numbers"),
    case(index({"a": "model.bin"}), "not there as safetensors", id="an index leads to a pickle"),
    case(index({"a": "b.safetensors"}), "not there as safetensors", id="an index leads nowhere"),
    case(index(["a"]), "has no weight_map", id="an index with a list"),
    case(file(INDEX, [1]), "is not an object", id="a list for an index"),
    case(link("model.safetensors", "../../outside.safetensors"), "is a link", id="linked weights"),
    case(link("chat_template.jinja", "/etc/passwd"), "is a link", id="a linked template"),
    case(link("x", "x"), "is a link", id="a link to itself"),
    case(file("adapter_config.json", ADAPTER), "is a LoRA adapter", id="an adapter as a model"),
]  # fmt: skip

HARMLESS = [
    case(file("pytorch_model.bin", "pickled"), id="a pickle beside safetensors"),
    case(config(auto_map=CODE), id="auto_map of an architecture that is known"),
    case(file("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["a.B", None]}}),
         id="auto_map of a tokenizer"),
    case(config(architectures=[]), id="no architectures"),
    case(config(architectures=None), id="architectures null"),
    case(config(trust_remote_code=True, gguf_file="x.gguf"), id="words that are the loader's"),
    case(config(attn_implementation="flash_attention_2"), id="attention by a plain name"),
    case(link("tokenizer.json", "../tokenizer.json"), id="a link within the folder of models"),
    case(file("consolidated.safetensors", "a copy"), id="a copy of the weights"),
]  # fmt: skip


@pytest.fixture
def folder(models: Path) -> Path:
    """A good model below MODEL_ROOTS."""
    return write_good(models / "tiny")


@pytest.mark.parametrize(("change", "says"), REFUSED)
def test_what_is_wrong_with_a_model_is_said_with_its_file(
    folder: Path, change: Change, says: str
) -> None:
    change(folder)

    with pytest.raises(InvalidModel) as raised:
        check_model(NAME, local_folder(NAME, [folder.parent]))

    error = raised.value
    assert (error.code, error.param) == ("invalid_model", "model")
    assert says in error.message
    assert NAME in error.message
    assert str(folder.parent) not in error.message
    assert len(error.message) < 300


def test_a_hostile_model_is_refused_before_there_is_a_job(site: Site, folder: Path) -> None:
    body = {"model": NAME, "training_file": site.upload()}
    for row in REFUSED:
        change, says = row.values
        write_good(folder)
        change(folder)
        for path in (JOBS, "/v1/fine_tuning/plan"):
            error = problem_of(site.client.post(path, json=body), 400)
            assert (error["code"], error["param"]) == ("invalid_model", "model"), row.id
            assert says in error["message"]

    write_good(folder)
    with site.database.read() as session:
        assert list_jobs(session) == []
    answer = site.client.post(JOBS, json=body)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("change", HARMLESS)
def test_what_is_not_read_of_a_model_does_no_harm(folder: Path, change: Change) -> None:
    (folder.parent / "tokenizer.json").write_text("{}")
    change(folder)

    check_complete(NAME, local_folder(NAME, [folder.parent]))


@pytest.mark.parametrize("path", ["model.safetensors", "chat_template.jinja"])
def test_the_hub_serves_nothing_that_a_link_leads_out_to(
    site: Site, folder: Path, path: str
) -> None:
    (folder.parents[1] / "secret").write_text("secret")
    link(path, "../../secret")(folder)

    for url in ("api/models/local/tiny", f"local/tiny/resolve/main/{path}"):
        assert problem_of(site.client.get(f"/hf/{url}"), 404)["code"] == "repository_not_found"
    assert site.client.get("/hf/api/models").json() == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        case(file("config.json", {}), "has no model_type", id="no architecture"),
        case(lambda folder: (folder / "model.safetensors").unlink(), "no weights", id="no weights"),
        case(lambda folder: (folder / "config.json").unlink(), "no config.json", id="nothing"),
    ],
)
def test_a_worker_takes_no_model_of_which_parts_are_missing(
    tmp_path: Path, change: Change, says: str
) -> None:
    folder = write_good(tmp_path / "tiny")
    change(folder)

    with pytest.raises(InvalidModel, match=says):
        check_complete(NAME, folder)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        *(
            case({name: {"x": 1}}, name, id=name)
            for name, rule in POLICIES["peft"].rules.items()
            if rule.argument_class == "denied"
        ),
        case({"of_tomorrow": "x"}, "of_tomorrow", id="what nobody knows"),
        case({"target_modules": "(a+)+$"}, "by a pattern", id="a slow pattern"),
        case({"peft_type": "PREFIX_TUNING"}, "no LoRA", id="another kind"),
        case({"base_model_name_or_path": ["a"]}, "no LoRA", id="no base"),
    ],
)
def test_an_adapter_does_no_more_than_a_lora_of_ours(
    tmp_path: Path, values: Mapping[str, Any], says: str
) -> None:
    written(tmp_path, "adapter_config.json", ADAPTER)
    assert check_adapter("jobs/x", tmp_path) == "acme/base"

    written(tmp_path, "adapter_config.json", {**ADAPTER, **values})
    with pytest.raises(InvalidModel, match=says):
        check_adapter("jobs/x", tmp_path)
