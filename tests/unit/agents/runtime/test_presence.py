"""Whether a device is there, by its file; and the wait of the next life."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hams_agents.devices import DeviceSpec
from hams_agents.runtime import presence
from hams_agents.runtime.presence import Presence, back, device_file, until_there


def test_a_file_that_is_missing_twice_is_a_device_that_is_gone(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    assert Presence(str(stick)).gone() == ""  # it was never there
    stick.touch()
    there = Presence(str(stick))
    assert there.gone() == there.missing == ""
    stick.unlink()
    assert there.gone() == ""
    assert there.gone() == there.missing == f"{stick} disappeared"
    stick.touch()
    assert there.gone() == there.missing == ""
    assert Presence("").gone() == ""


async def test_the_next_life_waits_for_the_file(tmp_path: Path) -> None:
    stick, stop = tmp_path / "stick", asyncio.Event()
    async with asyncio.timeout(10):
        await until_there(tmp_path, "h.b.u", stop)  # no life was ended
    stick.touch()
    there = Presence(str(stick))
    there.note(tmp_path, "h.b.u")
    stick.unlink()
    waiting = asyncio.create_task(until_there(tmp_path, "h.b.u", stop))
    await asyncio.sleep(0)
    assert not waiting.done()
    stick.touch()
    async with asyncio.timeout(10):
        await waiting
    stick.unlink()
    async with asyncio.timeout(10):
        await until_there(tmp_path, "h.b.u", stop, longest_s=0.01)  # it may be back by another name
        stop.set()
        await until_there(tmp_path, "h.b.u", stop)
        back(tmp_path, "h.b.u")
        await until_there(tmp_path, "h.b.u", asyncio.Event())


@pytest.mark.parametrize(
    ("backend", "target", "file"),
    [
        ("onnxruntime", "CUDA:1", "/dev/nvidia1"),
        ("openvino", "NPU", "/dev/accel/accel0"),
        ("memryx", "NPU", "/dev/memx0"),
        ("memryx", "NPU:2", "/dev/memx2"),
        ("openvino", "CPU", ""),
        ("openvino", "GPU.1", ""),
    ],
)
def test_files_of_devices(monkeypatch: pytest.MonkeyPatch, backend: str, target: str, file: str) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(presence.os.path, "exists", lambda _: True)
    assert device_file(DeviceSpec(backend, target, "u")) == file
    monkeypatch.setattr(presence.os.path, "exists", lambda _: False)
    assert device_file(DeviceSpec(backend, target, "u")) == ""
