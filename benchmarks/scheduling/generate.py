"""Instances from a seed: networks of an edge site on unlike devices.

Work of a model is log-normal; speeds of devices span an order of magnitude; each pair has an affinity of its own
(what makes the machines *unrelated*), some pairs are unsupported, and memory is loose, tight or absent. Sizes follow
the scheduling table of docs/benchmarks.md. These are synthetic numbers, not measurements.
"""

from __future__ import annotations

import numpy as np

from hams_scheduler.solver.instance import SLACK_MIB, Instance

SLACK = {"loose": 1.8, "tight": 1.25}
SIZES = ((5, 3), (11, 3), (11, 6), (30, 8), (100, 20), (1000, 50), (5000, 200))


def generate(
    models: int,
    devices: int,
    seed: int,
    *,
    affinity: float = 0.5,
    unsupported: float = 0.1,
    memory: str | float = "loose",
    twins: bool = False,
) -> Instance:
    """Return an instance; `memory` is none, loose (1.8 × what is needed), tight (1.25 ×) or such a factor.

    `twins` gives every second device the same column as the one before it. A packing that fits always exists.
    """
    rng = np.random.default_rng([seed, models, devices])
    work = rng.lognormal(0.0, 0.8, models)
    speed = 60.0 * np.exp(rng.uniform(0.0, np.log(10.0), devices))
    fps = speed / work[:, None] * rng.lognormal(0.0, affinity, (models, devices))
    fps[rng.random((models, devices)) < unsupported] = 0.0
    home = rng.integers(devices, size=models)
    fps[np.arange(models), home] = np.maximum(fps[np.arange(models), home], speed[home] / work)
    if twins:
        fps[:, 1::2] = fps[:, 0 : 2 * (devices // 2) : 2]
        home -= np.where((home % 2 == 1) & (fps[np.arange(models), home] == 0), 1, 0)
        lost = ~(fps > 0).any(axis=1)
        fps[lost, 0] = speed[0] / work[lost]
    weights = np.where(rng.random(models) < 0.3, rng.uniform(1.0, 4.0, models).round(2), 1.0)
    size = rng.lognormal(3.0, 0.8, models).round(1)
    capacity = np.full(devices, np.inf)
    if memory != "none":
        home = np.where(fps[np.arange(models), home] > 0, home, fps.argmax(axis=1))
        held = np.bincount(home, weights=size, minlength=devices)
        slack = SLACK[memory] if isinstance(memory, str) else memory
        even = size.sum() / devices
        capacity = np.maximum(held, even * slack * rng.uniform(0.6, 1.4, devices)).round(1) + SLACK_MIB
    return Instance(
        models=tuple(f"m{i:04d}" for i in range(models)),
        devices=tuple(
            f"box{j // 4}.{'openvino' if j % 2 else 'ort'}.{'cpu' if j == 0 else 'dev'}{j}" for j in range(devices)
        ),
        fps=fps.round(3),
        weights=weights,
        memory_mib=size,
        capacity_mib=capacity,
    )
