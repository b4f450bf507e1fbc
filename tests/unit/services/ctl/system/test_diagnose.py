"""What `hams-ctl diagnose` packs: all there is, what is missing, and no secret."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hams_services.ctl.system.diagnose import BUCKETS, diagnose
from hams_services.ctl.system.masking import Mask, secrets_of
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.memory.server import MemoryServer
from hams_shared.bus.protocol import Bus
from hams_shared.errors import BadInputError, BrokerError
from hams_shared.wire import codec, subjects

PASSWORD = "p@ss/W1#x"
SOURCE = f"rtsp://admin:{PASSWORD}@cam.example/live?token=t0kenValue"
SUBSTREAM = "rtsp://admin:s#b/Stream@9@cam.example/small"
SEED = "SU" + "A" * 56


class Silent:
    """Progress that nobody sees."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def __call__(self, what: str, done: int, total: int, detail: str = "") -> None:
        self.steps.append(what)

    def end(self, what: str) -> None:
        pass


async def devices() -> dict[str, Any]:
    return {"devices": ["openvino:CPU"]}


def packed(file: Path) -> dict[str, str]:
    with tarfile.open(file) as tar:
        return {
            member.name.removeprefix("hams-diagnose/"): stream.read().decode()
            for member in tar
            if (stream := tar.extractfile(member)) is not None
        }


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HAMS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HAMS_NATS_URL", "nats://me:brokerPassword@127.0.0.1:1")
    (tmp_path / "home" / "logs").mkdir(parents=True)
    return tmp_path / "home"


async def test_what_there_is_without_secrets(home: Path, tmp_path: Path) -> None:
    (home / "logs" / "pipeline.log").write_text(
        f"cannot open {SOURCE}: 401\nnor with s#b/Stream@9\nthe password is {PASSWORD}, seed {SEED}\n"
        "Authorization: Basic YWRtaW4=\n"
        "GET http://cam/x?pwd=other2 failed\npassword=hunter22\nan ordinary line\n"
    )
    (home / "logs" / "agent.log").write_bytes(b"old\n" * (1 << 19) + b"the last line\xff\n")
    (home / "secrets.creds").write_text(SEED)
    progress = Silent()
    async with InMemoryBus(MemoryServer()) as bus:
        groups = await bus.kv(subjects.bucket("groups"))
        await groups.put(
            "face", codec.pack({"spec": {"streams": {"s": {"source": SOURCE, "substream": SUBSTREAM, "mode": "live"}}}})
        )
        found = await diagnose(tmp_path / "d.tar.gz", lambda: ready(bus), devices, progress)
    files = packed(tmp_path / "d.tar.gz")
    everything = "\n".join(files.values())
    for secret in (
        PASSWORD,
        "ss/W1",
        "t0kenValue",
        "other2",
        "hunter22",
        SEED,
        "YWRtaW4=",
        "brokerPassword",
        "Stream@9",
    ):
        assert secret not in everything, secret
    assert "an ordinary line" in files["logs/pipeline.log"]
    assert "cam.example/live" in files["kv-groups.json"]
    assert "cam.example/small" in files["kv-groups.json"]
    assert json.loads(files["kv-groups.json"])["face"]["spec"]["streams"]["s"]["mode"] == "live"
    assert files["logs/agent.log"].endswith("the last line\ufffd\n")
    assert len(files["logs/agent.log"]) <= 1 << 20
    assert {f"kv-{name}.json" for name in BUCKETS} <= files.keys()
    assert json.loads(files["about.json"])["packages"]["numpy"]
    assert json.loads(files["host-devices.json"]) == {"devices": ["openvino:CPU"]}
    assert "scheduler: no scheduler is running" in files["missing.txt"]
    assert files["missing.txt"].count("\n") == len(found.missing)
    assert (tmp_path / "d.tar.gz").stat().st_mode & 0o077 == 0
    assert "ask the parts" in progress.steps


async def ready(bus: Bus) -> Bus:
    return bus


async def test_without_a_broker(home: Path, tmp_path: Path) -> None:
    (home / "logs" / "scheduler.log").write_text("why it ended\n")

    async def nobody() -> Bus:
        raise BrokerError("no broker at 127.0.0.1:1")

    await diagnose(tmp_path / "d.tar.gz", nobody, devices, Silent())
    files = packed(tmp_path / "d.tar.gz")
    assert files["logs/scheduler.log"] == "why it ended\n"
    assert files["missing.txt"] == "the data of the broker and the parts: no broker at 127.0.0.1:1\n"
    assert set(files) == {"about.json", "host-devices.json", "logs/scheduler.log", "missing.txt"}
    with pytest.raises(BadInputError, match="exists"):
        await diagnose(tmp_path / "d.tar.gz", nobody, devices, Silent())
    with pytest.raises(BadInputError, match="its folder does not exist"):
        await diagnose(tmp_path / "no" / "d.tar.gz", nobody, devices, Silent())
    assert sorted(os.listdir(tmp_path)) == ["d.tar.gz", "home"]


async def test_secrets_of_the_environment(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "HAMS_SECRET_DOOR": "door/pass",
        "HAMS_MQTT_PASSWORD": "hunter2",
        "HAMS_WEBHOOK_SECRET": "whsec_abc",
        "HAMS_NOTIFY_URL": "ntfys://my-topic",
        "HAMS_MQTT_URL": "mqtts://me:mqttPass@box:8883",
    }
    for name, value in (secrets | {"HAMS_MQTT_USER": "broker", "HAMS_TRACE": "on", "HAMS_LOG": ""}).items():
        monkeypatch.setenv(name, value)
    log = home / "logs" / "pipeline.log"
    log.write_text("the broker is at box; rtsp://cam refused door/pass, door%2Fpass; mqttPass, whsec_abc")

    async def nobody() -> Bus:
        raise BrokerError("no broker at 127.0.0.1:1")

    await diagnose(tmp_path / "d.tar.gz", nobody, devices, Silent())
    files = packed(tmp_path / "d.tar.gz")
    everything = "\n".join(files.values())
    for secret in (*secrets.values(), "door%2Fpass", "mqttPass", "brokerPassword"):
        assert secret not in everything, secret
    said = json.loads(files["about.json"])["environment"]
    assert {name: said[name] for name in secrets} == dict.fromkeys(secrets, "set")
    assert said["HAMS_NATS_URL"] == "nats://127.0.0.1:1"
    assert (said["HAMS_TRACE"], said["HAMS_LOG"], said["HAMS_MQTT_USER"]) == ("on", "", "set")
    assert "the broker is at box" in files["logs/pipeline.log"]


def test_masking_leaves_the_rest() -> None:
    mask = Mask(secrets_of("rtsp://u:longsecret@h/x"))
    text = "group face: 3 of 4 streams at http://box1:8088/live, longsecret, tokens 12, device box.openvino.cpu0"
    assert mask.text(text) == text.replace("longsecret", "***")
    assert mask.value({"a": [1, 2.5, None, True, b"xx"]}) == {"a": [1, 2.5, None, True, "2 bytes"]}
    assert secrets_of("rtsp://u:abc@h/x") == set()  # would hide ordinary words
    assert secrets_of("clip.mp4") == set()
