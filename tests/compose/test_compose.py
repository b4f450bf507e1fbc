"""`docker compose up` for real: Dockerfile and compose files as they are, real networks on a real video."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from compose.docker import ImpossibleError, Project
from hams_client import Hams
from hams_services.ctl.control import Control
from hams_shared.bus.nats.client import NatsBus
from hams_shared.runtime.credentials import load
from hams_shared.wire.messages.scheduler import DeviceView, GroupView
from support.wait import PATIENCE, until_sync

PARTS = ("nats", "scheduler", "pipeline", "agent-cpu")


@pytest.fixture
async def bus(box: Project, address: tuple[str, str], secrets: Path) -> AsyncIterator[NatsBus]:
    async with NatsBus(f"nats://{address[0]}:{address[1]}", credentials=load(secrets / "admin.creds")) as connected:
        yield connected


async def group_when(bus: NatsBus, true: Callable[[GroupView], bool], timeout: float) -> GroupView:
    """The group's state once it is as wanted."""
    async with asyncio.timeout(timeout * PATIENCE):
        while True:
            view = await Control(bus).view()
            for group in view.groups:
                if true(group):
                    return group
            await asyncio.sleep(0.2)


async def device(bus: NatsBus, name: str) -> DeviceView:
    return next(d for d in (await Control(bus).view()).devices if d.record.device == name)


def used(group: GroupView) -> frozenset[str]:
    return group.active.devices if group.active else frozenset()


def test_every_part_is_healthy_not_root_and_cannot_write(box: Project) -> None:
    states = [json.loads(line) for line in box("ps", "--format", "json").splitlines()]
    assert sorted(state["Service"] for state in states) == sorted((*PARTS, "scheduler"))  # one of them stands by
    assert {state["Health"] for state in states} == {"healthy"}
    for part in ("pipeline", "agent-cpu"):
        assert box.inside(part, "id -u").strip() == "10001"
        with pytest.raises(ImpossibleError, match="Read-only"):
            box.inside(part, "touch /opt/hams/x")


async def test_the_demo_prints_results_and_frames_travel_by_shared_memory(box: Project, bus: NatsBus) -> None:
    box("--profile", "demo", "up", "--detach", "--no-build", "demo", timeout=240)
    await group_when(bus, lambda group: group.state == "serving", 180)
    seen = 0
    async with asyncio.timeout(180):
        async for result in Hams(bus).results("face"):
            seen += bool(result.objects)
            if seen == 20:
                break
    until_sync(lambda: "gender" in box("logs", "--no-log-prefix", "--tail", "5", "demo"), 60, "the demo's results")

    memory = {part: box.inside(part, "stat -c %d /dev/shm").strip() for part in ("pipeline", "agent-cpu")}
    assert memory["pipeline"] == memory["agent-cpu"]
    heartbeat = (await device(bus, "box.openvino.cpu")).heartbeat
    assert heartbeat is not None
    assert heartbeat.memory_domain.endswith(f".{memory['pipeline']}")
    assert segments(box)
    assert "inline" not in box("logs", "pipeline")


async def test_frames_travel_by_shared_memory_after_a_restart_of_the_pipeline(box: Project, bus: NatsBus) -> None:
    before = segments(box)
    box("restart", "pipeline")
    async with asyncio.timeout(180):
        async for _ in Hams(bus).results("face"):
            if segments(box) - before:
                break


def segments(box: Project) -> frozenset[str]:
    """Pools of frames that the agent has mapped."""
    maps = box.inside("agent-cpu", "cat /proc/1/maps").split()
    return frozenset(word for word in maps if word.startswith("/dev/shm/hams-frames-"))


def test_logs_are_json_lines_that_say_what_they_are_about(box: Project) -> None:
    lines = [json.loads(line) for line in box("logs", "--no-log-prefix", "agent-cpu", "scheduler").splitlines()]
    loaded = [line for line in lines if line["text"].startswith("loaded face/face")]
    assert loaded, lines
    assert loaded[0] | {"device": "box.openvino.cpu", "group": "face", "node": "face", "epoch": 1} == loaded[0]
    assert [line for line in lines if line["part"] == "scheduler" and line.get("group") == "face" and "epoch" in line]


def test_the_optimizer_takes_jobs(box: Project) -> None:
    box("--profile", "nco", "up", "--detach", "--no-build", "--wait", "--wait-timeout", "170", "optimizer")
    box("run", "--rm", "--no-deps", "ctl", "nco", "calibrate", "face", "--frames", "3")
    assert "done" in box("run", "--rm", "--no-deps", "ctl", "nco", "jobs")
    assert box.inside("optimizer", "ls /var/cache/hams/nco/face/frames").count(".png") == 3
    box.inside("optimizer", "python -c 'import matplotlib, nncf'")


async def test_a_killed_agents_nodes_move_to_the_second_box(box: Project, second_box: Project, bus: NatsBus) -> None:
    before = await group_when(bus, lambda group: bool(used(group)), 10)
    assert before.active is not None
    box("kill", "agent-cpu")
    after = await group_when(bus, lambda g: g.state == "serving" and used(g) == {"box2.openvino.cpu"}, 60)
    assert after.active is not None
    assert after.active.epoch > before.active.epoch
    async with asyncio.timeout(180):
        async for result in Hams(bus).results("face"):
            if result.data["epoch"] == after.active.epoch and result.objects:
                break
    [stream] = (await Control(bus).streams()).streams
    closed = stream.delivered + stream.gated + sum(stream.dropped.values()) + sum(stream.failed.values())
    assert stream.submitted == closed + stream.in_flight


def test_the_parts_drain_and_end_when_told_to(box: Project, second_box: Project) -> None:
    second_box("stop", timeout=180)
    box("stop", "pipeline", "scheduler", timeout=180)
    codes = {part: box.exit_codes(part) for part in ("pipeline", "scheduler")} | {
        "agent": second_box.exit_codes("agent-cpu")
    }
    assert codes == {part: {0} for part in ("pipeline", "scheduler", "agent")}
