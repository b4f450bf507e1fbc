"""The plans that are kept ready, one for the loss of each device that serves: a part of the scheduler's state. Pure.

A kept solution is used only for the inputs for which it was computed. All that the solver gets is compared exactly,
except the numbers that are learned while serving: these may differ by :data:`NEAR`. A cost is a product of two of them
(inferences per frame, interference), so a kept plan is at most ``(1 + NEAR)⁴`` times as slow as a new one; a prediction
that drifts by 15 % requests a new solution anyway (decision 34).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from hams_scheduler.planning import Solution
from hams_scheduler.solver.instance import FloatArray
from hams_scheduler.state_parts import Life, check
from hams_shared.wire.messages.plan import Plan

CPU_PART = 0.05
"""The part of a core that is spent on keeping plans ready, at most."""
NEAR = 0.05
"""By which part a learned number may differ from the one that a kept plan was computed with."""
NEAR_S = 0.00005
"""A learned time may differ by this much in any case, s: inferences take longer by far."""
LOSSES_LIMIT = 4096
"""Most devices of which the losses are counted."""


@dataclass(frozen=True, eq=False)
class Numbers:
    """What is learned while serving, by kind and name, such as ("overhead", device); times in s."""

    names: tuple[tuple[str, ...], ...]
    values: FloatArray

    @staticmethod
    def of(table: Mapping[tuple[str, ...], float]) -> Numbers:
        """Return the numbers of `table`."""
        return Numbers(tuple(table), np.array([*table.values()], dtype=np.float64))

    def table(self) -> dict[tuple[str, ...], float]:
        """The numbers by name."""
        return dict(zip(self.names, self.values.tolist(), strict=True))


@dataclass(frozen=True)
class Inputs:
    """What a solution depends on."""

    lives: tuple[Life, ...]
    others: tuple[object, ...]
    """All that is neither devices nor learned: plans that serve, and the revisions of groups, profiles and videos."""
    numbers: Numbers
    """As learned, of the devices in `lives`, and perhaps of a lost one."""

    def without(self, device: str) -> Inputs:
        """As they are when that device is lost."""
        return replace(self, lives=tuple(life for life in self.lives if life.device != device))

    def exactly(self, other: Inputs) -> bool:
        """Whether the two differ by what is learned at most."""
        return self.lives == other.lives and self.others == other.others


def near(one: Numbers, other: Numbers, but: str) -> bool:
    """Whether learned numbers are about the same, those of device `but` left out.

    Where one of (what, device, nodes) is missing, that of (what, device) holds.
    """
    if one.names == other.names:
        names, a, b = one.names, one.values, other.values
    else:
        first, second = one.table(), other.table()
        names = tuple(first.keys() | second.keys())
        a = np.array([first.get(name, first.get(name[:2], np.inf)) for name in names])
        b = np.array([second.get(name, second.get(name[:2], np.inf)) for name in names])
    far = ~(np.abs(a - b) <= np.maximum(NEAR * np.minimum(a, b), NEAR_S))
    return all(names[index][1] == but for index in np.nonzero(far)[0])


@dataclass(frozen=True)
class Kept:
    """The solution for one loss."""

    inputs: Inputs
    """After the loss."""
    solution: Solution | None
    """None: solving failed, and is not tried again for these inputs."""


@dataclass
class KeptPlans:
    """The solutions that are ready, and the one that is being computed."""

    plans: dict[str, Kept] = field(default_factory=dict)
    """By the device that is lost."""
    preparing: tuple[str, Inputs] | None = None
    """The device whose loss is being solved, and for what."""
    generation: int = 0
    """Answers to earlier ones are dropped."""
    not_before: float = float("-inf")
    """When the next one may be computed, so that :data:`CPU_PART` is kept."""
    complete_at: tuple[object, ...] | None = None
    """What the state was when nothing was left to compute."""
    wanted: int = 0
    """Losses for which plans are to be ready, as of the newest search for the next one."""
    losses: dict[str, int] = field(default_factory=dict)
    """By device: how often it was lost while this scheduler ran."""
    used: int = 0
    """Losses for which a kept plan was taken."""

    def clear(self) -> None:
        """Drop all of them: another scheduler leads, or led."""
        self.plans.clear()
        self.preparing, self.complete_at, self.wanted = None, None, 0
        self.generation += 1

    def lost(self, device: str) -> None:
        """Count a loss."""
        self.losses[device] = self.losses.pop(device, 0) + 1
        if len(self.losses) > LOSSES_LIMIT:
            del self.losses[next(iter(self.losses))]

    def begin(self, device: str, inputs: Inputs) -> None:
        """The loss of `device` is being solved; `inputs`: after it."""
        self.preparing = device, inputs
        self.generation += 1

    def done(self, generation: int, solution: Solution | None, plans: Mapping[str, Plan], until: float) -> None:
        """Keep the solution of that `generation`; nothing else is computed `until` then, s.

        `plans` serve now: a solution holds these themselves where it changes nothing, which saves most of its memory.
        """
        if self.preparing is None or generation != self.generation:
            return
        device, inputs = self.preparing
        self.preparing, self.not_before = None, until
        if solution is not None:
            kept = {g: plan if (now := plans.get(g)) is None or not same(now, plan) else now
                    for g, plan in solution.plans.items()}  # fmt: skip
            solution = replace(solution, plans=kept)
        self.plans[device] = Kept(inputs, solution)

    def find(self, lives: tuple[Life, ...]) -> tuple[str, Kept] | None:
        """The plan for a loss that left these devices, if there is one."""
        here = {life.device for life in lives}
        for device, kept in self.plans.items():
            if device not in here and kept.inputs.lives == lives:
                return device, kept
        return None

    def validate(self) -> None:
        """Raise StateError if a plan is kept for the loss of a device that its inputs still have."""
        for device, kept in self.plans.items():
            here = {life.device for life in kept.inputs.lives}
            check(device not in here, f"the plan for the loss of {device} was made with {device}")
            plans = kept.solution.plans.values() if kept.solution is not None else ()
            check(all(plan.devices <= here for plan in plans), f"the plan for the loss of {device} uses a lost device")


def same(a: Plan, b: Plan) -> bool:
    """Whether two plans place the same group alike."""
    return a.shares == b.shares and a.models == b.models and a.group == b.group
