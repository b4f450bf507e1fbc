"""Traces to a collector, by OpenTelemetry's SDK (``hams[otel]``): imported only when traces are turned on.

The pipeline exports for all devices, so that boxes need no way to the collector. Spans of a device come as those of a
service of its own, ``hams-agent``, with its host: one resource per device.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags

import hams_shared
from hams_shared.errors import BadInputError
from hams_shared.runtime.otel import check_protocol, resource
from hams_shared.wire.messages.trace import FrameTrace, TraceSpan
from hams_shared.wire.trace_context import Context, parse, span_id

log = logging.getLogger("hams.pipeline")

CLOSE_S = 1.5
"""How long a stopping process waits for the last spans to be taken, s."""
ABORT_S = 0.2
"""How long an export that is cut short may take to end, s."""
MOST_DEVICES = 1024
"""Devices whose resource is kept."""
SCOPE = InstrumentationScope("hams", hams_shared.__version__)
EXPORTER = "OTEL_TRACES_EXPORTER"


def exporter_of(environ: Mapping[str, str]) -> SpanExporter | None:
    """Return the exporter that the environment asks for; None: ``none``. Raises BadInputError."""
    name = environ.get(EXPORTER, "").strip().lower() or "otlp"
    match name:
        case "none":
            return None
        case "console":
            return ConsoleSpanExporter(out=sys.stdout)
        case "otlp":
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            check_protocol(environ, "TRACES")
            return OTLPSpanExporter()
    raise BadInputError(f"{EXPORTER} is {name!r}, which is not known", "use otlp, console or none")


class SpanExport:
    """Gives traces to an exporter, in a thread of its own, by a bounded queue; what finds no room is lost."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = _Remarked(exporter)
        self._processor = BatchSpanProcessor(self._exporter)
        self._pipeline = resource("hams-pipeline")
        self._devices: dict[str, Resource] = {}

    def export(self, trace: FrameTrace) -> None:
        """Queue the spans of a frame."""
        for span in spans_of(trace, self._resource):
            self._processor.on_end(span)

    def _resource(self, device: str) -> Resource:
        """Return what is known of who did it; an empty `device`: the pipeline."""
        if not device:
            return self._pipeline
        if (found := self._devices.get(device)) is None:
            if len(self._devices) >= MOST_DEVICES:
                self._devices.clear()
            about = {"host.name": device.split(".")[0], "hams.device": device, "service.instance.id": device}
            found = self._devices[device] = resource("hams-agent", about, named=False)
        return found

    def close(self, within: float = CLOSE_S) -> None:
        """Export what is queued, for `within` s; the rest is lost."""
        thread = threading.Thread(target=self._processor.shutdown, name="last spans", daemon=True)
        thread.start()
        thread.join(within)
        self._exporter.shutdown()  # one that waits to try again gives up
        thread.join(ABORT_S)


class _Remarked:
    """Another exporter, whose failures are logged now and then: a collector that is away does not fill the log."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._lost = self._failures = 0
        self._ended = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export; never raises."""
        why = "the collector does not take them"
        try:
            result = self._inner.export(spans)
        except Exception as error:
            why, result = f"{type(error).__name__}: {error}", SpanExportResult.FAILURE
        if result is SpanExportResult.FAILURE:
            self._failures += 1
            self._lost += len(spans)
            if self._failures & (self._failures - 1) == 0:  # 1, 2, 4, 8 …
                log.warning("traces: %d spans are lost so far: %s", self._lost, why)
        return result

    def shutdown(self) -> None:
        """End; also in the middle of an export."""
        if not self._ended:
            self._ended = True
            self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing waits here."""
        return True


# ── a trace as OpenTelemetry has it ───────────────────────────────────────────────────────────────────────────────────


def spans_of(trace: FrameTrace, resource_of: Callable[[str], Resource]) -> list[ReadableSpan]:
    """Return the spans of a frame; `resource_of` gives the resource of a device, and of the pipeline (no device)."""
    root = parse(trace.traceparent)
    assert root is not None
    contexts = [_context(root)]
    contexts += [
        _context(root._replace(span=span_id(f"{root.span}/{index}", root.trace)))
        for index in range(1, len(trace.spans))
    ]
    outside = parse(trace.parent)
    began = round(trace.began * 1e9)
    return [
        ReadableSpan(
            span.name,
            context=contexts[index],
            parent=contexts[span.parent] if span.parent is not None else _context(outside) if outside else None,
            resource=resource_of(span.device),
            attributes=_attributes(trace, span),
            links=[] if span.follows is None else [Link(contexts[span.follows])],
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
            start_time=began + round(span.start_ms * 1e6),
            end_time=began + round(span.end_ms * 1e6),
            instrumentation_scope=SCOPE,
        )
        for index, span in enumerate(trace.spans)
    ]


def _context(context: Context) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if context.sampled else TraceFlags.DEFAULT)
    return SpanContext(int(context.trace, 16), int(context.span, 16), is_remote=False, trace_flags=flags)


def _attributes(trace: FrameTrace, span: TraceSpan) -> dict[str, str | int | float | bool]:
    found: dict[str, str | int | float | bool] = {"hams.group": trace.group, "hams.stream": trace.stream}
    found["hams.frame"] = trace.frame
    if span.node:
        found["hams.node"] = span.node
    if span.device:
        found["hams.device"] = span.device
    if span.images is not None:
        found["hams.images"] = span.images
    if span.shifted_ms:
        found["hams.clock_shifted_ms"] = span.shifted_ms
    if span.parent is None:
        found |= {"hams.outcome": trace.outcome, "hams.epoch": trace.epoch, "hams.attempts": trace.attempts}
        found |= {"hams.objects": trace.objects, "hams.predicted": trace.predicted}
        if trace.reason:
            found["hams.reason"] = trace.reason
    return found
