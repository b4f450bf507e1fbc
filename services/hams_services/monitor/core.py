"""Rates from two snapshots of the system. Pure.

Heartbeats carry counters since an agent's start, so two of one incarnation give a rate. After a restart the first
snapshot gives none.
"""

from __future__ import annotations

from dataclasses import dataclass

from hams_shared.wire.messages.agents import Heartbeat
from hams_shared.wire.messages.pipeline import PipelineView, StreamView
from hams_shared.wire.messages.plan import Plan
from hams_shared.wire.messages.scheduler import DeviceView, SchedulerView


@dataclass(frozen=True)
class SystemSnapshot:
    """What the scheduler and the pipeline answered at one moment."""

    devices: tuple[DeviceView, ...] = ()
    streams: tuple[StreamView, ...] = ()
    plans: tuple[Plan, ...] = ()
    """The active ones."""
    troubles: tuple[str, ...] = ()
    """Parts that did not answer, and why."""
    blind: bool = False
    """Whether no part answered."""
    broker: bool = True
    """Whether the broker was there."""
    scheduler: SchedulerView | None = None
    """The whole answer, without the matrix; None: it did not answer."""
    pipeline: PipelineView | None = None


@dataclass(frozen=True)
class DeviceRates:
    """One device between two snapshots; None where there is no rate."""

    device: str
    state: str
    emulated: bool
    busy: float | None
    """Part of the time it computed, 0–1."""
    queue: int
    memory_mib: float


@dataclass(frozen=True)
class NodeRates:
    """One node on one device between two snapshots."""

    group: str
    node: str
    device: str
    frames_per_s: float
    inferences_per_s: float
    share: float
    """Part of the device's time, 0–1."""
    variant: str = ""
    """The variant that serves there; empty: the group's own network."""
    not_finite: int = 0
    """Frames that failed since the agent started because its network gave NaN or infinity."""


def device_rates(before: SystemSnapshot, after: SystemSnapshot) -> list[DeviceRates]:
    """Return the rates of all devices of the later snapshot."""
    return [
        DeviceRates(
            device=view.record.device,
            state=view.state,
            emulated=view.record.emulated,
            busy=None if pair is None else min(1.0, (pair[1].busy_s - pair[0].busy_s) / _seconds(pair)),
            queue=view.heartbeat.queue if view.heartbeat else 0,
            memory_mib=view.heartbeat.memory_mib if view.heartbeat else 0.0,
        )
        for view, pair in _pairs(before, after)
    ]


def node_rates(before: SystemSnapshot, after: SystemSnapshot) -> list[NodeRates]:
    """Return the rates of all nodes that were active between the snapshots, busiest first within their group."""
    rates: list[NodeRates] = []
    plans = {plan.group.spec.name: plan for plan in after.plans}
    for view, pair in _pairs(before, after):
        if pair is None:
            continue
        known = {(load.group, load.node): load for load in pair[0].nodes}
        for load in pair[1].nodes:
            old = known.get((load.group, load.node))
            frames = load.frames - (old.frames if old else 0)
            if frames <= 0:
                continue
            seconds = _seconds(pair)
            plan = plans.get(load.group)
            choice = plan.variants.get(load.node, {}).get(view.record.device) if plan else None
            rates.append(
                NodeRates(
                    group=load.group,
                    node=load.node,
                    device=view.record.device,
                    frames_per_s=frames / seconds,
                    inferences_per_s=(load.inferences - (old.inferences if old else 0)) / seconds,
                    share=min(1.0, (load.busy_s - (old.busy_s if old else 0.0)) / seconds),
                    variant=choice.label if choice else "",
                    not_finite=load.not_finite,
                )
            )
    return sorted(rates, key=lambda one: (one.group, -one.share, one.node, one.device))


def _pairs(
    before: SystemSnapshot, after: SystemSnapshot
) -> list[tuple[DeviceView, tuple[Heartbeat, Heartbeat] | None]]:
    """Return each device of the later snapshot, with two heartbeats of one incarnation where there are two."""
    known = {view.record.device: view.heartbeat for view in before.devices}
    pairs: list[tuple[DeviceView, tuple[Heartbeat, Heartbeat] | None]] = []
    for view in after.devices:
        old, new = known.get(view.record.device), view.heartbeat
        same = old is not None and new is not None and old.incarnation == new.incarnation
        pairs.append((view, (old, new) if same and old and new and new.uptime_s > old.uptime_s else None))
    return pairs


def _seconds(pair: tuple[Heartbeat, Heartbeat]) -> float:
    return pair[1].uptime_s - pair[0].uptime_s
