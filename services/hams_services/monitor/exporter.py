"""The state of the system as metric families of Prometheus. A scrape reads the newest snapshot and never waits.

Names follow Prometheus' conventions: base units (`_seconds`, `_bytes`), `_total` for what only grows, histograms for
what is spread. Labels are names of a site (groups, streams, nodes, zones, devices, hosts) and words of a fixed list:
never a track, a frame or an error's text.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

import hams_shared
from hams_services.monitor.core import SystemSnapshot
from hams_services.monitor.device_families import device_families, node_families
from hams_services.monitor.group_families import event_families, group_families, scheduler_families
from hams_services.monitor.stream_families import place_families, stream_families
from hams_shared.wire.messages.pipeline import StreamView

STALE_S = 10.0
"""A snapshot older than this is not exported, s; then `hams_up` is 0."""


class HamsCollector(Collector):
    """Turns the newest snapshot into metric families: the one place that does."""

    def __init__(self) -> None:
        self._snapshot = SystemSnapshot(broker=False)
        self._at = float("-inf")
        self._streams: dict[tuple[str, str], StreamView] = {}
        """As the pipeline counted them last, with what was exported."""
        self._cpu_s = 0.0
        """CPU time of the pipeline then; less means that it was started again."""

    def show(self, snapshot: SystemSnapshot, now: float) -> None:
        """Take a new snapshot, made at monotonic time `now`."""
        if (pipeline := snapshot.pipeline) is not None:
            before = self._streams if pipeline.cpu_s >= self._cpu_s else {}
            streams = tuple(_grown(one, before.get((one.group, one.stream))) for one in snapshot.streams)
            self._streams, self._cpu_s = {(one.group, one.stream): one for one in streams}, pipeline.cpu_s
            snapshot = replace(snapshot, streams=streams)
        self._snapshot, self._at = snapshot, now

    def collect(self) -> Iterator[Metric]:
        """Called at each scrape, in the HTTP server's thread."""
        snapshot, age_s = self._snapshot, time.monotonic() - self._at
        fresh = age_s <= STALE_S
        yield GaugeMetricFamily(
            "hams_up", "1 when scheduler and pipeline answer", float(fresh and not snapshot.troubles)
        )
        age = GaugeMetricFamily("hams_snapshot_age_seconds", "Age of what this scrape shows", labels=())
        if age_s < float("inf"):
            age.add_metric((), max(age_s, 0.0))
        yield age
        yield InfoMetricFamily("hams_build", "Of the exporter", {"version": hams_shared.__version__})
        if fresh:
            yield _parts(snapshot)
            yield from stream_families(snapshot)
            yield from place_families(snapshot.streams)
            yield from group_families(snapshot)
            yield from scheduler_families(snapshot.scheduler)
            yield from event_families(snapshot.pipeline)
            yield from device_families(snapshot.devices)
            yield from node_families(snapshot)


def _grown(one: StreamView, before: StreamView | None) -> StreamView:
    """Return `one` without fewer delivered frames than `before`, unless the stream has begun to count anew.

    A frame whose result is withdrawn, as it could not be stored, becomes a dropped one. To Prometheus, a counter that
    goes down was set to 0.
    """
    if before is None or one.deployed_at != before.deployed_at or one.submitted < before.submitted:
        return one
    return one.model_copy(update={"delivered": max(one.delivered, before.delivered)})


def _parts(snapshot: SystemSnapshot) -> Metric:
    """Which parts can be reached; without the broker none can."""
    parts = GaugeMetricFamily("hams_part_up", "1 when the part answers", labels=["part"])
    found = {
        "broker": snapshot.broker,
        "scheduler": snapshot.scheduler is not None,
        "pipeline": snapshot.pipeline is not None,
    }
    for part, there in found.items():
        parts.add_metric([part], float(there))
    return parts
