"""A collector on the loopback: takes OTLP over HTTP, reads the protobuf, keeps it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class Collector:
    """What was received."""

    url: str = ""
    spans: list[tuple[dict[str, str], Any]] = field(default_factory=list)
    """Resource attributes, span (protobuf)."""
    metrics: list[tuple[dict[str, str], Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def services(self) -> set[str]:
        return {about["service.name"] for about, _ in self.spans}


def texts(attributes: Any) -> dict[str, str]:
    """Attributes as plain texts."""
    return {one.key: str(getattr(one.value, one.value.WhichOneof("value"))) for one in attributes}


@contextmanager
def otlp_collector() -> Iterator[Collector]:
    """Run one; where its protocol is not installed the test is skipped."""
    traces = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="hams[otel]")
    metrics = pytest.importorskip("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2", reason="hams[otel]")
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            found.headers.append(dict(self.headers))
            if self.path == "/v1/traces":
                for resource in traces.ExportTraceServiceRequest.FromString(data).resource_spans:
                    about = texts(resource.resource.attributes)
                    found.spans += [(about, span) for scope in resource.scope_spans for span in scope.spans]
            elif self.path == "/v1/metrics":
                for resource in metrics.ExportMetricsServiceRequest.FromString(data).resource_metrics:
                    about = texts(resource.resource.attributes)
                    found.metrics += [(about, metric) for scope in resource.scope_metrics for metric in scope.metrics]
            self.send_response(200 if self.path in ("/v1/traces", "/v1/metrics") else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
