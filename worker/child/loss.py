"""The loss of a language model from its logits, with two tables of their size in place of three."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from core.dataset.encode import IGNORED

ELEMENTS = 2**20
"""Of the logits that are worked on together: what fits into a CPU's caches."""


class TokenLoss(NamedTuple):
    """What the logits say about each token that is learned."""

    total: torch.Tensor
    """Sum of the losses, with a gradient."""
    is_correct: torch.Tensor
    entropy: torch.Tensor
    """In nats."""


def token_loss(logits: torch.Tensor, labels: torch.Tensor) -> TokenLoss:
    """The loss of tokens (N) by logits (N x V), in fp32 whatever type these have."""
    return TokenLoss(*_TokenLoss.apply(logits, labels))  # type: ignore[no-untyped-call]


def learned_positions(labels: torch.Tensor) -> torch.Tensor:
    """Where a token is predicted that is learned: each position predicts the one after it."""
    mask = torch.zeros_like(labels, dtype=torch.bool)
    mask[:, :-1] = labels[:, 1:] != IGNORED
    return mask


@contextmanager
def only_at(mask: torch.Tensor, head: nn.Module | None) -> Iterator[None]:
    """Give the head of a model nothing but what it sees where the mask is: logits are dear."""

    def select(_: nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        hidden, *others = given
        return (hidden[mask], *others) if hidden.shape[:-1] == mask.shape else None

    if head is None:
        yield
        return
    hook = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()


class _TokenLoss(torch.autograd.Function):
    """The gradient is made beside the loss, while the exponentials are at hand."""

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        losses, entropy = (torch.empty(len(labels), dtype=torch.float32) for _ in range(2))
        is_correct = torch.empty(len(labels), dtype=torch.bool)
        size = max(1, ELEMENTS // logits.size(-1))
        for start in range(0, len(labels), size):
            rows = slice(start, start + size)
            label = labels[rows, None]
            values = logits[rows].float()
            highest, best = values.max(-1, keepdim=True)
            values = values - highest
            shares = values.exp()
            sums = shares.sum(-1, keepdim=True)
            log_sums = sums.log().squeeze(-1)
            losses[rows] = log_sums - values.gather(-1, label).squeeze(-1)
            is_correct[rows] = (best == label).squeeze(-1)
            shares /= sums
            entropy[rows] = log_sums - values.mul_(shares).sum(-1)
            if gradient is not None:
                gradient[rows] = shares.scatter_add_(-1, label, torch.full_like(highest, -1))
        ctx.gradient = gradient
        ctx.mark_non_differentiable(is_correct, entropy)
        return losses.sum(), is_correct, entropy

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor, *_: Any) -> tuple[torch.Tensor, None]:
        gradient, ctx.gradient = ctx.gradient, None
        return gradient.mul_(grad), None
