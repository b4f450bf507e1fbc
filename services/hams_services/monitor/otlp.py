"""The numbers of the Prometheus exporter by OTLP (``hams[otel]``): the same families, with the names that it serves.

What Prometheus would scrape is translated, so that a name is decided in one place. A counter or a gauge has a point for
each combination of labels; the buckets of a histogram, which Prometheus sums up, are counted apart.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

import hams_shared
from hams_shared.errors import BadInputError
from hams_shared.runtime.otel import check_protocol, resource

INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
SCOPE = InstrumentationScope("hams", hams_shared.__version__)
CUMULATIVE = AggregationTemporality.CUMULATIVE
UNITS = {"seconds": "s", "bytes": "By", "ratio": "1", "celsius": "Cel"}
"""By the last word of a name, as UCUM has them."""


def interval_s(environ: Mapping[str, str]) -> float:
    """Return the time between two exports, s: OTEL_METRIC_EXPORT_INTERVAL, ms, else a minute. Raises BadInputError."""
    text = environ.get(INTERVAL, "").strip() or "60000"
    if not text.isascii() or not text.isdigit() or not int(text):
        raise BadInputError(f"{INTERVAL} is {text!r}, not a number of ms", "60000 is a minute")
    return int(text) / 1e3


class MetricExport:
    """Sends what a collector of the Prometheus client has."""

    def __init__(self, collector: Collector, environ: Mapping[str, str]) -> None:
        """Raises BadInputError: another protocol than HTTP is asked for."""
        check_protocol(environ, "METRICS")
        self._collector = collector
        self._exporter = OTLPMetricExporter()
        self._resource = resource("hams")
        self.failures = 0

    def export(self) -> bool:
        """Send the present numbers; return whether they were taken. It blocks, OTEL_EXPORTER_OTLP_TIMEOUT at most."""
        found = list(metrics_of(self._collector.collect(), time.time_ns()))
        scopes = [ScopeMetrics(SCOPE, found, "")]
        done = self._exporter.export(MetricsData([ResourceMetrics(self._resource, scopes, "")]))
        self.failures += done is not MetricExportResult.SUCCESS
        return done is MetricExportResult.SUCCESS

    def close(self) -> None:
        """Give up what is under way."""
        self._exporter.shutdown()


def metrics_of(families: Iterable[Family], now: int) -> Iterator[Metric]:
    """Translate what Prometheus would scrape at Unix time `now`, ns. Families without samples are left out."""
    for family in families:
        match family.type:
            case "histogram":
                points = list(_histograms(family.name, family.samples, now))
                if points:
                    yield Metric(family.name, family.documentation, _unit(family.name), Histogram(points, CUMULATIVE))
            case _:
                yield from _numbers(family, now)


def _numbers(family: Family, now: int) -> Iterator[Metric]:
    """Translate counters and gauges; of a summary, its quantiles, sum and count by themselves."""
    by_name: dict[str, list[NumberDataPoint]] = {}
    for sample in family.samples:
        if not sample.name.endswith("_created") and math.isfinite(sample.value):
            by_name.setdefault(sample.name, []).append(
                NumberDataPoint(dict(sample.labels), 0, now, float(sample.value))
            )
    for name, points in by_name.items():
        grows = family.type == "counter" or (family.type == "summary" and name != family.name)
        data: Sum | Gauge = Sum(points, CUMULATIVE, is_monotonic=True) if grows else Gauge(points)
        yield Metric(name, family.documentation, _unit(name), data)


@dataclass
class _Buckets:
    up_to: dict[float, float] = field(default_factory=dict)
    """By upper bound: observations up to it."""
    sum: float = 0.0
    count: float = 0.0


def _histograms(name: str, samples: Iterable[Sample], now: int) -> Iterator[HistogramDataPoint]:
    found: dict[tuple[tuple[str, str], ...], _Buckets] = {}
    for sample in samples:
        labels = tuple(sorted((key, value) for key, value in sample.labels.items() if key != "le"))
        one = found.setdefault(labels, _Buckets())
        if sample.name == f"{name}_bucket":
            one.up_to[float(sample.labels["le"])] = sample.value
        elif sample.name == f"{name}_sum":
            one.sum = sample.value
        elif sample.name == f"{name}_count":
            one.count = sample.value
    for labels, one in found.items():
        bounds = sorted(bound for bound in one.up_to if math.isfinite(bound))
        totals = [one.up_to[bound] for bound in bounds]
        total = max(one.count, one.up_to.get(math.inf, 0.0), *totals, 0.0)
        counts = [round(up - low) for low, up in zip([0.0, *totals], [*totals, total], strict=True)]
        yield HistogramDataPoint(dict(labels), 0, now, round(total), one.sum, counts, bounds, min=None, max=None)


def _unit(name: str) -> str:
    return UNITS.get(name.removesuffix("_total").rpartition("_")[2], "1")
