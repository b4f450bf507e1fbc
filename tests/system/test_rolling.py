"""Parts are replaced while a lossless stream plays, as docs/operations.md says. The devices are emulated."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from support.grey import LENGTH, group_file, video
from support.nats_server import NatsServer
from support.parts import Parts
from support.results import Subscriber
from support.up import Up
from support.wait import until_sync

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

LOAD_S = 5.0
"""How long the device takes to load the network: long enough to see who serves meanwhile."""


def device(folder: Path, **more: object) -> str:
    """The same kind of device on every host."""
    path = folder / "sim.yaml"
    profile = {"name": "sim", "kind": "vpu", "memory_mib": 512, "run": "openvino", "fps": {"*": 40.0}, **more}
    path.write_text(yaml.safe_dump(profile))
    return f"emulated:{path}"


@pytest.fixture
def parts(tmp_path: Path, own_nats_server: NatsServer) -> Iterator[Parts]:
    with Parts(tmp_path / "home", own_nats_server.url) as parts:
        parts.start("scheduler-old")
        parts.start("pipeline-old")
        yield parts


def check(up: Up, results: Subscriber) -> None:
    """Every frame once and in order; epochs only grow, each with one owner of the node; the ledger is conserved."""
    up.check_ledger()
    received = list(results.received)
    assert [r.frame for r in received] == list(range(len(received)))
    epochs = [int(r.data["epoch"]) for r in received]
    assert epochs == sorted(epochs)
    owners: dict[int, set[str]] = {}
    for result in received:
        owners.setdefault(int(result.data["epoch"]), set()).add(host(result))
    assert all(len(hosts) == 1 for hosts in owners.values()), owners


def host(result: object) -> str:
    return str(result.nodes["light"]["device"]).split(".")[0]  # type: ignore[attr-defined]


def test_a_new_agent_joins_and_the_old_one_drains(parts: Parts, tmp_path: Path) -> None:
    sim = device(tmp_path, load_ms=LOAD_S * 1e3)
    parts.start("agent-old", "--device", sim, HAMS_HOST="box1")
    parts.until_devices(box1="alive")
    with Subscriber(parts.url, "grey") as results:
        parts.ctl("deploy", group_file(tmp_path, video(tmp_path), mode="lossless", pace="max", loop=True))
        results.until(20)
        parts.start("agent-new", "--device", sim, HAMS_HOST="box1b")
        parts.until_devices(box1="alive", box1b="alive")
        results.until(len(results.received) + 20)
        assert parts.end("agent-old") == 0
        until_sync(lambda: host(results.received[-1]) == "box1b", 20, f"the new agent serves\n{parts.logs()}")
        results.until(len(results.received) + 20)
        parts.until_devices(box1b="alive")
        check(parts, results)


def test_a_live_stream_sees_no_pause_when_its_agent_is_stopped(parts: Parts, tmp_path: Path) -> None:
    sim = device(tmp_path, load_ms=LOAD_S * 1e3)
    for name in ("box1", "box1b"):
        parts.start(f"agent-{name}", "--device", sim, HAMS_HOST=name)
    parts.until_devices(box1="alive", box1b="alive")
    with Subscriber(parts.url, "grey") as results:
        parts.ctl("deploy", group_file(tmp_path, video(tmp_path), mode="live", loop=True))
        results.until(20)
        for _ in range(3):
            old = host(results.received[-1])
            seen = len(results.received)
            assert parts.end(f"agent-{old}") == 0
            until_sync(lambda old=old: host(results.received[-1]) != old, 20, "the other serves")  # type: ignore[misc]
            results.until(len(results.received) + 20)
            if "others serve now: grey" in parts.log(f"agent-{old}"):
                break
            parts.start(f"agent-{old}", "--device", sim, HAMS_HOST=old)  # no plan in time: this machine stalled
            parts.until_devices(box1="alive", box1b="alive")
        else:
            pytest.fail(f"never handed over\n{parts.logs()}")
        assert not parts.check_ledger()["failed"]
        times = [r.captured + r.latency_ms / 1e3 for r in results.received[seen - 1 :]]
        assert max(b - a for a, b in pairwise(times)) < LOAD_S  # the other loaded before the old one left


def test_an_agent_that_nobody_can_replace_ends_soon(parts: Parts, tmp_path: Path) -> None:
    sim = device(tmp_path)
    parts.start("agent-old", "--device", sim, HAMS_HOST="box1")
    parts.until_devices(box1="alive")
    with Subscriber(parts.url, "grey") as results:
        parts.ctl("deploy", group_file(tmp_path, video(tmp_path), mode="lossless", pace="max", loop=True))
        results.until(20)
        assert parts.end("agent-old") == 0
        assert "nobody takes over grey" in parts.log("agent-old")
        parts.start("agent-new", "--device", sim, HAMS_HOST="box1")  # the new version, in its place
        results.until(len(results.received) + 20)
        check(parts, results)


@pytest.mark.parametrize("name", ["agent", "scheduler", "pipeline"])
def test_a_part_whose_broker_is_gone_ends_in_good_order(tmp_path: Path, own_nats_server: NatsServer, name: str) -> None:
    with Parts(tmp_path / "home", own_nats_server.url) as parts:
        options = ("--device", device(tmp_path)) if name == "agent" else ()
        parts.start("scheduler-1")
        part = "scheduler-1" if name == "scheduler" else f"{name}-1"
        if name != "scheduler":
            parts.start(part, *options, HAMS_HOST="box1")
        parts.start("agent-2", "--device", device(tmp_path), HAMS_HOST="box2")
        parts.until_devices(**({"box1": "alive"} if name == "agent" else {}), box2="alive")
        own_nats_server.stop(kill=True)
        assert parts.end(part) == 0, parts.log(part)
        assert "Traceback" not in parts.log(part)
        own_nats_server.start()  # the others end as they do


def test_a_new_scheduler_joins_and_the_old_one_leaves(parts: Parts, tmp_path: Path) -> None:
    parts.start("agent-old", "--device", device(tmp_path), HAMS_HOST="box1")
    parts.until_devices(box1="alive")
    with Subscriber(parts.url, "grey") as results:
        parts.ctl("deploy", group_file(tmp_path, video(tmp_path), mode="lossless", pace="max", loop=True))
        results.until(20)
        before = parts.json("status")
        parts.start("scheduler-new")
        until_sync(lambda: "is ready" in parts.log("scheduler-new"), 60, "the new scheduler")
        assert parts.end("scheduler-old") == 0
        after = parts.json("status")
        assert after["leader"]["pid"] != before["leader"]["pid"]
        assert after["leader"]["term"] > before["leader"]["term"]
        assert after["groups"][0]["active"] == before["groups"][0]["active"]  # nothing was lost or made anew
        results.until(len(results.received) + 20)
        check(parts, results)


def test_a_pipeline_that_is_restarted_begins_files_anew(parts: Parts, tmp_path: Path) -> None:
    """What is truly lost: the frames under way; the file is played from its beginning."""
    parts.start("agent-old", "--device", device(tmp_path, fps={"*": 10.0}), HAMS_HOST="box1")
    parts.until_devices(box1="alive")
    with Subscriber(parts.url, "grey") as results:
        parts.ctl("deploy", group_file(tmp_path, video(tmp_path), mode="lossless", pace="max"), "--no-wait")
        results.until(LENGTH // 3)
        assert parts.end("pipeline-old", signal.SIGTERM) == 0
        parts.start("pipeline-new")
        until_sync(lambda: 0 in results.frames[1:], 60, "the file is played anew")
        old = results.frames.index(0, 1)
        assert old < LENGTH
        assert results.frames[:old] == list(range(old))  # whole up to there; the rest of this run never comes
        results.until(old + LENGTH)
        assert results.frames[old:] == list(range(LENGTH))
        stream = parts.until_ended()
        assert (stream["submitted"], stream["delivered"]) == (LENGTH, LENGTH)
        assert len({r.data["epoch"] for r in results.received}) == 1  # the plan stayed
