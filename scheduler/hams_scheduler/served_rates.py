"""What devices do for groups now: seconds per frame, load and frame rate. Pure.

A heartbeat of an idle device adds nothing to these means but time. It costs one step for the device, whatever number of
groups it serves: the time is added to their means when these are read.

Where each frame brings each node a piece of work, heartbeats count the frames. Where a group leaves some out, the
pipeline does (:mod:`hams_scheduler.frame_counts`): what a device did waits for its next report.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from hams_scheduler.expected_work import leaves_out
from hams_scheduler.ratio import Ratio
from hams_shared.wire.messages.plan import Plan

V = TypeVar("V")

BUSY_MEMORY_FRAMES = 2000.0
"""Frames after which an observation of the seconds per frame has lost 63 % of its weight: scenes change."""
RATE_MEMORY_S = 5.0
"""The measured frame rate is a mean over about this long, s."""


class Delta(NamedTuple):
    """What a node counted between two heartbeats; see :class:`NodeLoad`."""

    frames: int
    inferences: int
    batches: int
    busy_s: float
    alone: int
    alone_s: float


@dataclass
class Served:
    """What one device does for one group."""

    busy: Ratio = field(default_factory=lambda: Ratio(BUSY_MEMORY_FRAMES))
    """Busy seconds over frames of the group."""
    load: Ratio = field(default_factory=lambda: Ratio(RATE_MEMORY_S))
    """Busy seconds for the group over seconds."""
    rate: Ratio = field(default_factory=lambda: Ratio(RATE_MEMORY_S))
    """Frames of the root over seconds."""
    waiting: list[Delta] = field(default_factory=list)
    """What was done since the pipeline last counted the frames of a group that leaves some out; one sum."""

    def wait(self, done: Collection[Delta]) -> None:
        """Keep what was done until its frames are counted."""
        known = (*self.waiting, *done)
        busy, alone = sum(one.busy_s for one in known), sum(one.alone_s for one in known)
        self.waiting = [Delta(0, 0, 0, busy, 0, alone)]

    def counted(self, frames: int) -> None:
        """The pipeline counted so many frames of the group (> 0) since the last time."""
        if (alone := _alone(self.waiting)) < 1:
            self.busy.add(sum(one.busy_s - one.alone_s for one in self.waiting), frames * (1 - alone))
        self.waiting = []


@dataclass
class Rest:
    """The means that pass while a device does nothing, and what the time since then makes of them."""

    plans: Mapping[str, Plan]
    ratios: tuple[Ratio, ...]
    keep: float = 1.0
    seconds: float = 0.0
    """A mean becomes ``above * keep`` over ``below * keep + seconds``, as by one :meth:`Ratio.add` per heartbeat."""

    def add(self, seconds: float) -> None:
        """Nothing was done for so long, s."""
        keep = max(0.0, 1.0 - seconds / RATE_MEMORY_S)
        self.keep, self.seconds = self.keep * keep, self.seconds * keep + seconds

    def settle(self) -> None:
        """Add the time to the means."""
        if self.seconds > 0:
            for ratio in self.ratios:
                ratio.above, ratio.below = ratio.above * self.keep, ratio.below * self.keep + self.seconds
            self.keep, self.seconds = 1.0, 0.0


@dataclass
class ServedRates:
    """What all devices do for all groups."""

    served: dict[str, dict[str, Served]] = field(default_factory=dict)
    """By group, then device."""
    _resting: dict[str, Rest] = field(default_factory=dict)
    """By device that did nothing since its last heartbeat."""

    def of(self, group: str) -> dict[str, Served]:
        """By device: what it does for `group`."""
        found = self.served.get(group, {})
        for device in found:
            self._settle(device)
        return found

    def on(self, group: str, device: str) -> Served | None:
        """What `device` does for `group`; None: nothing was seen."""
        self._settle(device)
        return self.served.get(group, {}).get(device)

    def _settle(self, device: str) -> None:
        rest = self._resting.get(device)
        if rest is not None:
            rest.settle()

    def forget(self, group: str) -> None:
        """Drop what the group's devices do for it: it runs on others now."""
        for device in self.served.pop(group, {}):
            self._settle(device)
            self._resting.pop(device, None)

    def observe(
        self, device: str, fresh: Mapping[tuple[str, str], Delta], plans: Mapping[str, Plan], seconds: float
    ) -> None:
        """Take what the nodes of `device` counted in `seconds`; `plans` are its active plans, by group."""
        self._settle(device)
        self._resting.pop(device, None)
        for group, plan in plans.items():
            mine = _own(device, group, plan, fresh)
            if not mine:
                continue
            served = self.served.setdefault(group, {}).setdefault(device, Served())
            served.load.add(sum(delta.busy_s for delta in mine.values()), seconds)
            if leaves_out(plan.group.spec):
                served.wait(mine.values())
            else:
                busy = sum(delta.busy_s - delta.alone_s for delta in mine.values())
                frames = max((one.frames / max(plan.share(n, device), 1e-6) for n, one in mine.items()), default=0.0)
                if frames > 0 and (alone := _alone(mine.values())) < 1:
                    served.busy.add(busy, frames * (1 - alone))
            root = mine.get(plan.group.spec.root)
            if root is not None:
                served.rate.add(root.frames, seconds)

    def begin(self, groups: Collection[str]) -> None:
        """The pipeline of these groups counts anew: what was done for frames that it did not report is forgotten."""
        for served in (one for group in groups for one in self.served.get(group, {}).values()):
            served.waiting = []

    def counted(self, group: str, frames: int) -> None:
        """The pipeline counted so many frames (> 0) of a group that leaves some out."""
        for served in self.served.get(group, {}).values():
            served.counted(frames)

    def rest(
        self, device: str, counted: Collection[tuple[str, str]], plans: Mapping[str, Plan], seconds: float
    ) -> None:
        """Take that the nodes of `device`, which have `counted` before, did nothing for `seconds`."""
        rest = self._resting.get(device)
        if rest is None or rest.plans is not plans:
            self._settle(device)
            rest = self._resting[device] = Rest(plans, self._means(device, counted, plans))
        rest.add(seconds)

    def _means(self, device: str, counted: Collection[tuple[str, str]], plans: Mapping[str, Plan]) -> tuple[Ratio, ...]:
        """The means that :meth:`observe` adds time to."""
        found: list[Ratio] = []
        for group, plan in plans.items():
            mine = _own(device, group, plan, dict.fromkeys(counted))
            if mine:
                served = self.served.setdefault(group, {}).setdefault(device, Served())
                found += [served.load, *([served.rate] if plan.group.spec.root in mine else [])]
        return tuple(found)


def _own(device: str, group: str, plan: Plan, among: Mapping[tuple[str, str], V]) -> dict[str, V]:
    """Those of `among`, by (group, node), that are of nodes of the plan that `device` serves."""
    return {n: among[group, n] for n, on in plan.shares.items() if device in on and (group, n) in among}


def _alone(loads: Collection[Delta]) -> float:
    """The part of the computing for which a device of several lanes had one inference only, 0-1."""
    busy = sum(load.busy_s for load in loads)
    return sum(load.alone_s for load in loads) / busy if busy > 0 else 0.0
