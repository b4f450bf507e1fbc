"""Whatever a person or another program sends: a named error that says what is wrong, and everything goes on."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from hams_shared.bus.nats.client import NatsBus
from hams_shared.errors import HamsError
from hams_shared.wire import codec, subjects
from support.up import Up, cores
from support.wait import until_sync

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


def write(path: Path, group: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(group, sort_keys=False))
    return path


def changed(face: Path, path: Path, node: str, **changes: Any) -> Path:
    group = yaml.safe_load(face.read_text())
    group["name"] = "other"
    group["streams"] = {}
    group["nodes"][node].update(changes)
    return write(path, group)


def test_bad_files_and_messages_are_named_and_harm_nobody(
    up: Up, face_file: Path, astronaut: Path, tmp_path: Path
) -> None:
    up.ctl("deploy", face_file)
    pids = up.children()
    file = tmp_path / "group.yaml"

    # ── group files ──
    assert "cannot read" in up.ctl("deploy", tmp_path / "none.yaml", code=2)
    file.write_text("name: [unclosed")
    assert "not YAML" in up.ctl("deploy", file, code=2)
    file.write_text("- a\n- list\n")
    assert "a group file is a map" in up.ctl("deploy", file, code=2)
    bad = changed(face_file, file, "age", parent="nobody")
    assert "'nobody' is not a node" in up.ctl("deploy", bad, code=2)
    bad = changed(face_file, file, "age", sise=[1, 2])
    assert "sise: unknown key" in up.ctl("plan", bad, code=2)
    bad = changed(face_file, file, "age", task={"type": "expectashun"})
    assert "expectashun" in up.ctl("deploy", bad, code=8)
    bad = changed(face_file, file, "age", task={"type": "embedding", "gallery": {"threshold": 2}})
    assert "gallery.threshold" in up.ctl("deploy", bad, code=8)

    # ── networks ──
    corrupt = tmp_path / "corrupt.onnx"
    corrupt.write_bytes(b"\x08\x07garbage" * 100)
    bad = changed(face_file, file, "age", model=str(corrupt), sha256=None)
    assert "corrupt" in up.ctl("deploy", bad, code=3)
    truncated = tmp_path / "truncated.tflite"
    truncated.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(100))
    bad = changed(face_file, file, "emotion", model=str(truncated), sha256=None)
    assert "truncated" in up.ctl("deploy", bad, code=8)
    bad = changed(face_file, file, "age", sha256="0" * 64)
    assert "0000" in up.ctl("deploy", bad, code=3)
    bad = changed(face_file, file, "landmarks", input={"size": [100, 100], "layout": "nhwc"})
    message = up.ctl("deploy", bad, code=8)
    assert "192" in message, message
    up.ctl("undeploy", "other")

    # ── images ──
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    assert "not an image" in up.ctl("infer", "face", text, code=2)
    assert "cannot read" in up.ctl("infer", "face", tmp_path / "none.png", code=2)

    # ── streams ──
    group = yaml.safe_load(face_file.read_text())
    group["name"] = "video"
    short = tmp_path / "short.mp4"
    short.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(1000))
    group["streams"] = {"cut": {"source": str(short)}}
    up.deploy_says("stream video/cut failed: ", write(file, group), code=2)

    def state() -> tuple[str, str]:
        stream = up.stream("cut")
        return stream["state"], stream["text"]

    until_sync(lambda: state()[0] == "failed", 20, "the stream fails")
    assert "short.mp4 cannot be opened" in state()[1]
    up.ctl("undeploy", "video")

    # ── messages ──
    asyncio.run(garbage(up.url))

    assert up.children() == pids, "a process died\n" + up.logs()
    assert len(up.json("infer", "face", astronaut)["objects"]) == 1


async def garbage(url: str) -> None:
    """Random bytes, and msgpack that means nothing, on every subject and in every bucket."""
    rng = random.Random(7)
    devices = [f"box.{d}" for d in ("openvino.cpu0", "onnxruntime.cpu1")]
    targets = [
        *(s(d) for d in devices for s in (subjects.work, subjects.profile, subjects.heartbeat)),
        subjects.plan_request(),
        subjects.scheduler_view(),
        subjects.pipeline_status(),
        subjects.infer("face"),
        subjects.answer("face", "carphone"),
        subjects.outputs_wanted("face"),
        subjects.pipeline_load(),
        subjects.result("face", "carphone"),
    ]
    async with NatsBus(url) as bus:
        for subject in targets:
            for data in (b"", rng.randbytes(100), codec.pack({"id": 1}), codec.pack([[[]]]), b"\xdd\xff\xff\xff\xff"):
                await bus.publish(subject, data)
        for subject in (subjects.profile(devices[0]), subjects.plan_request(), subjects.infer("face")):
            answer: object
            try:
                answer = codec.unpack((await bus.request(subject, rng.randbytes(50), timeout=60)).data)
            except HamsError as error:
                answer = {"error": error.to_wire()}
            assert isinstance(answer, dict)
            assert answer["error"]["code"] == "bad-message", (subject, answer)
        for name in subjects.BUCKETS:
            kv = await bus.kv(subjects.bucket(name))
            await kv.put("box.garbage.x" if name == "devices" else "garbage", rng.randbytes(64))
            await kv.put("trash", codec.pack({"a": 1}))


def test_a_device_that_is_not_there_is_named_at_once(tmp_path: Path) -> None:
    up = Up(tmp_path / "home")
    up.home.mkdir()
    assert "CUDA" in up.ctl("up", "--port", "0", "--device", "onnxruntime:CUDA:0", code=2)
    assert "openvino" in up.ctl("up", "--port", "0", "--device", "openvin:CPU", code=2)
    assert "none.yaml" in up.ctl("up", "--port", "0", "--device", "emulated:none.yaml", code=2)


@pytest.mark.smoke
def test_without_a_broker_every_command_says_how_to_get_one(tmp_path: Path) -> None:
    up = Up(tmp_path / "home")
    up.home.mkdir()
    for command in (["status"], ["devices"], ["matrix"], ["undeploy", "x"], ["results", "x"]):
        assert "hams-ctl up" in up.ctl(*command, "--nats", "nats://127.0.0.1:1", code=5)
    assert cores()


def test_help_of_every_command() -> None:
    up = Up(Path("/nonexistent"))
    text = up.ctl("--help")
    for command in ("up", "demo", "deploy", "undeploy", "plan", "status", "devices", "matrix", "results", "infer"):
        assert command in text
        assert "--help" in up.ctl(command, "--help")
