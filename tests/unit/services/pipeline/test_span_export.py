"""Spans go to where the environment says; a collector that is away costs a few warnings, and no time at the end."""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
import time

import pytest

from hams_services.pipeline.tracing import tracing_of
from hams_shared.errors import BadInputError
from hams_shared.runtime.otel import needed
from hams_shared.wire.messages.trace import FrameTrace, TraceSpan
from support.otlp import otlp_collector, texts
from support.wait import PATIENCE

TRACE = FrameTrace(
    group="face",
    stream="cam",
    frame=7,
    attempts=1,
    epoch=3,
    captured=1.7e9,
    began=1.7e9,
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    parent="00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01",
    sampled=True,
    outcome="dropped",
    reason="deadline",
    spans=(
        TraceSpan(name="frame", parent=None, start_ms=0, end_ms=30, error="deadline"),
        TraceSpan(name="wait", parent=0, start_ms=0, end_ms=1),
        TraceSpan(
            name="det", parent=0, start_ms=2, end_ms=30, follows=1, node="det", device="a.b.c", error="no answer"
        ),
    ),
)


@pytest.fixture(autouse=True)
def _installed() -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs hams[otel]")


def test_a_collector_gets_the_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    with otlp_collector() as collector:
        environ = {
            "HAMS_TRACE": "on",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_EXPORTER_OTLP_HEADERS": "x-token=secret",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test",
        }
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        with tracing_of(environ) as tracing:
            assert tracing is not None
            tracing.export(TRACE)
        assert [span.name for _, span in collector.spans] == ["frame", "wait", "det"]
        assert collector.headers[0]["x-token"] == "secret"
        (pipeline, root), _, (agent, det) = collector.spans
        assert pipeline["service.name"] == "hams-pipeline"
        assert agent.items() >= {"service.name": "hams-agent", "host.name": "a", "hams.device": "a.b.c"}.items()
        assert agent["deployment.environment"] == pipeline["deployment.environment"] == "test"
        assert root.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
        assert (root.span_id.hex(), root.parent_span_id.hex()) == ("b7ad6b7169203331", "00f067aa0ba902b7")
        assert det.parent_span_id == root.span_id
        assert (root.status.code, root.status.message) == (2, "deadline")
        assert (root.start_time_unix_nano, root.end_time_unix_nano) == (
            1_700_000_000 * 10**9,
            1_700_000_000 * 10**9 + 30_000_000,
        )
        about = {"hams.group": "face", "hams.frame": "7", "hams.outcome": "dropped", "hams.reason": "deadline"}
        assert texts(root.attributes).items() >= about.items()


def test_the_service_name_of_the_environment_is_the_pipelines(monkeypatch: pytest.MonkeyPatch) -> None:
    with otlp_collector() as collector:
        monkeypatch.setenv("OTEL_SERVICE_NAME", "site7")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        with tracing_of({"HAMS_TRACE": "on"}) as tracing:
            assert tracing is not None
            tracing.export(TRACE)
        assert collector.services() == {"site7", "hams-agent"}


def test_the_console_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    with tracing_of({"HAMS_TRACE": "1", "OTEL_TRACES_EXPORTER": "console"}) as tracing:
        assert tracing is not None
        tracing.export(TRACE)
    shown = capsys.readouterr().out
    first, _ = json.JSONDecoder().raw_decode(shown)
    assert first["name"] == "frame"
    assert first["status"] == {"status_code": "ERROR", "description": "deadline"}


@pytest.mark.parametrize("answers", [False, True], ids=["nobody listens", "it never answers"])
def test_a_dead_collector_costs_a_few_warnings(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, answers: bool
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if answers:
            listener.listen(64)  # takes connections, and reads nothing
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "10")
        before = {*threading.enumerate()}
        with tracing_of({"HAMS_TRACE": "on"}) as tracing:
            assert tracing is not None
            began = time.process_time()
            for _ in range(4000):
                tracing.export(TRACE)  # 12 000 spans: six times what the queue holds
            assert time.process_time() - began < 20
            ending = time.monotonic()
        assert time.monotonic() - ending < 5 * PATIENCE  # what waits would take four requests of 10 s each
        for thread in {*threading.enumerate()} - before:
            thread.join(60)
            assert not thread.is_alive(), thread
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) < 30, [record.getMessage() for record in said]


def test_what_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for environ, named in (
        ({"HAMS_TRACE": "on", "OTEL_TRACES_EXPORTER": "jaeger"}, "OTEL_TRACES_EXPORTER is 'jaeger'"),
        ({"HAMS_TRACE": "on", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf only"),
        ({"HAMS_TRACE": "often"}, "HAMS_TRACE is 'often'"),
    ):
        with pytest.raises(BadInputError, match=named), tracing_of(environ):
            pass
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(BadInputError, match=r"hams\[otel\]"), needed("HAMS_TRACE=on"):
        import opentelemetry  # noqa: F401


def test_off_imports_nothing() -> None:
    before = set(sys.modules)
    for environ in ({}, {"HAMS_TRACE": "off"}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}):
        with tracing_of(environ) as tracing:
            assert tracing is None
    assert set(sys.modules) == before


def test_the_log_stays_short() -> None:
    from hams_shared.runtime.otel import _Rarely

    rarely = _Rarely()

    def passes(name: str, text: str) -> bool:
        return rarely.filter(logging.LogRecord(name, logging.WARNING, "", 0, text, None, None))

    assert sum(passes("opentelemetry.sdk.x", "Queue full") for _ in range(1000)) == 10
    assert all(passes("hams.pipeline", "same") for _ in range(10))
