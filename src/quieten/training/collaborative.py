"""Collaborative sampling: the discriminator helps the generator when it is used.

Liu, Kothari, Alahi, "Collaborative sampling in generative adversarial networks", AAAI 2020: the
activations of a late layer are moved down the gradient of -log D until D accepts the result.
Letters: B batch, T samples.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

Finish = Callable[[Tensor], Tensor]
"""Takes late activations to a waveform (B, T)."""
Judge = Callable[[Tensor], Tensor]
"""Takes waveforms (B, T) to logits (B,), positive where they pass for clean."""


@dataclass(frozen=True)
class Refined:
    """What collaborative sampling gave.

    Attributes:
        waveform: (B, T), the activations' sound after the last move.
        before: (B,) logits of what the generator gave by itself.
        after: (B,) logits of `waveform`.
        moves: (B,) how often the activations of each were moved.
    """

    waveform: Tensor
    before: Tensor
    after: Tensor
    moves: Tensor


def refine(late: Tensor, finish: Finish, judge: Judge, step: float, most: int) -> Refined:
    """Moves activations until the discriminator accepts what becomes of them.

    Each move has the length `step` times the norm of the activations at the start, over the root
    of `most`: so a whole way is about `step` of them, whatever the layer.

    Args:
        late: activations of a late layer, (B, ...).
        finish: the layers behind it.
        judge: the discriminator.
        step: how far the activations go at most, as a share of their norm.
        most: moves at most.
    """
    late = late.detach()
    axes = tuple(range(1, late.ndim))
    length = step * torch.linalg.vector_norm(late, dim=axes, keepdim=True) / max(most, 1) ** 0.5
    moves = torch.zeros(len(late), dtype=torch.long, device=late.device)
    before = waveform = after = None
    for done in range(most + 1):
        late.requires_grad_(True)
        with torch.enable_grad():
            waveform = finish(late)
            after = judge(waveform)
            loss = functional.softplus(-after).sum()
        before = after.detach() if before is None else before
        rejected = after.detach() <= 0
        if done == most or not rejected.any():
            break
        (gradient,) = torch.autograd.grad(loss, late)
        size = torch.linalg.vector_norm(gradient, dim=axes, keepdim=True) + 1e-12
        moved = late.detach() - length * gradient / size
        late = torch.where(rejected.view(-1, *[1] * len(axes)), moved, late.detach())
        moves += rejected
    assert waveform is not None and before is not None and after is not None
    return Refined(waveform.detach(), before, after.detach(), moves)
