"""Traces and metrics of real processes at a collector, and `hams-ctl trace` without one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.otlp import Collector, otlp_collector, texts
from support.up import ROOT, Up, cores
from support.wait import PATIENCE, until_sync

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


def by_trace(collector: Collector) -> dict[bytes, list[tuple[dict[str, str], Any]]]:
    found: dict[bytes, list[tuple[dict[str, str], Any]]] = defaultdict(list)
    for about, span in list(collector.spans):
        found[span.trace_id].append((about, span))
    return found


def check_frame(spans: list[tuple[dict[str, str], Any]]) -> set[str]:
    """One root, each span within its parent; return the devices."""
    by_id = {span.span_id: span for _, span in spans}
    assert len(by_id) == len(spans)
    [root] = [span for _, span in spans if not span.parent_span_id]
    assert root.name == "frame"
    for _, span in spans:
        if span is not root:
            parent = by_id[span.parent_span_id]
            assert parent.start_time_unix_nano <= span.start_time_unix_nano
            assert span.end_time_unix_nano <= parent.end_time_unix_nano
    return {about["hams.device"] for about, _ in spans if about["service.name"] == "hams-agent"}


def pinned(group: Path, up: Up) -> Path:
    """The group with one of its networks on each device, however fast they are: what is TFLite, OpenVINO alone runs.

    Its video plays until it is paused: commands start meanwhile, which takes as long as the machine likes.
    """
    spec = yaml.safe_load(group.read_text())
    [other] = [one["record"]["device"] for one in up.json("devices") if "onnxruntime" in one["record"]["device"]]
    spec["nodes"]["face"]["pin"] = [other]
    spec["streams"] = {"cam": {**next(iter(spec["streams"].values())), "loop": True}}
    group.write_text(yaml.safe_dump(spec, sort_keys=False))
    return group


def test_frames_of_real_processes(lossless_face: Path, tmp_path: Path) -> None:
    with otlp_collector() as collector:
        up = Up(tmp_path / "home", *cores())
        up.env |= {"HAMS_TRACE": "0.25", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        with up:
            up.ctl("deploy", pinned(lossless_face, up))
            [shown] = [json.loads(line) for line in up.ctl("trace", "face", "--json").splitlines()]
            assert shown["outcome"] == "delivered"
            assert {one["device"] for one in shown["spans"]} > {""}
            chart = up.ctl("trace", "face")
            assert "* publish" in chart
            assert "infer" in chart
            until_sync(lambda: up.check_ledger()["delivered"] >= 120, 120, "enough frames")
            up.ctl("stream", "pause", "face", "cam")
            ended = up.until_ended()
            metrics(up, collector)
            begun = time.monotonic()
            assert up.stop() == 0
            assert time.monotonic() - begun < 60 * PATIENCE
        delivered = [spans for spans in by_trace(collector).values() if len(spans) > 1]
        sampled = {int(texts(span.attributes)["hams.frame"]) for _, span in collector.spans}
        assert 0.1 * ended["delivered"] <= len(sampled) <= 0.45 * ended["delivered"]
        assert len(delivered) == len(sampled)
        assert max(len(check_frame(spans)) for spans in delivered) == 2  # both agents, in one trace


def metrics(up: Up, collector: Collector) -> None:
    """`hams-ctl metrics --otlp` sends what it would serve, and ends at once."""
    env = {**up.env, "OTEL_METRIC_EXPORT_INTERVAL": "300"}
    argv = [sys.executable, "-m", "hams_services.ctl", "metrics", "--otlp"]
    sender = subprocess.Popen(argv, env=env, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        until_sync(lambda: any(m.name == "hams_up" for _, m in collector.metrics), 60, "metrics by OTLP")
        assert any("frames" in metric.name for _, metric in collector.metrics)
    finally:
        sender.send_signal(signal.SIGINT)
        begun = time.monotonic()
        _, said = sender.communicate(timeout=60 * PATIENCE)
    assert (sender.returncode, "Traceback" in said) == (0, False), said
    assert time.monotonic() - begun < 30 * PATIENCE


def test_a_collector_that_is_away_and_one_that_is_asked_for_in_vain(lossless_face: Path, tmp_path: Path) -> None:
    spec = yaml.safe_load(lossless_face.read_text())
    spec["nodes"] = {"face": spec["nodes"]["face"]}
    small = tmp_path / "small.yaml"
    small.write_text(yaml.safe_dump(spec))
    up = Up(tmp_path / "home", cores()[0])
    up.env |= {"HAMS_TRACE": "1", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with up:
        up.ctl("deploy", small)
        ended = up.until_ended()
        assert (ended["dropped"], ended["failed"]) == ({}, {})
        log = (up.home / "logs" / "pipeline.log").read_text()
        assert log.count("opentelemetry") + log.count("Transient") + log.count("spans are lost") < 20, log
    for value, named in (("often", "HAMS_TRACE is 'often'"), ("on", "OTEL_EXPORTER_OTLP_PROTOCOL")):
        env = {**up.env, "HAMS_TRACE": value, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
        done = subprocess.run(
            [sys.executable, "-m", "hams_services.pipeline"],
            env=env,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60 * PATIENCE,
        )
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert named in done.stderr
