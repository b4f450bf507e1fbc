"""How far a student is from its targets, per kind of output; 0 is equal."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from hams_services.optimizer.training.request import Target


def spread(targets: Sequence[Target], truth: Sequence[Tensor]) -> list[Tensor]:
    """Standard deviation of each number over the samples: what an error is compared with."""
    found = []
    for target, values in zip(targets, truth, strict=True):
        flat = values.flatten(1)
        whole = flat.std().clamp_min(1e-6)
        each = flat.std(0).clamp_min(0.1 * whole) if len(flat) > 1 else whole.expand(flat.shape[1])
        found.append(torch.ones(flat.shape[1]) if target.kind == "probabilities" else each)
    return found


def loss(targets: Sequence[Target], said: Sequence[Tensor], truth: Sequence[Tensor], scale: Sequence[Tensor]) -> Tensor:
    """Mean over outputs: cross-entropy above the teacher's own for probabilities (KL), smooth L1 in standard deviations
    for numbers, 1 - cosine for directions. `said` are logits N×K."""
    parts = []
    for target, logits, values, unit in zip(targets, said, truth, scale, strict=True):
        flat = values.flatten(1)
        if target.kind == "probabilities":
            said_log = functional.log_softmax(logits, 1)
            parts.append(functional.kl_div(said_log, flat.clamp_min(1e-8), reduction="batchmean"))
        elif target.kind == "direction":
            parts.append((1 - functional.cosine_similarity(logits, flat)).mean())
        else:
            parts.append(functional.smooth_l1_loss(logits / unit, flat / unit, beta=0.5))
    return torch.stack(parts).mean()
