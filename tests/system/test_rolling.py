"""Parts are replaced by SIGTERM, as docs/operations.md says; what is decided then is in tests/world/test_rolling.py."""

from __future__ import annotations

import signal
from collections.abc import Iterator
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


def test_a_pipeline_that_is_restarted_goes_on_with_files(parts: Parts, tmp_path: Path) -> None:
    """Each frame once and in order: a stop is clean, and the file goes on where it was."""
    parts.start("agent-old", "--device", device(tmp_path, fps={"*": 10.0}), HAMS_HOST="box1")
    parts.until_devices(box1="alive")
    with Subscriber(parts.url, "grey") as results:
        parts.ctl("deploy", group_file(tmp_path, video(tmp_path), mode="lossless", pace="max"), "--no-wait")
        results.until(LENGTH // 3)
        assert parts.end("pipeline-old", signal.SIGTERM) == 0
        parts.start("pipeline-new")
        results.until(LENGTH)
        assert results.frames == list(range(LENGTH))
        parts.until_ended()
        assert len({r.data["epoch"] for r in results.received}) == 1  # the plan stayed
