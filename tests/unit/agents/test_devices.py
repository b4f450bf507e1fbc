from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hams_agents import devices
from hams_agents.devices import DeviceSpec, parse, pin
from hams_shared.errors import DeviceSpecError

CORES = frozenset(range(8))
PROFILE = "name: stick\nkind: vpu\nmemory_mib: 512\nfps: {'*': 20}\n"


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "allowed_cores", lambda: CORES)


@pytest.mark.parametrize(
    ("text", "target", "unit", "cores"),
    [
        ("openvino:CPU", "CPU", "cpu", ()),
        ("openvino:cpu@0", "CPU", "cpu0", (0,)),
        ("openvino:CPU@0-3", "CPU", "cpu0-3", (0, 1, 2, 3)),
        ("openvino:CPU@0,2", "CPU", "cpu0_2", (0, 2)),
        ("openvino:CPU@2,0,1,5", "CPU", "cpu0-2_5", (0, 1, 2, 5)),
        ("onnxruntime:CPU@1", "CPU", "cpu1", (1,)),
        ("onnxruntime:CUDA:0", "CUDA:0", "cuda0", ()),
        ("onnxruntime:CUDA", "CUDA:0", "cuda0", ()),
        ("onnxruntime:CUDA:1@2-3", "CUDA:1", "cuda1", (2, 3)),
        ("openvino:GPU", "GPU", "gpu", ()),
        ("openvino:GPU.1", "GPU.1", "gpu1", ()),
        ("OpenVINO:NPU", "NPU", "npu", ()),
    ],
)
def test_names_of_devices(text: str, target: str, unit: str, cores: tuple[int, ...]) -> None:
    spec = parse(text)
    assert (spec.target, spec.unit, spec.cores) == (target, unit, cores)
    assert parse(str(spec)) == spec
    assert re.fullmatch(r"[a-z0-9_-]+\.[a-z0-9_-]+\.[a-z0-9_-]+", spec.device_id("Box1.site.example"))


def test_device_id() -> None:
    assert parse("openvino:CPU@0").device_id("box1") == "box1.openvino.cpu0"


@pytest.mark.parametrize("path", ["stick.yaml", "at@home/stick.yaml"])
def test_emulated_device_takes_its_unit_from_the_profile(tmp_path: Path, path: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(exist_ok=True)
    file.write_text(PROFILE)
    assert parse(f"emulated:{file}") == DeviceSpec("emulated", str(file), "stick")
    assert parse(f"emulated:{file}@1").cores == (1,)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not BACKEND:TARGET (for example openvino:CPU@0"),
        ("openvino", "is not BACKEND:TARGET"),
        ("openvino:", "is not BACKEND:TARGET"),
        ("tensorrt:0", "no backend 'tensorrt' is installed (installed are openvino, onnxruntime, emulated"),
        ("openvino:TPU", "openvino has no unit 'TPU' (use CPU, GPU, GPU.1 or NPU)"),
        ("openvino:CUDA:0", "NVIDIA GPUs are onnxruntime:CUDA:0"),
        ("onnxruntime:GPU", "openvino:GPU"),
        ("openvino:AUTO", "name one unit"),
        ("openvino:CPU@", "'' is not a list of cores"),
        ("openvino:CPU@x", "'x' is not a list of cores (write @0, @0-3 or @0,2)"),
        ("openvino:CPU@3-1", "'3-1' is not a range"),
        ("openvino:CPU@0-99999", "is not a range"),
        ("openvino:CPU@6-9", "no core 8-9 for us here (this process may use core 0-7)"),
        ("emulated:/nowhere/stick.yaml", "no such file"),
    ],
)
def test_wrong_names_say_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(DeviceSpecError) as caught:
        parse(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_threads_follow_the_cores() -> None:
    assert parse("openvino:CPU@1-3").threads == 3
    assert parse("openvino:CPU").threads == 8


def test_pin_binds_the_process_and_the_threads_it_has() -> None:
    core = min(os.sched_getaffinity(0))
    code = (
        "import os, threading, time\n"
        "from hams_agents.devices import pin\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        f"pin([{core}])\n"
        f"assert all(os.sched_getaffinity(int(t)) == {{{core}}} for t in os.listdir('/proc/self/task'))\n"
        "assert len(os.listdir('/proc/self/task')) >= 2\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=_environment())


def test_pin_to_a_core_that_is_not_there() -> None:
    with pytest.raises(DeviceSpecError, match="cannot pin to cores 4095"):
        pin([4095])


def test_pin_to_nothing_changes_nothing() -> None:
    before = os.sched_getaffinity(0)
    pin(())
    assert os.sched_getaffinity(0) == before


def test_parsing_and_pinning_load_no_runtime() -> None:
    code = (
        "import sys\nfrom hams_agents.devices import parse, pin\nparse('openvino:CPU')\n"
        "assert not {'openvino', 'onnxruntime', 'onnx', 'cv2'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=_environment())


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
