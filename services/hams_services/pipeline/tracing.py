"""Turns traces on, if the environment asks for them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from hams_services.pipeline.traces import Tracing
from hams_shared.runtime.otel import needed
from hams_shared.wire.trace_context import VARIABLE, sampling_of

log = logging.getLogger("hams.pipeline")


@contextmanager
def tracing_of(environ: Mapping[str, str]) -> Iterator[Tracing | None]:
    """Yield what traces frames during the block; None: nothing does, as ever unless HAMS_TRACE turns it on.

    After the block it waits a moment for the last spans to be taken.

    Raises:
        BadInputError: a variable is not understood, or ``hams[otel]`` is not installed.
    """
    sampling = sampling_of(environ)
    if sampling is None:
        yield None
        return
    with needed(f"{VARIABLE}={environ[VARIABLE]}"):
        from hams_services.pipeline.span_export import SpanExport, exporter_of

        exporter = exporter_of(environ)
    if exporter is None:
        yield None
        return
    export = SpanExport(exporter)
    log.info("%g of the frames are traced", sampling.ratio)
    try:
        yield Tracing(sampling, export.export)
    finally:
        export.close()
