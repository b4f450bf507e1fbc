"""A real Prometheus reads a real system by our rules: alerts fire, and each panel of the dashboard has data."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml
from onnx import helper

from support.grafana import expressions
from support.grey import network, video
from support.nats_server import NatsServer
from support.networks import graph, write
from support.parts import Parts
from support.ports import free_port
from support.prometheus import Prometheus, program
from support.up import ROOT, cores
from support.wait import PATIENCE, until_sync

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


SPEED = {
    "HamsStreamStalled", "HamsGroupBelowTarget", "HamsPredictionOff", "HamsFramesDropped", "HamsReplacementsOften",
    "HamsLeaderChangesOften",
}  # fmt: skip
"""Alerts that a machine which others use may cause, where they fire at once."""


def detector(folder: Path) -> Path:
    """A network that finds one thing in the middle of bright pictures, and nothing in dark ones."""
    scale = np.array([0, 0, 1 / 128, 0, 0, 0, 0], np.float32).reshape(1, 1, 1, 7)
    found = np.array([0, 1, 0, 0.2, 0.2, 0.6, 0.9], np.float32).reshape(1, 1, 1, 7)
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Mul", ["mean", "scale"], ["score"]),
        helper.make_node("Add", ["score", "found"], ["y"]),
    ]
    return write(folder / "thing.onnx", graph(nodes, constants={"scale": scale, "found": found}))


def group_file(folder: Path) -> Path:
    """A group whose things come and go every few seconds, in a zone and beside a line."""
    size = {"size": [8, 8]}
    find = {"model": str(detector(folder)), "input": size, "task": {"type": "detection_output", "labels": {1: "thing"}}}
    light = {"model": str(network(folder)), "parent": "find", "input": size, "task": {"type": "regression"}}
    stream = {
        "source": str(video(folder)),
        "loop": True,
        "zones": {"yard": [[0, 0], [1, 0], [1, 1], [0, 1]]},
        "lines": {"door": [[0.5, 0], [0.5, 1]]},
    }
    spec = {
        "name": "grey",
        "target_fps": 20,
        "nodes": {"find": {**find, "track": {"confirm_hits": 1, "max_lost_s": 0.2}}, "light": light},
        "streams": {"s0": stream},
    }
    path = folder / "group.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


@contextmanager
def exporter(parts: Parts) -> Iterator[str]:
    """`hams-ctl metrics`; gives its address."""
    address = f"127.0.0.1:{free_port()}"
    argv = [sys.executable, "-m", "hams_services.ctl", "metrics", "--listen", address]
    process = subprocess.Popen(argv, env=parts.env, cwd=ROOT)
    try:
        yield address
    finally:
        process.terminate()
        process.wait(30)


def empty(prometheus: Prometheus) -> dict[str, str]:
    """The panels that have no data, or no number, with what they ask."""
    return {
        name: text
        for name, text in expressions().items()
        if not any(math.isfinite(value) for _, value in prometheus.query(text))
    }


def lost_from(prometheus: Prometheus, box: str) -> set[str]:
    """Which instances report a lost device of `box`."""
    alerts = prometheus.firing().get("HamsDeviceLost", [])
    return {labels["instance"] for labels in alerts if labels["device"].startswith(box)}


def test_a_system_is_seen_and_a_killed_agent_reported(tmp_path: Path, own_nats_server: NatsServer) -> None:
    program("prometheus")
    one, two = cores()
    with Parts(tmp_path / "home", own_nats_server.url) as parts, exporter(parts) as address:
        parts.start("scheduler")
        parts.start("pipeline")
        parts.start("agent-one", "--device", one, "--host", "box")
        parts.start("agent-two", "--device", two, "--host", "far")
        parts.until_devices(box="alive", far="alive")
        with Prometheus(tmp_path, address) as prometheus:
            parts.ctl("deploy", group_file(tmp_path))
            until_sync(lambda: not empty(prometheus), 60, "data of all panels")
            until_sync(lambda: prometheus.firing().keys() <= SPEED, 30, "a system without alerts")
            parts.end("agent-two", signal.SIGKILL)
            until_sync(lambda: lost_from(prometheus, "far."), 30, "the alert")
            assert lost_from(prometheus, "far.") == {address}
            assert prometheus.query('sum(hams_group_state{state="serving"})')
            parts.end("scheduler", signal.SIGKILL)
            until_sync(lambda: "HamsNoSchedulerLeader" in prometheus.firing(), 30, "no leader")
            own_nats_server.stop()
            until_sync(lambda: "HamsBrokerUnreachable" in prometheus.firing(), 30, "no broker")
            until_sync(lambda: "HamsNoSchedulerLeader" not in prometheus.firing(), 30, "the broker's alert only")
            own_nats_server.start()
            parts.start("scheduler-new")
            parts.start("agent-three", "--device", two, "--host", "far")
            until_sync(
                lambda: prometheus.firing().keys() <= {*SPEED, "HamsAgentRestartsOften"}, 60 * PATIENCE, "recovery"
            )
