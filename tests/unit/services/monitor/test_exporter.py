"""What Prometheus reads, over real HTTP."""

from __future__ import annotations

import socket
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics

from hams_services.monitor.core import SystemSnapshot
from hams_services.monitor.exporter import STALE_S, HamsCollector
from hams_services.monitor.server import served
from hams_services.monitor.stream_families import MOST_REASONS
from hams_shared.errors import BadInputError
from hams_shared.wire.messages.pipeline import PipelineView
from support.prometheus import promtool
from support.snapshots import system
from support.wait import PATIENCE

GOLDEN = Path(__file__).with_name("metrics.txt")
LOCAL = "127.0.0.1"

Samples = dict[tuple[str, ...], float]


def showing(snapshot: SystemSnapshot) -> HamsCollector:
    collector = HamsCollector()
    collector.show(snapshot, time.monotonic())
    return collector


def over_http(collector: HamsCollector, address: str = LOCAL, accept: str = "*/*") -> tuple[str, str]:
    """The text that is answered, and its type."""
    host = f"[{address}]" if ":" in address else address
    with served(collector, address, 0) as port:
        request = urllib.request.Request(f"http://{host}:{port}/metrics", headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=10 * PATIENCE) as answer:
            return str(answer.read().decode()), str(answer.headers["Content-Type"])


def scraped(collector: HamsCollector) -> Samples:
    found = (sample for family in collector.collect() for sample in family.samples)
    return {(one.name, *sorted(one.labels.values())): one.value for one in found}


def without_age(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("hams_snapshot_age_seconds "))


def test_all_that_is_known_is_shown() -> None:
    """Where this fails because more is exported: write what it shows to the file beside this one, and read it."""
    text, _ = over_http(showing(system()))
    assert without_age(text) == GOLDEN.read_text(encoding="utf-8")


def test_a_histogram_counts_what_was_delivered() -> None:
    found = scraped(showing(system()))
    assert (
        found["hams_stream_latency_seconds_count", "g0", "s0"]
        == found["hams_stream_frames_total", "", "delivered", "g0", "s0"]
    )
    assert found["hams_stream_latency_seconds_bucket", "+Inf", "g0", "s0"] == 5
    assert found["hams_stream_latency_seconds_bucket", "0.005", "g0", "s0"] == 1


def test_promtool_finds_nothing_wrong() -> None:
    assert promtool("check", "metrics", stdin=over_http(showing(system(4, 2, streams=2)))[0]) == ""


def test_open_metrics_where_it_is_asked_for() -> None:
    text, kind = over_http(showing(system()), accept="application/openmetrics-text; version=1.0.0")
    assert kind.partition(";")[0] == CONTENT_TYPE_LATEST.partition(";")[0]
    families = {family.name: family for family in open_metrics(text)}
    assert families["hams_stream_latency_seconds"].type == "histogram"
    assert families["hams_device"].type == "info"


def test_an_address_of_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    assert "hams_up 1.0" in over_http(showing(system()), "::1")[0]


def test_an_address_that_is_taken() -> None:
    with (
        served(HamsCollector(), LOCAL, 0) as port,
        pytest.raises(BadInputError, match=f"{LOCAL}, port {port}.*in use"),
        served(HamsCollector(), LOCAL, port),
    ):
        pass


def test_a_scraper_that_says_nothing_is_let_go() -> None:
    with served(HamsCollector(), LOCAL, 0, silent_s=0.2) as port, socket.create_connection((LOCAL, port), 10) as silent:
        assert silent.recv(1) == b""


def test_reasons_are_bounded_and_nothing_is_lost() -> None:
    whole = system()
    stream = whole.streams[0].model_copy(update={"failed": {f"own-{n}": n for n in range(100)}})
    found = scraped(showing(replace(whole, streams=(stream,))))
    failed = {key: value for key, value in found.items() if key[0] == "hams_stream_frames_total" and "failed" in key}
    assert len(failed) == MOST_REASONS + 1
    assert sum(failed.values()) == sum(range(100))


def test_a_counter_goes_down_only_when_the_pipeline_counts_anew() -> None:
    whole = system()
    collector = HamsCollector()

    def exported(cpu_s: float, **counts: float) -> float:
        streams = (whole.streams[0].model_copy(update=counts),)
        pipeline = PipelineView(streams=streams, cpu_s=cpu_s)
        collector.show(replace(whole, streams=streams, pipeline=pipeline), time.monotonic())
        return scraped(collector)["hams_stream_frames_total", "", "delivered", "g0", "s0"]

    assert exported(1, submitted=20, delivered=10) == 10
    assert exported(2, submitted=20, delivered=8) == 10  # the results of two could not be stored
    collector.show(SystemSnapshot(), time.monotonic())  # nor did the pipeline answer
    assert exported(3, submitted=21, delivered=9) == 10
    assert exported(4, submitted=24, delivered=11) == 11
    assert exported(5, submitted=3, delivered=2) == 2  # the stream was set up again
    assert exported(6, submitted=9, delivered=1, deployed_at=7.0) == 1
    assert exported(1, submitted=9, delivered=0, deployed_at=7.0) == 0  # another process


@pytest.mark.parametrize("size", [(2, 1), (20, 20)], ids=str)
def test_no_label_grows_with_time(size: tuple[int, int]) -> None:
    """The same site gives the same series, however many frames and tracks it has had."""
    whole = system(*size)
    later = replace(
        whole, streams=tuple(s.model_copy(update={"submitted": 10**9, "delivered": 10**9}) for s in whole.streams)
    )
    assert scraped(showing(whole)).keys() == scraped(showing(later)).keys()


def test_without_an_answer_hams_is_down() -> None:
    collector = HamsCollector()
    build = ("hams_build_info", "0.1.0")
    assert scraped(collector) == {("hams_up",): 0, build: 1}
    collector.show(SystemSnapshot(troubles=("no answer from the scheduler",)), time.monotonic())
    assert scraped(collector)["hams_up",] == 0
    assert scraped(collector)["hams_part_up", "broker"] == 1
    assert scraped(collector)["hams_part_up", "scheduler"] == 0
    collector.show(system(), time.monotonic() - STALE_S - 1)
    found = scraped(collector)
    assert found.pop(("hams_snapshot_age_seconds",)) > STALE_S
    assert found == {("hams_up",): 0, build: 1}


def test_a_pipeline_of_an_earlier_version_is_shown_without_what_it_does_not_count() -> None:
    whole = system()
    stream = whole.streams[0].model_copy(update={"latency": None})
    found = scraped(showing(replace(whole, streams=(stream,))))
    assert found["hams_stream_fps", "g0", "s0"] == 20
    assert not any(name.startswith("hams_stream_latency") for name, *_ in found)
