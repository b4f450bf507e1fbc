"""Values counted by their size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_services.pipeline.buckets import DWELL_S, LATENCY_S, Buckets
from hams_services.pipeline.timings import Timings


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        ((), (0, 0, 0)),
        ((0.0, 1.0), (2, 0, 0)),  # an edge belongs to the bucket below it, as Prometheus' `le` says
        ((1.0000001, 2.0), (0, 2, 0)),
        ((2.5, float("inf")), (0, 0, 2)),
        ((-1.0,), (1, 0, 0)),
    ],
)
def test_where_values_are_counted(values: tuple[float, ...], counts: tuple[int, ...]) -> None:
    buckets = Buckets((1.0, 2.0))
    for value in values:
        buckets.add(value)
    assert buckets.histogram.counts == counts


@given(st.lists(st.floats(0, 1e5)), st.sampled_from((LATENCY_S, DWELL_S)))
def test_each_value_is_counted_once_below_its_edges(values: list[float], edges: tuple[float, ...]) -> None:
    buckets = Buckets(edges)
    for value in values:
        buckets.add(value)
    found = buckets.histogram
    assert sum(found.counts) == len(values)
    assert found.sum == pytest.approx(sum(values))
    for number, edge in enumerate(found.edges):
        assert sum(found.counts[: number + 1]) == sum(value <= edge for value in values)


@given(st.lists(st.floats(0, 1e5), max_size=3000))
def test_the_histogram_counts_all_that_the_quantiles_forget(latencies_ms: list[float]) -> None:
    timings = Timings()
    for number, latency_ms in enumerate(latencies_ms):
        timings.delivered(latency_ms, float(number))
    assert sum(timings.histogram.counts) == len(latencies_ms)


@pytest.mark.parametrize("edges", [LATENCY_S, DWELL_S], ids=["latency", "dwell"])
def test_edges_ascend(edges: tuple[float, ...]) -> None:
    assert list(edges) == sorted({*edges})
