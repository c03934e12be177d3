"""How long an optimizer step takes: a guess by arithmetic, until runs have been measured."""

from core.model_facts import ModelFacts
from core.plan.settings import TrainSettings

FLOPS_OF_CORE = 45e9
"""Of matrix products in fp32 on one core of a server, as PyTorch reaches them."""
FLOPS_OF_GPU = 30e12
BF16_SPEED = 1.4
BYTES_PER_SECOND = 8e9
"""Between memory and cores."""
SECONDS_OF_LAYER = 0.0015
"""What a layer costs besides its arithmetic, forward and backward."""
PASSES_OVER_WEIGHTS = 5
"""Forward, backward twice, and a gradient that is read and written, for each micro-batch."""


def guess_seconds(facts: ModelFacts, settings: TrainSettings, *, cpus: int) -> float:
    """Seconds of one optimizer step on a machine that nothing was measured on."""
    linear = facts.layers * facts.layer_parameters + facts.head_parameters
    factor = 6 if settings.method == "full" else 4
    if settings.checkpointing:
        factor += 2
    scores = facts.layers * facts.heads * facts.head_dim * settings.length * factor
    work = settings.effective_batch * row_tokens(facts, settings) * (factor * linear + scores)
    speed = FLOPS_OF_GPU if settings.device == "cuda" else FLOPS_OF_CORE * cpus
    if settings.bf16:
        speed *= BF16_SPEED
    overhead = facts.layers * SECONDS_OF_LAYER
    if settings.device == "cpu":
        overhead += PASSES_OVER_WEIGHTS * 4 * facts.parameters / BYTES_PER_SECOND
    return work / speed + settings.accumulation * overhead


def row_tokens(facts: ModelFacts, settings: TrainSettings) -> float:
    """Tokens that are computed for a row in the mean, padding included.

    As if the lengths of rows were spread evenly. Of a few rows at once the longest is then nearly
    the longest of all; rows that are put together by length are padded little where there are
    many micro-batches to put them into (worker/child/regroup.py).
    """
    length = settings.length
    if settings.mean_length is None or not settings.is_padded:
        return length
    mean = min(settings.mean_length, length)
    share = (settings.micro_batch - 1) / (settings.micro_batch + 1)
    if _keeps_places(facts, settings):
        return mean + share * (length - mean)
    return mean + min(share, 1 / settings.accumulation) * (length - mean)


def _keeps_places(facts: ModelFacts, settings: TrainSettings) -> bool:
    """Whether rows stay in the micro-batch that they were in."""
    has_dropout = facts.dropout or facts.attention_dropout or settings.adapter_dropout
    return settings.device != "cpu" or bool(has_dropout)
