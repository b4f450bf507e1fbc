"""What Prometheus reads, over real HTTP."""

from __future__ import annotations

import time
import urllib.request

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from hams_services.monitor.core import SystemSnapshot
from hams_services.monitor.exporter import STALE_S, HamsCollector
from hams_shared.wire.messages.agents import Heartbeat, NodeLoad
from hams_shared.wire.messages.pipeline import StreamView
from hams_shared.wire.messages.scheduler import DeviceView
from support.build import device

LOOK = SystemSnapshot(
    devices=(
        DeviceView(
            record=device("h.b.u"),
            state="alive",
            heartbeat=Heartbeat(
                device="h.b.u",
                incarnation="i1",
                sequence=1,
                nodes=(NodeLoad(group="g", node="det", frames=7, inferences=9, busy_s=1.5, cpu_s={"infer": 1.25}),),
                queue=2,
                busy_s=1.5,
                cpu_s=3.5,
                memory_mib=1.0,
            ),
        ),
    ),
    streams=(
        StreamView(
            group="g",
            stream="cam",
            state="playing",
            submitted=14,
            delivered=7,
            gated=5,
            dropped={"deadline": 2},
            p50_ms=5,
        ),
    ),
)


def registered(collector: HamsCollector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def over_http(registry: CollectorRegistry) -> str:
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


def samples(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_fresh_look_is_shown() -> None:
    collector = HamsCollector()
    collector.show(LOOK, time.monotonic())
    found = samples(over_http(registered(collector)))
    assert found[("hams_up",)] == 1
    assert found[("hams_stream_frames_total", *sorted(["g", "cam", "delivered", ""]))] == 7
    assert found[("hams_stream_frames_total", *sorted(["g", "cam", "gated", ""]))] == 5
    assert found[("hams_stream_frames_total", *sorted(["g", "cam", "dropped", "deadline"]))] == 2
    assert found[("hams_stream_latency_seconds", *sorted(["g", "cam", "0.5"]))] == 0.005
    assert found[("hams_device_memory_bytes", *sorted(["h.b.u", "false"]))] == 2**20
    assert found[("hams_node_busy_seconds_total", *sorted(["g", "det", "h.b.u"]))] == 1.5
    assert found[("hams_node_cpu_seconds_total", *sorted(["g", "det", "h.b.u", "infer"]))] == 1.25
    assert found[("hams_device_cpu_seconds_total", *sorted(["h.b.u", "false"]))] == 3.5


def test_without_an_answer_hams_is_down() -> None:
    collector = HamsCollector()
    registry = registered(collector)

    def scraped() -> dict[tuple[str, ...], float]:
        return samples(generate_latest(registry).decode())

    assert scraped() == {("hams_up",): 0}
    collector.show(SystemSnapshot(troubles=("no answer from the scheduler",)), time.monotonic())
    assert scraped()[("hams_up",)] == 0
    collector.show(LOOK, time.monotonic() - STALE_S - 1)
    assert scraped() == {("hams_up",): 0}
