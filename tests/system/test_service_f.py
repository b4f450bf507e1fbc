"""The main job, with real networks, a real video and real processes."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hams_shared.wire.results import check_result
from support.results import Subscriber
from support.up import Up, cores
from support.wait import until_sync

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

NODES = ["age", "emotion", "face", "gender", "iris", "landmarks"]
FRAMES = 120


@pytest.mark.smoke
def test_from_group_file_to_results(up: Up, lossless_face: Path, astronaut: Path, tmp_path: Path) -> None:
    """Everything a first user does, in one system (starting one takes a while)."""
    plans = json.loads(up.ctl("plan", lossless_face, "--strategy", "all", "--json"))
    assert {"default", "mfs", "hfs"} <= {p["strategy"] for p in plans}
    assert all(p["error"] is None and p["fps"] > 0 for p in plans), plans
    assert up.json("status")["groups"] == []  # nothing is deployed by asking

    with Subscriber(up.url, "face") as results:
        served = json.loads(up.ctl("deploy", lossless_face, "--json"))
        assert served["state"] == "serving"
        assert sorted(served["active"]["shares"]) == NODES
        stream = up.until_ended()
        assert (stream["state"], stream["delivered"]) == ("ended", FRAMES)
        results.until(FRAMES)
        assert results.frames == list(range(FRAMES))
        for result in results.received:
            check_result(result.data)
        found = [r for r in results.received if r.objects]
        assert len(found) >= FRAMES * 0.9  # one face in each frame
        one = found[0].objects[0]
        assert set(one) >= {"box", "score", *NODES} - {"face", "iris"}
        assert 0 <= one["age"]["value"] <= 100
        assert one["gender"]["label"] in ("female", "male")
        assert len(one["landmarks"]["points"]) == 468
        assert set(found[0].nodes) == set(NODES)

    matrix = up.json_when(lambda m: len(m["devices"]) == 2, "matrix")
    assert len(matrix["models"]) == 6
    assert matrix["devices"] == ["box.onnxruntime.cpu1", "box.openvino.cpu0"]
    assert [len(row) for row in matrix["fps"]] == [2] * 6
    assert set(matrix["hosts"].values()) == {"box"}
    assert matrix["cores"]["box"] > 0
    assert [len(row) for row in matrix["cpu_ms"]] == [2] * 6
    (tmp_path / "matrix.json").write_text(json.dumps(matrix))
    again = up.ctl("plan", "--instance", tmp_path / "matrix.json", "--strategy", "hfs", "--max-streams", 1, "--json")
    assert json.loads(again)[0]["max_streams"] >= 1
    tflite = [reason for pair, reason in matrix["reasons"].items() if "onnxruntime" in pair]
    assert len(tflite) == 3
    assert all("tflite" in reason.lower() for reason in tflite)
    rows = list(csv.reader(io.StringIO(up.ctl("matrix", "--csv"))))
    assert rows[0] == ["model", *matrix["devices"]]
    assert len(rows) == 7

    picture = tmp_path / "astronaut.png"
    answer = json.loads(up.ctl("infer", "face", astronaut, "--json", "--annotate", picture))
    [face] = answer["objects"]
    x0, y0, x1, y1 = face["box"]
    assert 150 < (x0 + x1) / 2 < 280  # her face is at about (222, 115)
    assert 60 < (y0 + y1) / 2 < 180
    assert face["gender"]["label"] == "female"
    left, right = face["landmarks"]["objects"]
    assert (left["label"], right["label"]) == ("left_eye", "right_eye")
    assert left["iris"]["points"][0] == pytest.approx([203.5, 101.2], abs=3)  # read off the photograph
    assert right["iris"]["points"][0] == pytest.approx([247.0, 103.2], abs=3)
    assert picture.stat().st_size > 10_000

    busy = up.json_when(lambda b: b["streams"] and not b["troubles"], "top")
    assert [d["device"] for d in busy["devices"]] == ["box.onnxruntime.cpu1", "box.openvino.cpu0"]
    assert busy["streams"][0]["delivered"] == FRAMES
    assert busy["troubles"] == []
    until_sync(lambda: "face/carphone" in up.ctl("top", "--once"), 30, "the stream in top")
    assert "no node nose" in up.ctl("tap", "face", "nose", code=5)
    assert "not deployed" in up.ctl("tap", "nobody", "face", code=5)
    argv = [sys.executable, "-m", "hams_services.ctl", "tap", "face", "age", "--json"]
    with subprocess.Popen(argv, env={**up.env, "HAMS_NATS_URL": up.url}, stdout=subprocess.PIPE, text=True) as tap:

        def tapped() -> bool:
            up.ctl("infer", "face", astronaut)
            return tap.poll() is not None

        until_sync(tapped, 60, "hams-ctl tap")
        assert tap.stdout is not None
        said = json.loads(tap.stdout.read())
    assert (said["node"], said["error"]) == ("age", None)
    assert 0 <= said["items"][0]["value"] <= 100
    assert "face" in up.ctl("status")
    assert "openvino.cpu0" in up.ctl("devices")
    assert "*" in up.ctl("matrix")

    deploy_again(up, lossless_face)
    up.until_ended()
    up.ctl("undeploy", "face")
    up.json_when(lambda s: s["groups"] == [] and s["streams"] == [], "status")
    assert "not deployed" in up.ctl("undeploy", "face", code=5)
    assert "not deployed" in up.ctl("infer", "face", astronaut, code=5)


def deploy_again(up: Up, group: Path) -> None:
    """Nothing is measured by a second deployment, but what was measured on a busy box."""

    def measured() -> list[str]:
        return re.findall(r"benchmark of (\S+)", (up.home / "logs" / "agent-openvino-CPU@0.log").read_text())

    before = measured()
    assert before
    up.ctl("deploy", group, "--strategy", "mfs")
    twice = set(measured()[len(before) :]) & set(before)
    log = (up.home / "logs" / "scheduler.log").read_text()
    assert twice <= set(re.findall(r"(\S+) is measured again on box\.openvino\.cpu0", log))


@pytest.mark.parametrize("number", [0, 1])
def test_kill_9_of_an_agent_loses_no_frame(up: Up, lossless_face: Path, number: int) -> None:
    device = cores()[number]
    with Subscriber(up.url, "face") as results:
        up.ctl("deploy", lossless_face)
        results.until(10)
        old = up.kill(device)
        stream = up.until_ended()
        assert up.pid_of(device) != old  # it was started again
        assert (stream["state"], stream["delivered"], stream["submitted"]) == ("ended", FRAMES, FRAMES), stream
        results.until(FRAMES)
        assert results.frames == list(range(FRAMES))


def test_a_device_that_stays_away_is_replaced(tmp_path: Path, lossless_face: Path) -> None:
    """Its agent belongs to nobody who would start it again."""
    first, second = cores()
    with Up(tmp_path / "home", first) as up:
        env = {**up.env, "HAMS_NATS_URL": up.url}
        agent = subprocess.Popen(
            [sys.executable, "-m", "hams_agents", "--device", second], env=env, stderr=subprocess.DEVNULL
        )
        try:
            alive = lambda: sum(d["state"] == "alive" for d in up.json("devices"))  # noqa: E731
            until_sync(lambda: alive() == 2, 60, "two devices")
            with Subscriber(up.url, "face") as results:
                served = json.loads(up.ctl("deploy", lossless_face, "--strategy", "round-robin", "--json"))
                assert len({d for shares in served["active"]["shares"].values() for d in shares}) == 2
                results.until(5)
                agent.send_signal(signal.SIGKILL)
                agent.wait(10)
                up.until_ended()
                results.until(FRAMES)
                assert results.frames == list(range(FRAMES))

            def moved(status: Any) -> bool:
                shares = status["groups"][0]["active"]["shares"].values()
                return {device for share in shares for device in share} == {"box.openvino.cpu0"}

            [group] = up.json_when(moved, "status")["groups"]
            assert group["active"]["epoch"] > served["active"]["epoch"]
            up.json_when(lambda devices: any(d["state"] == "lost" for d in devices), "devices")
        finally:
            agent.kill()
            agent.wait(10)


def test_kill_9_of_scheduler_and_broker_while_serving(up: Up, lossless_face: Path) -> None:
    with Subscriber(up.url, "face") as results:
        up.ctl("deploy", lossless_face)
        results.until(5)
        up.kill("hams_scheduler")
        results.until(25)  # serving goes on without it
        until_sync(lambda: "hams_scheduler" in " ".join(up.children()), 30, "scheduler is back")
        up.kill("nats-server")
        up.until_answering()
        stream = up.until_ended()
        # what the broker held in its hands when it died was in nobody's ledger as delivered to a subscriber
        assert stream["delivered"] == stream["submitted"] == FRAMES
        frames = results.frames  # read once: the last ones may still come
        assert frames == sorted(set(frames))


@pytest.mark.smoke
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_stops_everything_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with Up(tmp_path / "home", "emulated:examples/profiles/vpu.yaml") as up:
        children = up.children()
        assert len(children) == 5, children  # broker, scheduler, pipeline, optimizer, agent
        assert "already" in up.ctl("up", code=7)
        assert up.stop(number) == 0, up.output()
        for pid in children.values():
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        assert "Traceback" not in up.output() + up.logs()
        assert "hams-ctl up" in up.ctl("status", code=5)


def test_an_emulated_device_is_called_emulated(tmp_path: Path) -> None:
    with Up(tmp_path / "home", "emulated:examples/profiles/vpu.yaml") as up:
        assert "emulated" in up.ctl("devices")
        [device] = up.json("devices")
        assert device["record"]["emulated"] is True
