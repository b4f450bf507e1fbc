"""Saliency of channels: which to take out, in what order, and how many of which layer. Pure.

A layer's output is a linear function of the channels it reads. The channels' second moments over the samples (their
Gram matrix) give what each of them adds, and how the weights of the others make up for it: backward elimination,
exact at each step (Hassibi & Stork, *Optimal Brain Surgeon*, NIPS 1992; channels by least squares: He, Zhang, Sun,
*Channel Pruning for Accelerating Very Deep Neural Networks*, ICCV 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

STEP = 8
"""Channels are taken out by as many as processors compute at once; by half as many where there are less than `MANY`."""
MANY = 64
SMALLEST = 8
"""Channels that stay at least."""
DAMPING, SCARCE = 1e-5, 0.01
"""Of the mean of the Gram matrix's diagonal, and more per column and sample: keeps weights as they were where channels
are equal, or the samples are too few to tell them apart."""
COMPACT = 16
"""Eliminations after which what is gone is dropped from the matrices."""


@dataclass(frozen=True)
class Layer:
    """What has weights."""

    cost: float
    """Multiplications for one image."""
    chains: tuple[int, ...]
    """Those whose channels it makes, passes on or reads: with each of them it gets narrower."""


@dataclass(frozen=True)
class Elimination:
    """Channels in the order in which they go, and the error that is made by the time each has."""

    order: NDArray[np.int64]
    error: Matrix
    """Squared error of the reader's output, summed over the samples, and what damping adds to it; 0 first, one longer
    than `order`."""

    def kept(self, lost: int) -> NDArray[np.int64]:
        """The channels that stay when `lost` of them have gone, in their order."""
        return np.setdiff1d(np.arange(len(self.order) + SMALLEST), self.order[:lost])


@dataclass(frozen=True)
class Loss:
    """What the network's outputs lose per unit of one chain's error, measured with so many channels gone."""

    counts: NDArray[np.int64]
    """Ascending; at least one."""
    factors: Matrix

    def of(self, lost: int, error: float) -> float:
        """What they lose when `lost` channels have gone and make `error`."""
        return float(np.interp(lost, self.counts, self.factors)) * error


def eliminate(gram: Matrix, weight: Matrix, size: int = 1) -> Elimination:
    """Take out all but `SMALLEST` channels, one by one, each time the one of least saliency.

    `gram`: second moments of the columns and of a constant 1, (n+1)×(n+1). `weight`: rows × (n+1), the bias last. A
    channel has `size` columns next to each other (the places of a kernel).
    """
    channels = (len(gram) - 1) // size
    inverse = np.asarray(np.linalg.inv(_damped(gram)), np.float64)
    weight = weight.copy()
    alive = np.arange(channels)
    gone = np.zeros(channels, bool)
    order: list[int] = []
    errors = [0.0]
    for step in range(max(0, channels - SMALLEST)):
        costs = _costs(inverse, weight, size)
        costs[gone] = np.inf
        j = int(costs.argmin())
        columns = slice(j * size, (j + 1) * size)
        block = np.linalg.inv(inverse[columns, columns])
        weight -= weight[:, columns] @ block @ inverse[columns]
        inverse -= inverse[:, columns] @ block @ inverse[columns]
        weight[:, columns] = 0
        inverse[columns], inverse[:, columns], inverse[columns, columns] = 0, 0, np.eye(size)
        gone[j] = True
        order.append(int(alive[j]))
        errors.append(errors[-1] + max(0.0, float(costs[j])))
        if step % COMPACT == COMPACT - 1:
            stay = np.append(np.repeat(~gone, size), True)
            inverse, weight = inverse[np.ix_(stay, stay)], weight[:, stay]
            alive, gone = alive[~gone], np.zeros(int((~gone).sum()), bool)
    return Elimination(np.array(order, np.int64), np.array(errors))


def refit(gram: Matrix, weight: Matrix, kept: NDArray[np.integer], size: int = 1) -> Matrix:
    """Return the weights, rows × (len(kept)·size + 1), with which the channels `kept` come nearest to all of them."""
    columns = (np.asarray(kept)[:, None] * size + np.arange(size)).ravel()
    columns = np.append(columns, len(gram) - 1)
    damped = _damped(gram)
    wanted = weight @ damped[:, columns]
    return np.asarray(np.linalg.solve(damped[np.ix_(columns, columns)], wanted.T).T, np.float64)


def allocate(
    eliminations: Sequence[Elimination], losses: Sequence[Loss], layers: Sequence[Layer], share: float
) -> list[int]:
    """How many channels each chain loses, so that `share` of all multiplications is left, at the least loss.

    Greedy, by the loss added per multiplication saved. Where nothing more can go, more than `share` is left.
    """
    channels = [len(one.order) + SMALLEST for one in eliminations]
    steps = [STEP if count >= MANY else STEP // 2 for count in channels]
    lost = [0] * len(eliminations)
    while left(layers, channels, lost) > share:
        best: tuple[float, int] | None = None
        for j, one in enumerate(eliminations):
            if lost[j] + steps[j] >= len(one.error):
                continue
            saved = sum(
                layer.cost * steps[j] / channels[j] * prod(1 - lost[i] / channels[i] for i in layer.chains if i != j)
                for layer in layers
                if j in layer.chains
            )
            now, then = (losses[j].of(count, float(one.error[count])) for count in (lost[j], lost[j] + steps[j]))
            added = max(then - now, 0.0)
            if saved > 0 and (best is None or added / saved < best[0]):
                best = added / saved, j
        if best is None:
            break
        lost[best[1]] += steps[best[1]]
    return lost


def left(layers: Sequence[Layer], channels: Sequence[int], lost: Sequence[int]) -> float:
    """The share of all multiplications that is left."""
    total = sum(layer.cost for layer in layers)
    rest = sum(layer.cost * prod(1 - lost[i] / channels[i] for i in layer.chains) for layer in layers)
    return rest / total if total else 1.0


def _damped(gram: Matrix) -> Matrix:
    """With something on the diagonal, as if each column varied a little by itself; the constant stays as it is."""
    count, samples = len(gram) - 1, max(float(gram[-1, -1]), 1.0)
    share = max(DAMPING, SCARCE * count / samples)
    extra = np.full(count + 1, max(share * float(np.trace(gram[:count, :count])) / max(count, 1), 1e-12))
    extra[-1] = 1e-9
    return gram + np.diag(extra)


def _costs(inverse: Matrix, weight: Matrix, size: int) -> Matrix:
    """What taking out each channel adds to the squared error."""
    count = (len(inverse) - 1) // size
    if size == 1:
        squares: Matrix = np.square(weight[:, :count]).sum(0) / np.maximum(np.diag(inverse)[:count], 1e-30)
        return squares
    index = np.arange(count * size).reshape(count, size)
    blocks = inverse[index[:, :, None], index[:, None, :]]
    parts = weight[:, : count * size].reshape(len(weight), count, size).transpose(1, 2, 0)
    return np.asarray((parts * np.linalg.solve(blocks, parts)).sum((1, 2)))
