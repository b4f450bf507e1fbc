"""How far a student is from its targets, per kind of output; 0 is equal."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from hams_services.optimizer.distill.request import Target

COLD = 0.1
"""Places with less heat count for nothing but for being cold."""
HOT = 50.0
"""How much more a place with heat weighs than one without: there are few."""
BETA = 0.5
"""Errors of numbers below it count by their square, those above by their size, in standard deviations."""
HEAT = 20.0
"""Weight of heat among the outputs: it says whether there is anything at all."""


def cells(targets: Sequence[Target], truth: Sequence[Tensor]) -> Tensor | None:
    """How much each place of the maps counts, N×1×H×W in 0…1: as its heat does, above :data:`COLD`; None: all alike.

    What a detector says of a place is read only where its heat says that there is something.
    """
    heat = [values for target, values in zip(targets, truth, strict=True) if target.kind == "heat"]
    return torch.cat(heat, 1).amax(1, keepdim=True).sub(COLD).clamp_min(0) if heat else None


def counting(values: Tensor, where: Tensor | None) -> Tensor:
    """How much each place of the maps N×C×H×W counts: as `where` says, else all alike."""
    return torch.ones_like(values[:, :1]) if where is None else where


def mean_and_unit(values: Tensor, where: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of N×C×H×W, 1×C×1×1, over the places that count."""
    weight = counting(values, where)
    total = weight.sum().clamp_min(1e-6)
    mean = (values * weight).sum((0, 2, 3), keepdim=True) / total
    variance = ((values - mean).square() * weight).sum((0, 2, 3), keepdim=True) / total
    return mean, variance.sqrt().clamp_min(1e-3)


def spread(targets: Sequence[Target], truth: Sequence[Tensor]) -> list[Tensor]:
    """Standard deviation of each number over the samples: what an error is compared with."""
    found = []
    where = cells(targets, truth)
    for target, values in zip(targets, truth, strict=True):
        if target.kind in ("heat", "map"):
            found.append(mean_and_unit(values, where)[1])
            continue
        flat = values.flatten(1)
        whole = flat.std().clamp_min(1e-6)
        each = flat.std(0).clamp_min(0.1 * whole) if len(flat) > 1 else whole.expand(flat.shape[1])
        found.append(torch.ones(flat.shape[1]) if target.kind == "probabilities" else each)
    return found


def loss(
    targets: Sequence[Target],
    said: Sequence[Tensor],
    truth: Sequence[Tensor],
    scale: Sequence[Tensor],
    beta: float = BETA,
) -> Tensor:
    """Mean over outputs: cross-entropy above the teacher's own for probabilities and heat (KL), smooth L1 in standard
    deviations for numbers and maps, 1 - cosine for directions. `said` are logits, N×K, of maps N×C×H×W. Errors of maps
    below `beta` count by their square."""
    parts = []
    where = cells(targets, truth)
    for target, logits, values, unit in zip(targets, said, truth, scale, strict=True):
        flat = values.flatten(1)
        if target.kind == "heat":
            chance = values.clamp(1e-6, 1 - 1e-6)
            least = functional.binary_cross_entropy(chance, chance, reduction="none")
            above = functional.binary_cross_entropy_with_logits(logits, chance, reduction="none") - least
            weight = 1 + HOT * values
            parts.append((above * weight).sum() / weight.sum() * HEAT)
        elif target.kind == "map":
            error = functional.smooth_l1_loss(logits / unit, values / unit, beta=beta, reduction="none")
            weight = counting(values, where)
            parts.append((error * weight).sum() / (weight.sum() * values.shape[1]).clamp_min(1e-6))
        elif target.kind == "probabilities":
            said_log = functional.log_softmax(logits, 1)
            parts.append(functional.kl_div(said_log, flat.clamp_min(1e-8), reduction="batchmean"))
        elif target.kind == "direction":
            parts.append((1 - functional.cosine_similarity(logits, flat)).mean())
        else:
            parts.append(functional.smooth_l1_loss(logits / unit, flat / unit, beta=BETA))
    return torch.stack(parts).mean()
