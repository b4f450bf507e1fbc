"""The numbers of `hams-ctl top` for Prometheus. A scrape reads the newest snapshot and never waits for the system."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from hams_services.monitor.core import SystemSnapshot
from hams_shared.wire.messages.pipeline import StreamView
from hams_shared.wire.messages.scheduler import DeviceView

STALE_S = 10.0
"""A snapshot older than this is not exported, s; then `hams_up` is 0."""


class HamsCollector(Collector):
    """Turns the newest snapshot into metric families."""

    def __init__(self) -> None:
        self._snapshot = SystemSnapshot()
        self._at = float("-inf")

    def show(self, snapshot: SystemSnapshot, now: float) -> None:
        """Take a new snapshot, made at monotonic time `now`."""
        self._snapshot, self._at = snapshot, now

    def collect(self) -> Iterator[Metric]:
        """Called at each scrape, in the HTTP server's thread."""
        snapshot = self._snapshot
        fresh = time.monotonic() - self._at <= STALE_S
        yield GaugeMetricFamily(
            "hams_up", "1 when scheduler and pipeline answer", float(fresh and not snapshot.troubles)
        )
        if fresh:
            yield from _streams(snapshot.streams)
            yield from _places(snapshot.streams)
            yield from _devices(snapshot.devices)
            yield from _nodes(snapshot.devices)


def _streams(streams: tuple[StreamView, ...]) -> Iterator[Metric]:
    labels = ["group", "stream"]
    frames = CounterMetricFamily(
        "hams_stream_frames", "Frames that ended, by outcome and reason", labels=[*labels, "outcome", "reason"]
    )
    submitted = CounterMetricFamily("hams_stream_submitted", "Frames read", labels=labels)
    damaged = CounterMetricFamily("hams_stream_damaged", "Packets and frames lost or damaged", labels=labels)
    resent = CounterMetricFamily("hams_stream_resent", "Further attempts at frames", labels=labels)
    flight = GaugeMetricFamily("hams_stream_in_flight", "Frames under way", labels=labels)
    fps = GaugeMetricFamily("hams_stream_fps", "Results per second, lately", labels=labels)
    latency = GaugeMetricFamily(
        "hams_stream_latency_seconds", "From capture to result, lately", labels=[*labels, "quantile"]
    )
    for one in streams:
        names = [one.group, one.stream]
        frames.add_metric([*names, "delivered", ""], one.delivered)
        frames.add_metric([*names, "gated", ""], one.gated)
        for outcome, reasons in (("dropped", one.dropped), ("failed", one.failed)):
            for reason, count in reasons.items():
                frames.add_metric([*names, outcome, reason], count)
        submitted.add_metric(names, one.submitted)
        damaged.add_metric(names, one.damaged)
        resent.add_metric(names, one.resent)
        flight.add_metric(names, one.in_flight)
        fps.add_metric(names, one.fps)
        latency.add_metric([*names, "0.5"], one.p50_ms / 1e3)
        latency.add_metric([*names, "0.99"], one.p99_ms / 1e3)
    yield from (frames, submitted, damaged, resent, flight, fps, latency)


def _places(streams: tuple[StreamView, ...]) -> Iterator[Metric]:
    labels = ["group", "stream", "zone"]
    inside = GaugeMetricFamily("hams_zone_tracks", "Tracks that are in a zone now", labels=labels)
    entries = CounterMetricFamily("hams_zone_entries", "Times that a track entered a zone", labels=labels)
    dwell = CounterMetricFamily("hams_zone_dwell_seconds", "Stays in a zone that ended, in all", labels=labels)
    crossed = CounterMetricFamily(
        "hams_line_crossings", "Times that a track crossed a line", labels=["group", "stream", "line", "direction"]
    )
    for one in streams:
        for zone, count in one.places.zones.items():
            names = [one.group, one.stream, zone]
            inside.add_metric(names, count.inside)
            entries.add_metric(names, count.entries)
            dwell.add_metric(names, count.dwell_s)
        for line, passed in one.places.lines.items():
            crossed.add_metric([one.group, one.stream, line, "in"], passed.ins)
            crossed.add_metric([one.group, one.stream, line, "out"], passed.outs)
    yield from (inside, entries, dwell, crossed)


def _devices(devices: tuple[DeviceView, ...]) -> Iterator[Metric]:
    labels = ["device", "emulated"]
    up = GaugeMetricFamily("hams_device_up", "1 while the device's agent sends heartbeats", labels=labels)
    busy = CounterMetricFamily("hams_device_busy_seconds", "Time spent computing", labels=labels)
    queue = GaugeMetricFamily("hams_device_queue", "Work items that wait", labels=labels)
    cpu = CounterMetricFamily("hams_device_cpu_seconds", "CPU time of the agent's process", labels=labels)
    memory = GaugeMetricFamily("hams_device_memory_bytes", "Resident memory of the agent", labels=labels)
    for view in devices:
        names = [view.record.device, str(view.record.emulated).lower()]
        up.add_metric(names, float(view.state == "alive"))
        if view.heartbeat is not None:
            busy.add_metric(names, view.heartbeat.busy_s)
            cpu.add_metric(names, view.heartbeat.cpu_s)
            queue.add_metric(names, view.heartbeat.queue)
            memory.add_metric(names, view.heartbeat.memory_mib * 2**20)
    yield from (up, busy, cpu, queue, memory)


def _nodes(devices: tuple[DeviceView, ...]) -> Iterator[Metric]:
    labels = ["group", "node", "device"]
    frames = CounterMetricFamily("hams_node_frames", "Frames a node worked on", labels=labels)
    inferences = CounterMetricFamily("hams_node_inferences", "Images a node ran its network on", labels=labels)
    busy = CounterMetricFamily("hams_node_busy_seconds", "Time its device computed for a node", labels=labels)
    cpu = CounterMetricFamily("hams_node_cpu_seconds", "CPU time of a node's steps", labels=[*labels, "step"])
    for view in devices:
        for load in view.heartbeat.nodes if view.heartbeat else ():
            names = [load.group, load.node, view.record.device]
            frames.add_metric(names, load.frames)
            inferences.add_metric(names, load.inferences)
            busy.add_metric(names, load.busy_s)
            for step, seconds in load.cpu_s.items():
                cpu.add_metric([*names, step], seconds)
    yield from (frames, inferences, busy, cpu)
