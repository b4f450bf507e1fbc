"""Every part has another idea of the date, by hours; nothing that HAMS decides depends on it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from support.grey import group_file, video
from support.nats_server import NatsServer
from support.parts import Parts
from support.results import Subscriber
from support.skew import Skew
from support.wait import PATIENCE, until_sync

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

HOUR_S = 3600.0
SHORT_S = 60 * PATIENCE
"""What lasts less is not mistaken by hours."""


def device(folder: Path, name: str, fps: float) -> str:
    path = folder / f"{name}.yaml"
    profile = {"name": name, "kind": "vpu", "memory_mib": 512, "run": "openvino", "fps": {"*": fps}}
    path.write_text(yaml.safe_dump(profile))
    return f"emulated:{path}"


@pytest.fixture
def parts(tmp_path: Path, own_nats_server: NatsServer) -> Iterator[Parts]:
    """Broker and `hams-ctl` know the time; the pipeline is 3 h ahead, the agents 5 h behind and 7 h ahead."""
    skew = Skew(tmp_path)
    with Parts(tmp_path / "home", own_nats_server.url) as parts:
        parts.start("scheduler-behind", **skew.env(-2))
        until_sync(lambda: "leads, term" in parts.log("scheduler-behind"), 60, "the first leads")
        parts.start("scheduler-ahead", **skew.env(4))
        parts.start("pipeline", **skew.env(3))
        parts.start("agent-fast", "--device", device(tmp_path, "fast", 60), **skew.env(-5), HAMS_HOST="behind")
        parts.start("agent-slow", "--device", device(tmp_path, "slow", 15), **skew.env(7), HAMS_HOST="ahead")
        parts.until_devices(behind="alive", ahead="alive")
        yield parts


def test_clocks_hours_apart_change_nothing(parts: Parts, tmp_path: Path) -> None:
    with Subscriber(parts.url, "grey") as results:
        parts.ctl("deploy", group_file(tmp_path, video(tmp_path), mode="lossless", pace="max", loop=True))
        results.until(20)
        until_sync(lambda: results.received[-1].nodes["light"]["device"].startswith("behind."), 30, "it serves")

        # times in results are the pipeline's; durations are true
        for result in results.received[:20]:
            assert abs(result.captured - time.time() - 3 * HOUR_S) < HOUR_S / 2
            assert 0 < result.latency_ms < SHORT_S * 1000
        status = parts.json("status")
        [stream] = status["streams"]
        assert 0 < stream["p50_ms"] < SHORT_S * 1000
        assert 1 < stream["fps"] < 120
        assert all(0 <= d["silent_s"] < SHORT_S for d in status["devices"])
        assert abs(status["leader"]["since"] - time.time() + 2 * HOUR_S) < HOUR_S / 2
        shown = parts.ctl("status")
        assert "leads since" in shown
        assert "(0:" in shown.split("leads since")[1]  # minutes, not hours

        # the fast device is lost: found by silence, and replaced
        parts.end("agent-fast", signal.SIGKILL)
        until_sync(lambda: results.received[-1].nodes["light"]["device"].startswith("ahead."), 20, "re-placed")
        parts.until_devices(behind="lost", ahead="alive")

        # the leader is lost: the other waits for the lease to run out and no longer
        parts.end("scheduler-behind", signal.SIGKILL)
        term = status["leader"]["term"]
        leader = parts.json_when(lambda s: s["leader"] and s["leader"]["term"] > term, "status")["leader"]
        assert abs(leader["since"] - time.time() - 4 * HOUR_S) < HOUR_S / 2
        results.until(len(results.received) + 20)
        frames = results.frames  # read once: they go on coming
        assert frames == list(range(len(frames)))
        epochs = [int(r.data["epoch"]) for r in results.received]
        assert epochs == sorted(epochs)
        parts.check_ledger()

        # deployed again from a box whose clock is behind: it counts all the same
        before = parts.json("status")["groups"][0]
        parts.env |= Skew(tmp_path).env(-9)
        again = group_file(tmp_path, tmp_path / "grey.avi", mode="lossless", pace="max", loop=True)
        parts.ctl("deploy", again, "--strategy", "mfs")
        after = parts.json_when(lambda s: s["groups"][0]["state"] == "serving", "status")["groups"][0]
        assert after["deployed_at"] < before["deployed_at"]
        assert after["active"]["epoch"] > before["active"]["epoch"]
