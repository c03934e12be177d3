"""Peak memory of a training child, by term; docs/memory-model.md has each formula's source.

B is rows of a micro-batch, T tokens of a row, H the hidden size, V the vocabulary. All of it is
bytes. A peak is the highest of several moments; the terms are those of that moment.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from core.model_facts import Family, ModelFacts
from core.plan.settings import TrainSettings

FLOAT = 4
HALF = 2

RUNTIME_BYTES = 470_000_000
"""Python, torch, transformers and the tokenizer, in a training child without a model."""
OPTIMIZER_BYTES: dict[str, float] = {
    "adamw_torch": 8,
    "adamw_torch_fused": 8,
    "adamw_8bit": 2.1,
    "adamw_bnb_8bit": 2.1,
    "paged_adamw_32bit": 8,
    "paged_adamw_8bit": 2.1,
    "adafactor": 0.1,
    "sgd": 0,
}
"""State of one trained parameter."""
QUANTIZED_BYTES = {"lora_8bit": 1.02, "lora_4bit": 0.57}
"""Of one parameter of a layer, with the scales."""


@dataclass(frozen=True, slots=True)
class _Slack:
    """What the C library keeps of freed blocks on a CPU; fitted on OPT and Llama models only."""

    weights: float = 0.24
    """Of the bytes of the weights, when all of them are trained."""
    first_weights_full: float = 0.85
    first_weights_lora: float = 0.84
    """Of the first SMALL_BYTES of them: larger ones come from blocks that are given back."""
    activations_fp32_full: float = 0.35
    """Of what all layers keep, checkpointed or not: gradients fill a part of the holes."""
    activations_fp32_lora: float = 0.84
    activations_bf16_full: float = 0.22
    activations_bf16_lora: float = 0.4
    logits_bf16: float = 0.17
    bf16_bytes: float = 25e6
    """The kernels of half precision themselves."""


SLACK = _Slack()
SMALL_BYTES = 80_000_000


@dataclass(frozen=True, slots=True)
class _Layer:
    """What autograd keeps of one layer, for one token: counted with saved_tensors_hooks."""

    hidden: float
    """Bytes for each unit of the hidden size."""
    wide: float
    """For each unit of the MLP's width."""
    dropout: float
    """For each unit of the hidden size, where the model drops out."""


_KEPT: dict[tuple[str, bool, bool], _Layer] = {
    # (architecture, bf16, adapters only)
    ("gated", False, False): _Layer(32, 16, 0),
    ("gated", False, True): _Layer(24, 16, 0),
    ("gated", True, False): _Layer(30, 8, 0),
    ("gated", True, True): _Layer(24, 8, 0),
    ("opt", False, False): _Layer(32, 4, 8),
    ("opt", False, True): _Layer(32, 4, 8),
    ("opt", True, False): _Layer(24, 2, 4),
    ("opt", True, True): _Layer(26, 4, 4),
    ("gpt2", False, False): _Layer(32, 20, 8),
    ("gpt2", False, True): _Layer(32, 20, 8),
    ("gpt2", True, False): _Layer(20, 10, 10),
    ("gpt2", True, True): _Layer(22, 10, 8),
}
_NORMS = 16
"""Means and deviations of two norms, for a token."""
_SCORES = 12
"""Of one attention score, where dropout forbids the kernel that keeps none of them."""

TERMS = ("weights", "gradients", "optimizer", "activations", "logits", "workspace", "runtime")


@dataclass(frozen=True, slots=True)
class Peak:
    """The highest moment of a training, in bytes by term."""

    terms: Mapping[str, int]
    moment: str
    """loss, backward, recompute, step or evaluation."""

    @property
    def total(self) -> int:
        """All terms together."""
        return sum(self.terms.values())


def predict_peak(facts: ModelFacts, settings: TrainSettings) -> Peak:
    """The most memory that a training child will hold."""
    weights = weight_bytes(facts, settings)
    trained = trained_parameters(facts, settings)
    gradients = FLOAT * trained
    optimizer = round(OPTIMIZER_BYTES.get(settings.optimizer, 8) * trained)
    kept, layer = activation_bytes(facts, settings), layer_bytes(facts, settings)
    head = head_bytes(facts, settings)
    held = gradients if settings.accumulation > 1 else 0
    copies = _copies(facts, settings)
    moments: dict[str, dict[str, float]] = {
        "loss": {"gradients": held, "activations": kept, "logits": head, "workspace": copies},
        "backward": {
            "gradients": gradients,
            "activations": layer,
            "workspace": _backward_workspace(facts, settings),
        },
        "step": {"gradients": gradients},
        "evaluation": {"logits": _evaluation_bytes(facts, settings)},
    }
    if settings.checkpointing:
        moments["recompute"] = {
            "gradients": held,
            "activations": kept + layer,
            "workspace": _backward_workspace(facts, settings),
        }
    fixed = {"weights": weights, "optimizer": optimizer, "runtime": RUNTIME_BYTES}
    slack = _slack(facts, settings)
    for terms in moments.values():
        terms["workspace"] = terms.get("workspace", 0) + slack
    peaks = [
        Peak({term: round({**fixed, **terms}.get(term, 0)) for term in TERMS}, moment)
        for moment, terms in moments.items()
    ]
    return max(peaks, key=lambda peak: peak.total)


def loading_bytes(facts: ModelFacts, settings: TrainSettings) -> int:
    """What a child holds that has loaded its model and done nothing else."""
    return weight_bytes(facts, settings) + RUNTIME_BYTES


def fixed_bytes(facts: ModelFacts, settings: TrainSettings) -> int:
    """What a step holds at the least, however small its micro-batch is."""
    each: float = FLOAT
    # What is paged, or of an optimizer that was not counted, may be elsewhere, or less.
    if not settings.optimizer.startswith("paged_"):
        each += OPTIMIZER_BYTES.get(settings.optimizer, 0)
    runtime = RUNTIME_BYTES if settings.device == "cpu" else 0
    trained = each * trained_parameters(facts, settings)
    return weight_bytes(facts, settings) + round(trained) + runtime


def weight_bytes(facts: ModelFacts, settings: TrainSettings) -> int:
    """The model as the child loads it: floats, or quantised layers between floats."""
    adapters = FLOAT * settings.lora_parameters
    each = QUANTIZED_BYTES.get(settings.method)
    if each is None:
        return FLOAT * facts.parameters + adapters
    layers = min(facts.parameters, facts.layers * facts.layer_parameters)
    return round(each * layers) + FLOAT * (facts.parameters - layers) + adapters


def trained_parameters(facts: ModelFacts, settings: TrainSettings) -> int:
    """Parameters that have a gradient."""
    return facts.parameters if settings.method == "full" else settings.lora_parameters


def layer_bytes(facts: ModelFacts, settings: TrainSettings) -> float:
    """What is kept of one layer for its backward pass, when nothing is computed again."""
    size = HALF if settings.bf16 else FLOAT
    each = _KEPT[_architecture(facts.family), settings.bf16, settings.method != "full"]
    token = each.hidden * facts.hidden + each.wide * facts.intermediate + _NORMS
    token += size * settings.adapted_width
    if facts.is_gated:
        token += 2 * size * facts.kv_width
    if facts.dropout:
        token += each.dropout * facts.hidden
    if facts.attention_dropout:
        token += _SCORES * facts.heads * settings.length
    else:
        token += FLOAT * facts.heads
    if settings.is_padded and settings.micro_batch > 1 and not facts.attention_dropout:
        # A mask over all pairs, and keys and values repeated for each of the query's heads.
        repeated = 2 * (facts.heads * facts.head_dim - facts.kv_width) if facts.is_gated else 0
        token += size * (settings.length + repeated)
    return token * settings.tokens


def activation_bytes(facts: ModelFacts, settings: TrainSettings) -> float:
    """What the forward pass leaves for the backward pass."""
    ends = 4 * FLOAT * facts.hidden * settings.tokens
    if settings.checkpointing:
        return ends + facts.layers * FLOAT * facts.hidden * settings.tokens
    return ends + facts.layers * layer_bytes(facts, settings)


def head_bytes(facts: ModelFacts, settings: TrainSettings) -> float:
    """Around the loss: two tables of B T x V in floats, or one and the head's own gradient."""
    table = FLOAT * settings.tokens * facts.vocabulary
    if settings.method != "full":
        return 2 * table
    return max(2 * table, table + FLOAT * facts.head_parameters)


def _copies(facts: ModelFacts, settings: TrainSettings) -> float:
    """Matrices in half precision, which autocast keeps until the backward pass is done."""
    if not settings.bf16:
        return 0
    layers = 0 if settings.checkpointing else facts.layers * facts.layer_parameters
    return HALF * (layers + facts.head_parameters + settings.lora_parameters)


def _backward_workspace(facts: ModelFacts, settings: TrainSettings) -> float:
    """Gradients between the operations of one layer, or of the embedding before it is added.

    A shared embedding has two gradients until the end: as the head, and as the first layer.
    """
    size = HALF if settings.bf16 else FLOAT
    between = 2 * size * facts.intermediate * settings.tokens
    copies = HALF * facts.layer_parameters if settings.bf16 else 0
    if settings.method != "full":
        return between + copies
    tables = (2 if facts.tied_embeddings else 1) - (0 if settings.accumulation > 1 else 1)
    return max(between, tables * FLOAT * facts.head_parameters) + copies


def _slack(facts: ModelFacts, settings: TrainSettings) -> float:
    weights = FLOAT * facts.parameters
    first = min(weights, SMALL_BYTES)
    if settings.method == "full":
        kept = SLACK.first_weights_full * first + SLACK.weights * weights
    else:
        kept = SLACK.first_weights_lora * first
    layers = facts.layers * layer_bytes(facts, settings)
    is_full = settings.method == "full"
    if not settings.bf16:
        share = SLACK.activations_fp32_full if is_full else SLACK.activations_fp32_lora
        return kept + share * layers
    share = SLACK.activations_bf16_full if is_full else SLACK.activations_bf16_lora
    kept += share * layers
    table = FLOAT * settings.tokens * facts.vocabulary
    return kept + SLACK.bf16_bytes + SLACK.logits_bf16 * 3 * table


def _evaluation_bytes(facts: ModelFacts, settings: TrainSettings) -> float:
    length = settings.eval_length or settings.length
    return 3 * FLOAT * settings.eval_batch * length * facts.vocabulary


def _architecture(family: Family) -> str:
    return family if family in ("opt", "gpt2") else "gated"
