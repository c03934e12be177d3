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
    work = settings.effective_batch * settings.length * (factor * linear + scores)
    speed = FLOPS_OF_GPU if settings.device == "cuda" else FLOPS_OF_CORE * cpus
    if settings.bf16:
        speed *= BF16_SPEED
    overhead = facts.layers * SECONDS_OF_LAYER
    if settings.device == "cpu":
        overhead += PASSES_OVER_WEIGHTS * 4 * facts.parameters / BYTES_PER_SECOND
    return work / speed + settings.accumulation * overhead
