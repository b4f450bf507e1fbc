"""What groups get when one device is lost: the row of a table, and the table of plans made anew for each loss. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hams_scheduler.solver.instance import Instance, NoPlacementError
from hams_scheduler.solver.placement import Placement
from hams_scheduler.solver.whatif import apply, only_groups

Solve = Callable[[Instance], Placement]


@dataclass(frozen=True)
class Loss:
    """What is left without `device`: FPS by group, the part of its reference that each keeps, and who moves where.

    `reasons` names, by group, why it gets nothing. `bottleneck` is the device that limits the worst-off group.
    """

    device: str
    group_fps: Mapping[str, float]
    kept: Mapping[str, float]
    moved: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    bottleneck: str = ""

    @property
    def least(self) -> float:
        """The smallest part that a group keeps."""
        return min(self.kept.values())

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "device": self.device,
            "group_fps": dict(self.group_fps),
            "kept": dict(self.kept),
            "moved": dict(self.moved),
            "reasons": dict(self.reasons),
            "bottleneck": self.bottleneck,
        }


def references(instance: Instance, placement: Placement) -> dict[str, float]:
    """Return by group what it is measured against, FPS: its target, else what it gets from `placement`."""
    return {name: instance.targets.get(name, fps) for name, fps in placement.group_fps.items()}


def each_removed(instance: Instance, placement: Placement, solve: Solve) -> tuple[Loss, ...]:
    """Return what groups get without each device, placed anew by `solve`; all nodes may move.

    `placement` is that with all devices. Groups that cannot be placed then get nothing, and the others share the rest.
    """
    reference = references(instance, placement)
    return tuple(_removed(instance, device, reference, solve) for device in instance.devices)


def _removed(instance: Instance, device: str, reference: Mapping[str, float], solve: Solve) -> Loss:
    fps, reasons = dict.fromkeys(reference, 0.0), {}
    bottleneck = ""
    if len(instance.devices) == 1:
        reasons = dict.fromkeys(reference, "no device is left")
    else:
        left: Instance | None = apply(instance, f"remove:{device}")
        while left is not None:
            try:
                found = solve(left)
            except NoPlacementError as error:
                out = {left.group_of(model) for model in error.models} or {_least_important(left)}
                reasons |= dict.fromkeys(sorted(out), error.text)
                left = only_groups(left, [name for name in left.group_names if name not in out])
            else:
                fps |= found.group_fps
                bottleneck = found.bottleneck
                break
    kept = {name: fps[name] / reference[name] if reference[name] else 1.0 for name in fps}
    return Loss(device, fps, kept, reasons=reasons, bottleneck=bottleneck)


def _least_important(instance: Instance) -> str:
    return min(reversed(instance.group_names), key=lambda name: instance.priorities.get(name, 0))
