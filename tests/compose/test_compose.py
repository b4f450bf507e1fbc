"""`docker compose up` for real: Dockerfile and compose files as they are, real networks on a real video."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from compose.conftest import has
from compose.docker import ImpossibleError, Project, run
from hams_client import Hams
from hams_shared.bus.control import Control
from hams_shared.bus.nats.client import NatsBus
from hams_shared.runtime.credentials import load
from hams_shared.wire.messages.scheduler import DeviceView, GroupView
from support import grey
from support.preload import compiled
from support.up import ROOT
from support.wait import PATIENCE, until_sync

PARTS = ("nats", "scheduler", "pipeline", "agent-cpu", *(("web",) if has("web") else ()))
MINE = """\
name: mine
nodes:
  light:
    model: ../models/brightness.onnx
    input: {size: [8, 8]}
    task: {type: regression, unit: grey}
streams:
  door: {source: ../media/grey.avi, mode: lossless, loop: true}
"""
CAMERA = 201
"""Its number: no real one has it."""


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


async def test_a_group_a_network_and_a_video_of_the_users_own(box: Project, bus: NatsBus, site: Path) -> None:
    grey.network(site / "models")
    grey.video(site / "media")
    (site / "groups/mine.yaml").write_text(MINE)
    assert "group mine serves" in ctl(box, "deploy", "groups/mine.yaml")
    seen: set[int] = set()
    async with asyncio.timeout(60 * PATIENCE):
        async for result in Hams(bus).results("mine"):
            level = result.objects[0]["light"]["value"] / grey.STEP
            assert abs(level - round(level)) < 0.5
            seen.add(round(level))
            if len(seen) == grey.LENGTH:
                break
    assert seen == set(range(grey.LENGTH))
    ctl(box, "undeploy", "mine")


@pytest.mark.parametrize(
    ("file", "mode", "group", "text"),
    [
        ("models/brightness.onnx", 0o600, "groups/mine.yaml", r"node light: /opt/hams/models/brightness.onnx cannot be "
         r"read: Permission denied .* user 10001"),
        ("media/grey.avi", 0o600, "groups/mine.yaml", r"stream door: /opt/hams/media/grey.avi cannot be read: "
         r"Permission denied .*user 10001"),
        ("groups/mine.yaml", 0o644, "mine.yaml", r"mine.yaml does not exist \(this container sees the folders groups"),
    ],
    ids=["network", "video", "group"],
)  # fmt: skip
def test_files_that_a_container_cannot_read_are_named(
    box: Project, site: Path, file: str, mode: int, group: str, text: str
) -> None:
    before = stat.S_IMODE((site / file).stat().st_mode)
    (site / file).chmod(mode)
    try:
        with pytest.raises(ImpossibleError, match=text):
            ctl(box, "deploy", group)
    finally:
        (site / file).chmod(before)


async def test_the_demo_prints_results_and_frames_travel_by_shared_memory(box: Project, bus: NatsBus) -> None:
    box("--profile", "demo", "up", "--detach", "--no-build", "demo", timeout=240)
    await group_when(bus, lambda group: group.state == "serving", 180)
    seen = 0
    async with asyncio.timeout(180 * PATIENCE):
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
    async with asyncio.timeout(180 * PATIENCE):
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
    assert loaded[0] | {"device": "box.openvino.cpu", "group": "face", "node": "face"} == loaded[0]
    assert loaded[0]["epoch"] >= 1
    assert [line for line in lines if line["part"] == "scheduler" and line.get("group") == "face" and "epoch" in line]


def test_the_optimizer_takes_jobs(box: Project) -> None:
    box("--profile", "nco", "up", "--detach", "--no-build", "--wait", "--wait-timeout", "450", "optimizer")
    box("run", "--rm", "--no-deps", "ctl", "nco", "calibrate", "face", "--frames", "3")
    assert "done" in box("run", "--rm", "--no-deps", "ctl", "nco", "jobs")
    assert box.inside("optimizer", "ls /var/cache/hams/nco/face/frames").count(".png") == 3
    box.inside("optimizer", "python -c 'import matplotlib, nncf'")


def test_the_pipeline_opens_cameras_and_no_other_devices(box: Project) -> None:
    camera, other = Path(f"/dev/video{CAMERA}"), Path(f"/dev/video{CAMERA + 1}")
    opening = "python -c 'import os, sys; os.open(sys.argv[1], os.O_RDWR)' {} 2>&1 || true"
    try:
        for path, major in ((camera, 81), (other, 82)):
            os.mknod(path, 0o660 | stat.S_IFCHR, os.makedev(major, CAMERA))
            os.chown(path, 0, 44)
            path.chmod(0o660)
        assert "No such device" in box.inside(
            "pipeline", opening.format(camera)
        )  # permitted; only the driver is missing
        assert "Operation not permitted" in box.inside("pipeline", opening.format(other))
    finally:
        camera.unlink(missing_ok=True)
        other.unlink(missing_ok=True)


async def test_a_camera_that_is_plugged_in_while_containers_run(
    box: Project, bus: NatsBus, site: Path, tmp_path: Path
) -> None:
    """A small library in the pipeline's process plays the camera, from a file; mounts and rights are the real ones."""
    library = compiled(
        ROOT / "tests/support/video_device.c", site / "media", "CAMERAS IN CONTAINERS ARE NOT TESTED HERE"
    )
    fake = {"LD_PRELOAD": f"/opt/hams/media/{library.name}", "FAKE_VIDEO": "/dev"}
    (tmp_path / "fake.yml").write_text(json.dumps({"services": {"pipeline": {"environment": fake}}}))
    box.add(tmp_path / "fake.yml")
    box("up", "--detach", "--no-build", "--no-deps", "--wait", "--wait-timeout", "450", "pipeline")
    (site / "groups/mine.yaml").write_text(
        MINE.replace("../media/grey.avi, mode: lossless, loop: true", f"camera:{CAMERA}")
    )
    said = f"there is no /dev/video{CAMERA}"  # a deployment waits 10 s for it: too short on a slow machine
    until_sync(lambda: said in ctl(box, "deploy", "groups/mine.yaml"), 60, said)
    with camera():
        async with asyncio.timeout(60 * PATIENCE):
            async for result in Hams(bus).results("mine"):
                assert result.size == (642, 362)
                break
    ctl(box, "undeploy", "mine")  # face has its device for itself again


@contextmanager
def camera() -> Iterator[None]:
    """A camera at this machine, as support/video_device.c plays it."""
    device = Path(f"/dev/video{CAMERA}")
    device.write_text("capture 642 362 camera")
    device.chmod(0o666)
    try:
        yield
    finally:
        device.unlink()


def ctl(box: Project, *words: str) -> str:
    """What `docker compose run --rm ctl …` prints."""
    return box("run", "--rm", "--no-deps", "ctl", *words)


@pytest.mark.skipif(not has("gateway"), reason="NOT TESTED: there is no gateway yet")
def test_the_gateway_is_healthy_and_asks_for_a_token(
    box: Project, secrets: Path, address: tuple[str, str], ports: dict[str, str]
) -> None:
    tokens = secrets / "tokens.json"
    run(sys.executable, "-m", "hams_services.ctl", "token", "add", "someone", "--tokens", tokens)
    os.chown(tokens, 10001, 10001)
    up(box, "gateway", "gateway")
    with pytest.raises(HTTPError, match="401"):
        urlopen(f"http://{address[0]}:{ports['HTTP']}/v2/models/face", timeout=10)


@pytest.mark.skipif(not has("sinks.mqtt"), reason="NOT TESTED: there is no MQTT sink yet")
def test_the_mqtt_sink_is_healthy_while_it_has_both_brokers(
    box: Project, address: tuple[str, str], ports: dict[str, str], tmp_path: Path
) -> None:
    mosquitto = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if mosquitto is None:
        pytest.skip("MQTT IN CONTAINERS IS NOT TESTED HERE: needs mosquitto (apt install mosquitto)")
    (tmp_path / "conf").write_text(f"listener {ports['MQTT']} {address[0]}\nallow_anonymous true\n")
    with subprocess.Popen([mosquitto, "-c", str(tmp_path / "conf")], stderr=subprocess.DEVNULL) as broker:
        try:
            up(box, "mqtt", "mqtt")
        finally:
            broker.terminate()


def test_prometheus_reads_the_metrics(box: Project, address: tuple[str, str], ports: dict[str, str]) -> None:
    up(box, "monitoring", "metrics")
    assert "hams_device_up" in box.inside("metrics", "python -c '" + READ.format("127.0.0.1:9464/metrics") + "'")
    if not (ROOT / "deploy/prometheus/hams.rules.yml").exists():
        pytest.skip("PROMETHEUS IN CONTAINERS IS NOT TESTED HERE: there are no alert rules yet")
    up(box, "monitoring", "prometheus")
    api = f"http://{address[0]}:{ports['PROMETHEUS']}/api/v1"

    def scraped() -> bool:
        with urlopen(f"{api}/query?query=hams_device_up", timeout=10) as answer:
            return [one["value"][1] for one in json.load(answer)["data"]["result"]] == ["1"]

    until_sync(scraped, 60, "the metrics in Prometheus")
    with urlopen(f"{api}/rules", timeout=10) as answer:
        assert json.load(answer)["data"]["groups"]


READ = 'from urllib.request import urlopen; print(urlopen("http://{}").read().decode())'


def up(box: Project, profile: str, service: str) -> None:
    """Start an optional service, and wait until it is healthy."""
    box("--profile", profile, "up", "--detach", "--no-build", "--no-deps", "--wait", "--wait-timeout", "450", service)


async def test_a_killed_agents_nodes_move_to_the_second_box(box: Project, second_box: Project, bus: NatsBus) -> None:
    before = await group_when(bus, lambda group: bool(used(group)), 10)
    assert before.active is not None
    box("kill", "agent-cpu")
    after = await group_when(bus, lambda g: g.state == "serving" and used(g) == {"box2.openvino.cpu"}, 60)
    assert after.active is not None
    assert after.active.epoch > before.active.epoch
    async with asyncio.timeout(180 * PATIENCE):
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
