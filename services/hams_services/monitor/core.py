"""From two looks at the system to rates. Pure.

Heartbeats carry counters since an agent's start, so two of one incarnation give a rate; after a restart the first look
of the new life gives none.
"""

from __future__ import annotations

from dataclasses import dataclass

from hams_shared.wire.messages.agents import Heartbeat
from hams_shared.wire.messages.pipeline import StreamView
from hams_shared.wire.messages.plan import Plan
from hams_shared.wire.messages.scheduler import DeviceView


@dataclass(frozen=True)
class Look:
    """The system at one moment."""

    devices: tuple[DeviceView, ...] = ()
    streams: tuple[StreamView, ...] = ()
    plans: tuple[Plan, ...] = ()
    """Those that serve."""
    troubles: tuple[str, ...] = ()
    """Parts that did not answer, and why."""
    blind: bool = False
    """No part answered: nothing is known."""


@dataclass(frozen=True)
class DeviceRates:
    """One device between two looks; None where there is no rate."""

    device: str
    state: str
    emulated: bool
    busy: float | None
    """Part of the time it computed, 0–1."""
    queue: int
    memory_mib: float


@dataclass(frozen=True)
class NodeRates:
    """One node on one device between two looks."""

    group: str
    node: str
    device: str
    frames_per_s: float
    inferences_per_s: float
    share: float
    """Part of the device's time, 0–1."""
    variant: str = ""
    """What serves there instead of the group's own network; empty: that does."""


def device_rates(before: Look, after: Look) -> list[DeviceRates]:
    """All devices of the later look."""
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


def node_rates(before: Look, after: Look) -> list[NodeRates]:
    """All nodes that did something between the looks, busiest first within their group."""
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
                )
            )
    return sorted(rates, key=lambda one: (one.group, -one.share, one.node, one.device))


def _pairs(before: Look, after: Look) -> list[tuple[DeviceView, tuple[Heartbeat, Heartbeat] | None]]:
    """Each device of the later look, with its two heartbeats when they are of one life and some time apart."""
    known = {view.record.device: view.heartbeat for view in before.devices}
    pairs: list[tuple[DeviceView, tuple[Heartbeat, Heartbeat] | None]] = []
    for view in after.devices:
        old, new = known.get(view.record.device), view.heartbeat
        same = old is not None and new is not None and old.incarnation == new.incarnation
        pairs.append((view, (old, new) if same and old and new and new.uptime_s > old.uptime_s else None))
    return pairs


def _seconds(pair: tuple[Heartbeat, Heartbeat]) -> float:
    return pair[1].uptime_s - pair[0].uptime_s
