"""Metric families of streams, and of their zones and lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from hams_services.monitor.core import SystemSnapshot
from hams_shared.group.source_kind import source_kind
from hams_shared.wire.messages.histogram import Histogram
from hams_shared.wire.messages.pipeline import StreamView

STREAM = ["group", "stream"]
STATES = ("waiting", "playing", "reconnecting", "paused", "ended", "failed")
USUAL = {
    "dropped": ("newer-frame", "deadline", "device-lost"),
    "failed": ("deadline", "inference-failed", "frame-fails"),
}
"""Reasons that are exported from the beginning, as 0: `increase()` misses the first value of a series."""
MOST_REASONS = 16
"""Of one outcome of one stream; the rest count as `other`. Own backends may name errors as they like."""


def stream_families(snapshot: SystemSnapshot) -> Iterator[Metric]:
    """Yield what frames of each stream came to, and how fast."""
    streams = snapshot.streams
    yield _info(snapshot)
    state = GaugeMetricFamily("hams_stream_state", "1 for the state the stream is in", labels=[*STREAM, "state"])
    frames = CounterMetricFamily(
        "hams_stream_frames", "Frames that ended, by outcome and reason", labels=[*STREAM, "outcome", "reason"]
    )
    submitted = CounterMetricFamily("hams_stream_submitted", "Frames read", labels=STREAM)
    damaged = CounterMetricFamily("hams_stream_damaged", "Packets and frames lost or damaged", labels=STREAM)
    resent = CounterMetricFamily("hams_stream_resent", "Further attempts at frames", labels=STREAM)
    flight = GaugeMetricFamily("hams_stream_in_flight", "Frames under way", labels=STREAM)
    fps = GaugeMetricFamily("hams_stream_fps", "Results per second over the last 5 s", labels=STREAM)
    latency = HistogramMetricFamily(
        "hams_stream_latency_seconds", "From reading a frame to its result, of delivered frames", labels=STREAM
    )
    for one in streams:
        names = [one.group, one.stream]
        for name in STATES:
            state.add_metric([*names, name], float(one.state == name))
        for outcome, reason, count in _ends(one):
            frames.add_metric([*names, outcome, reason], count)
        submitted.add_metric(names, one.submitted)
        damaged.add_metric(names, one.damaged)
        resent.add_metric(names, one.resent)
        flight.add_metric(names, one.in_flight)
        fps.add_metric(names, one.fps)
        add_histogram(latency, names, one.latency)
    yield from (state, frames, submitted, damaged, resent, flight, fps, latency)


def _info(snapshot: SystemSnapshot) -> Metric:
    """What streams are, by the plans of their groups."""
    info = InfoMetricFamily("hams_stream", "What the stream is", labels=STREAM)
    specs = {(p.group.spec.name, name): one for p in snapshot.plans for name, one in p.group.spec.streams.items()}
    for one in snapshot.streams:
        if (spec := specs.get((one.group, one.stream))) is not None:
            about: dict[str, str] = {"source": source_kind(spec.source), "mode": spec.mode, "pace": spec.pace}
            info.add_metric([one.group, one.stream], about)
    return info


def _ends(one: StreamView) -> Iterator[tuple[str, str, int]]:
    """Yield (outcome, reason, frames) of all that have ended; `delivered` may have withdrawn results, too."""
    yield "delivered", "", one.delivered
    yield "gated", "", one.gated
    for outcome, counts in (("dropped", one.dropped), ("failed", one.failed)):
        for reason, count in _bounded(counts, USUAL[outcome]).items():
            yield outcome, reason, count


def _bounded(counts: Mapping[str, int], usual: tuple[str, ...]) -> dict[str, int]:
    """Return the counts with the usual reasons, and with few enough of them."""
    found = dict.fromkeys(usual, 0)
    for reason, count in counts.items():
        name = reason if reason in found or len(found) < MOST_REASONS else "other"
        found[name] = found.get(name, 0) + count
    return found


def add_histogram(family: HistogramMetricFamily, names: list[str], found: Histogram | None) -> None:
    """Add one histogram to its family, if there is one: its buckets as Prometheus has them, each with all below it."""
    if found is None:
        return
    ends = (*map(str, found.edges), "+Inf")
    buckets = list(zip(ends, accumulate(found.counts), strict=True))
    family.add_metric(names, buckets, found.sum)


def place_families(streams: tuple[StreamView, ...]) -> Iterator[Metric]:
    """Yield what tracks did in zones and at lines."""
    labels = [*STREAM, "zone"]
    inside = GaugeMetricFamily("hams_zone_tracks", "Tracks that are in a zone now", labels=labels)
    entries = CounterMetricFamily("hams_zone_entries", "Times that a track entered a zone", labels=labels)
    dwell = HistogramMetricFamily("hams_zone_dwell_seconds", "Stays in a zone that ended", labels=labels)
    crossed = CounterMetricFamily(
        "hams_line_crossings", "Times that a track crossed a line", labels=[*STREAM, "line", "direction"]
    )
    for one in streams:
        for zone, count in one.places.zones.items():
            names = [one.group, one.stream, zone]
            inside.add_metric(names, count.inside)
            entries.add_metric(names, count.entries)
            add_histogram(dwell, names, count.dwell)
        for line, passed in one.places.lines.items():
            crossed.add_metric([one.group, one.stream, line, "in"], passed.ins)
            crossed.add_metric([one.group, one.stream, line, "out"], passed.outs)
    yield from (inside, entries, dwell, crossed)
