"""Snapshots of systems for tests of what is exported: any number of devices and groups, and all that may be known."""

from __future__ import annotations

from hams_services.monitor.core import SystemSnapshot
from hams_services.pipeline.buckets import DWELL_S, LATENCY_S, Buckets
from hams_shared.wire.messages.agents import DeviceHealth, Heartbeat, NodeLoad
from hams_shared.wire.messages.events import LineCounts, PlaceCounts, ZoneCounts
from hams_shared.wire.messages.histogram import Histogram
from hams_shared.wire.messages.pipeline import EventsView, PipelineView, StreamView
from hams_shared.wire.messages.plan import Plan
from hams_shared.wire.messages.scheduler import DeviceView, GroupView, LeaderRecord, SchedulerView
from support.build import device, group_record, group_spec

NODES = ("det", "age", "gender", "emotion")


def histogram(edges: tuple[float, ...], *values: float) -> Histogram:
    """What these values are counted to."""
    buckets = Buckets(edges)
    for value in values:
        buckets.add(value)
    return buckets.histogram


def system(devices: int = 2, groups: int = 1, nodes: tuple[str, ...] = NODES[:2], streams: int = 1) -> SystemSnapshot:
    """A system of `devices`, the last of them lost, which serve all nodes of `groups` in turn."""
    names = [f"box{i // 4}.openvino.cpu{i}" for i in range(devices)]
    plans = [_plan(f"g{g}", g + 1, names, nodes, streams) for g in range(groups)]
    views = tuple(_device(name, plans, alive=name != names[-1] or devices == 1) for name in names)
    scheduler = SchedulerView.model_validate(
        {
            "devices": views,
            "groups": tuple(_group(plan) for plan in plans),
            "matrix": {"models": (), "devices": (), "fps": ()},
            "waiting_profiles": 3,
            "epoch": groups,
            "losses": devices,
            "losses_ready": devices - 1,
            "leader": LeaderRecord(holder="1dac6da6", host="box0", pid=4711, term=3),
            "led_s": 190.5,
        }
    )
    pipeline = PipelineView(
        streams=tuple(_stream(plan.group.spec.name, f"s{s}") for plan in plans for s in range(streams)),
        events=tuple(EventsView(group=p.group.spec.name, waiting=2, published=40, overflowed=1) for p in plans),
        host="box0",
        cpu_s=12.5,
    )
    return SystemSnapshot(views, pipeline.streams, tuple(plans), scheduler=scheduler, pipeline=pipeline)


def _plan(name: str, epoch: int, devices: list[str], nodes: tuple[str, ...], streams: int) -> Plan:
    played = {f"s{s}": {"source": "rtsp://camera/1", "mode": "live"} for s in range(streams)}
    record = group_record(group_spec(name, nodes, streams=played, target_fps=25))
    places = {node: {devices[(epoch + i) % len(devices)]: 1.0} for i, node in enumerate(nodes)}
    return Plan(epoch=epoch, group=record, shares=places, strategy="default", fps=30.0, bound_fps=32.0, made_at=1.7e9)


def _device(name: str, plans: list[Plan], *, alive: bool) -> DeviceView:
    record = device(name).model_copy(update={"host_cores": 8.0, "started_at": 1.7e9})
    if not alive:
        return DeviceView(record=record, state="lost", health=DeviceHealth(device=name, hangs=(1.7e9,)))
    loads = tuple(
        NodeLoad(
            group=plan.group.spec.name,
            node=node,
            frames=700,
            inferences=900,
            busy_s=1.5,
            cpu_s={"prepare": 0.25, "infer": 1.25, "decode": 0.125, "crop": 0.0625},
        )
        for plan in plans
        for node in plan.nodes_on(name)
    )
    heartbeat = Heartbeat(
        device=name, incarnation="i1", sequence=1, nodes=loads, queue=2, busy_s=1.5, cpu_s=3.5, memory_mib=1.0
    )
    return DeviceView(record=record, state="alive", heartbeat=heartbeat, silent_s=0.25)


def _group(plan: Plan) -> GroupView:
    return GroupView(
        name=plan.group.spec.name,
        state="serving",
        active=plan,
        target_fps=25.0,
        measured_fps=20.0,
        predicted_fps=28.0,
        expected_fps=27.5,
        bottleneck="box0.openvino.cpu0",
    )


def _stream(group: str, stream: str) -> StreamView:
    return StreamView(
        group=group,
        stream=stream,
        state="playing",
        submitted=16,
        delivered=5,
        gated=5,
        dropped={"newer-frame": 2, "refused": 1},
        failed={"inference-failed": 1},
        in_flight=2,
        resent=1,
        damaged=1,
        fps=20.0,
        p50_ms=30.0,
        p99_ms=700.0,
        latency=histogram(LATENCY_S, 0.005, 0.006, 0.03, 0.7, 20.0),
        places=PlaceCounts(
            zones={"yard": ZoneCounts(inside=1, entries=3, exits=2, dwell_s=41.0, dwell=histogram(DWELL_S, 1.0, 40.0))},
            lines={"door": LineCounts(ins=4, outs=3)},
        ),
    )
