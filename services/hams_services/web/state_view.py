"""The system's state as the page shows it: groups, streams, devices, alarms; plain values, ready for JSON. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hams_services.monitor.core import SystemSnapshot, device_rates, node_rates
from hams_services.web.alarms import alarms
from hams_shared.wire.messages.agents import DeviceHealth
from hams_shared.wire.messages.pipeline import PipelineView, StreamView
from hams_shared.wire.messages.plan import Plan
from hams_shared.wire.messages.scheduler import DeviceView, GroupView, SchedulerView

KEPT_S = 60.0
"""Readings older than this do not stand for a part that does not answer, s."""


@dataclass(frozen=True)
class Reading:
    """What the parts answered once."""

    time: float
    """Unix time, s."""
    at: float
    """Monotonic time, s."""
    scheduler: SchedulerView | None
    pipeline: PipelineView | None
    troubles: dict[str, str]
    """By part: why it did not answer."""
    waiting: dict[tuple[str, str], float] = field(default_factory=dict)
    """By group and stream: since when frames are under way without one delivered, monotonic time, s."""

    @property
    def snapshot(self) -> SystemSnapshot:
        """What rates are computed from."""
        groups = self.scheduler.groups if self.scheduler else ()
        return SystemSnapshot(
            self.scheduler.devices if self.scheduler else (),
            self.pipeline.streams if self.pipeline else (),
            tuple(group.active for group in groups if group.active),
            tuple(self.troubles.values()),
        )


def kept(before: Reading | None, after: Reading) -> Reading:
    """Return `after` with what the reading `before` adds: answers of parts that did not answer now, and `waiting`.

    Else a pause of the scheduler would look as if no group were deployed.
    """
    if before is None or after.at - before.at > KEPT_S:
        before = Reading(after.time, after.at, None, None, {})
    return replace(
        after,
        scheduler=before.scheduler if "scheduler" in after.troubles else after.scheduler,
        pipeline=before.pipeline if "pipeline" in after.troubles else after.pipeline,
        waiting=_waiting(before, after),
    )


def _waiting(before: Reading, after: Reading) -> dict[tuple[str, str], float]:
    """Return the `waiting` of `after`; while the pipeline does not answer, nothing is known."""
    delivered = {(one.group, one.stream): one.delivered for one in before.snapshot.streams}
    found = {}
    for one in after.snapshot.streams:
        key = (one.group, one.stream)
        if one.in_flight:
            found[key] = before.waiting.get(key, after.at) if delivered.get(key) == one.delivered else after.at
    return found


def state_view(before: Reading | None, after: Reading) -> dict[str, Any]:
    """Return the state of `after`; rates are those since `before`, and None without it."""
    scheduler = after.scheduler
    groups = scheduler.groups if scheduler else ()
    leader = scheduler.leader if scheduler else None
    waited_s = {stream: after.at - since for stream, since in after.waiting.items()}
    return {
        "time": after.time,
        "troubles": after.troubles,
        "alarms": [vars(one) for one in alarms(scheduler, after.pipeline, after.troubles, waited_s)],
        "groups": [_group(group) for group in groups],
        "streams": [_stream(stream) for stream in after.snapshot.streams],
        "devices": _devices(before.snapshot if before else SystemSnapshot(), after.snapshot),
        "profiling": scheduler.profiling if scheduler else {},
        "waiting_profiles": scheduler.waiting_profiles if scheduler else 0,
        "losses": scheduler.losses if scheduler else 0,
        "losses_ready": scheduler.losses_ready if scheduler else 0,
        "leader": {"holder": leader.holder, "host": leader.host} if leader else None,
        "led_s": scheduler.led_s if scheduler else 0.0,
    }


def _group(group: GroupView) -> dict[str, Any]:
    plan = group.active or group.next
    spec = plan.group.spec if plan else None
    streams = spec.streams if spec else {}
    nodes = spec.nodes if spec else {}
    return {
        "name": group.name,
        "state": group.state,
        "text": group.text,
        "done": group.done,
        "total": group.total,
        "error": group.error.model_dump() if group.error else None,
        "deployed_at": group.deployed_at,
        "target_fps": group.target_fps,
        "measured_fps": group.measured_fps,
        "predicted_fps": group.predicted_fps,
        "expected_fps": group.expected_fps,
        "expected_why": group.expected_why,
        "bottleneck": group.bottleneck,
        "weights": group.weights,
        "plan": _plan(group.active) if group.active else None,
        "next": _plan(group.next) if group.next else None,
        "nodes": {name: {"parent": node.parent, "model": node.model} for name, node in nodes.items()},
        "places": {
            name: {"zones": stream.zones, "lines": stream.lines, "mask": stream.mask, "roi": stream.roi}
            for name, stream in streams.items()
        },
    }


def _plan(plan: Plan) -> dict[str, Any]:
    return {
        "epoch": plan.epoch,
        "strategy": plan.strategy,
        "fps": plan.fps,
        "bound_fps": plan.bound_fps,
        "reason": plan.reason,
        "explanation": plan.explanation,
        "shares": plan.shares,
        "variants": {
            node: {device: {"label": one.label, "agreement": one.agreement} for device, one in places.items()}
            for node, places in plan.variants.items()
        },
        "unmet": plan.unmet,
        "made_at": plan.made_at,
    }


def _stream(stream: StreamView) -> dict[str, Any]:
    return {
        "group": stream.group,
        "name": stream.stream,
        "state": stream.state,
        "text": stream.text,
        "decoder": stream.decoder,
        "damaged": stream.damaged,
        "fps": stream.fps,
        "p50_ms": stream.p50_ms,
        "p99_ms": stream.p99_ms,
        "submitted": stream.submitted,
        "delivered": stream.delivered,
        "gated": stream.gated,
        "in_flight": stream.in_flight,
        "dropped": stream.dropped,
        "failed": stream.failed,
        "zones": {n: {"inside": z.inside, "entries": z.entries} for n, z in stream.places.zones.items()},
        "lines": {n: {"in": c.ins, "out": c.outs} for n, c in stream.places.lines.items()},
    }


def _devices(before: SystemSnapshot, after: SystemSnapshot) -> list[dict[str, Any]]:
    rates = {one.device: one for one in device_rates(before, after)}
    nodes: dict[str, list[dict[str, Any]]] = {}
    for one in node_rates(before, after):
        nodes.setdefault(one.device, []).append(
            {
                "group": one.group,
                "node": one.node,
                "frames_per_s": one.frames_per_s,
                "inferences_per_s": one.inferences_per_s,
                "busy": one.share,
                "variant": one.variant,
            }
        )
    return [
        {**_device(view), "busy": rates[view.record.device].busy, "nodes": nodes.get(view.record.device, [])}
        for view in after.devices
    ]


def _reason(health: DeviceHealth) -> str:
    """What is wrong with a device."""
    out = (f"does not run {one.model}: {one.reason}" for one in health.networks if one.out)
    return "; ".join(text for text in (health.gone, health.reason, *out) if text)


def _device(view: DeviceView) -> dict[str, Any]:
    record, health, beat = view.record, view.health, view.heartbeat
    return {
        "device": record.device,
        "host": record.host,
        "kind": record.kind,
        "name": record.name,
        "backend": record.backend,
        "runtime": record.runtime,
        "lanes": record.lanes,
        "emulated": record.emulated,
        "limit": record.limit,
        "state": view.state,
        "silent_s": view.silent_s,
        "hangs": len(health.hangs) if health else 0,
        "reason": _reason(health) if health else "",
        "queue": beat.queue if beat else 0,
        "memory_mib": beat.memory_mib if beat else 0.0,
        "remarks": beat.remarks if beat else (),
    }
