"""Metrics by OTLP are what Prometheus is served, under the same names."""

from __future__ import annotations

import math

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from hams_services.monitor.core import SystemSnapshot
from hams_services.monitor.exporter import HamsCollector
from hams_shared.errors import BadInputError
from hams_shared.wire.messages.pipeline import StreamView
from support.otlp import otlp_collector, texts

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs hams[otel]")

from hams_services.monitor.otlp import MetricExport, interval_s, metrics_of


def registry() -> CollectorRegistry:
    found = CollectorRegistry()
    frames = Counter("hams_frames", "Frames", ["group"], registry=found)
    frames.labels("face").inc(7)
    frames.labels("yard").inc(2)
    Gauge("hams_memory_bytes", "Memory", registry=found).set(2.5)
    latency = Histogram("hams_latency_seconds", "Latency", ["group"], buckets=(0.1, 1.0), registry=found)
    for value in (0.05, 0.06, 0.5, 7.0):
        latency.labels("face").observe(value)
    return found


def test_names_types_and_values_are_prometheus() -> None:
    found = {metric.name: metric for metric in metrics_of(registry().collect(), 99)}
    assert {name: type(metric.data).__name__ for name, metric in found.items()} == {
        "hams_frames_total": "Sum",
        "hams_memory_bytes": "Gauge",
        "hams_latency_seconds": "Histogram",
    }
    frames = found["hams_frames_total"]
    assert frames.data.is_monotonic
    assert {p.attributes["group"]: p.value for p in frames.data.data_points} == {"face": 7.0, "yard": 2.0}
    assert {name: metric.unit for name, metric in found.items()} == {
        "hams_frames_total": "1",
        "hams_memory_bytes": "By",
        "hams_latency_seconds": "s",
    }
    [latency] = found["hams_latency_seconds"].data.data_points
    assert (latency.attributes, latency.count, latency.sum) == ({"group": "face"}, 4, pytest.approx(7.61))
    assert (list(latency.explicit_bounds), list(latency.bucket_counts)) == ([0.1, 1.0], [2, 1, 1])
    assert latency.time_unix_nano == 99


def snapshot() -> SystemSnapshot:
    stream = StreamView(group="face", stream="cam", state="playing", submitted=9, delivered=7, dropped={"deadline": 2})
    return SystemSnapshot(streams=(stream,))


def test_all_that_hams_serves_arrives_under_the_name_it_is_served_by(monkeypatch: pytest.MonkeyPatch) -> None:
    collector = HamsCollector()
    collector.show(snapshot(), math.inf)
    served = CollectorRegistry()
    served.register(collector)
    samples: list[Sample] = [
        sample
        for family in text_string_to_metric_families(generate_latest(served).decode())
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_sum", "_count", "_created"))
    ]
    with otlp_collector() as otlp:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.url)
        export = MetricExport(collector, {})
        assert export.export()
        export.close()
    got = {
        (metric.name, tuple(sorted(texts(point.attributes).items())), point.as_double)
        for _, metric in otlp.metrics
        if metric.WhichOneof("data") != "histogram"
        for point in (metric.sum if metric.WhichOneof("data") == "sum" else metric.gauge).data_points
    }
    assert got == {(s.name, tuple(sorted(s.labels.items())), s.value) for s in samples}
    assert len(got) > 5
    assert {about["service.name"] for about, _ in otlp.metrics} == {"hams"}


def test_a_collector_that_is_away_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    export = MetricExport(HamsCollector(), {})
    assert not export.export()
    assert export.failures == 1
    export.close()


def test_the_interval_is_checked() -> None:
    assert interval_s({}) == 60
    assert interval_s({"OTEL_METRIC_EXPORT_INTERVAL": "1500"}) == 1.5
    for text in ("0", "-1", "a minute", "1.5"):
        with pytest.raises(BadInputError, match="OTEL_METRIC_EXPORT_INTERVAL"):
            interval_s({"OTEL_METRIC_EXPORT_INTERVAL": text})
