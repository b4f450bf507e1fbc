"""Outputs that are not numbers: NaN or infinity from a network fails the frame's node, with a reason.

Without the check a task would leave out such boxes, and the frame would look empty.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hams_agents.tasks.base import Outputs, Task
from hams_agents.tasks.registry import used_outputs
from hams_shared.errors import NotFiniteError


def checked_outputs(task: Task, outputs: Outputs) -> frozenset[str]:
    """Return the names of the outputs that must be finite: those that `task` reads.

    A task for which NaN or infinity has a meaning has an attribute `not_finite` that is true; then none is checked.
    """
    if getattr(task, "not_finite", False):
        return frozenset()
    return frozenset(name for name in used_outputs(task, outputs) if outputs[name].dtype.kind == "f")


def finite(names: Collection[str], outputs: Mapping[str, NDArray[Any]]) -> bool:
    """Whether all numbers of the outputs `names` are finite."""
    return all(bool(np.isfinite(outputs[name]).all()) for name in names)


def refuse_not_finite(node: str, device: str, names: Collection[str], outputs: Mapping[str, NDArray[Any]]) -> None:
    """Check the outputs `names`.

    One pass adds up all numbers: 0.07 ms for 1×84×8400 on one core, where `np.isfinite` takes 0.10 ms and memory. Only
    where the sum is not finite is each number looked at: a sum may overflow.

    Raises:
        NotFiniteError: some number is not finite.
    """
    for name in names:
        values = outputs[name]
        flat = values.reshape(-1)
        if np.isfinite(np.einsum("i->", flat)):
            continue
        finite = np.isfinite(flat)
        if finite.all():
            continue
        kind = "NaN" if np.isnan(flat).any() else "infinity"
        raise NotFiniteError(
            f"node {node}: {flat.size - int(finite.sum())} of {flat.size} numbers of output {name} are not finite "
            f"({kind}) on {device}",
            "does the input fit (mean, scale, color)? float16 overflows at 65504: export the network as float32",
        )
