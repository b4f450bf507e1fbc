from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from hams_agents.backends.base import Capabilities
from hams_agents.backends.emulated import Busy, EmulatedBackend, EmulatedNetwork, Faults, Pacer, burn
from hams_agents.backends.registry import open_backend
from hams_agents.device_record import device_record, fingerprint
from hams_agents.devices import parse
from hams_agents.emulated_faults import FailFault, HangFault
from hams_agents.emulation_profile import EmulationProfile, read_profile
from hams_shared.errors import DeviceSpecError, ModelError, UnsupportedModelError
from support.networks import images, means, model_file

PROFILE: dict[str, object] = {"name": "stick", "kind": "vpu", "memory_mib": 512, "fps": {"means": 100}}
EXAMPLES = Path(__file__).parents[4] / "examples" / "profiles"


def backend(folder: Path, **changes: object) -> EmulatedBackend:
    path = folder / "profile.yaml"
    path.write_text(yaml.safe_dump({**PROFILE, **changes}))
    opened = open_backend(parse(f"emulated:{path}"))
    assert isinstance(opened, EmulatedBackend)
    return opened


def test_it_is_called_emulated(tmp_path: Path) -> None:
    able = backend(tmp_path).capabilities
    assert able.emulated
    assert "emulated" in able.name
    assert (able.backend, able.unit, able.kind, able.memory_mib) == ("emulated", "stick", "vpu", 512)


def test_a_fault_is_shown_and_changes_no_measurement(tmp_path: Path) -> None:
    sound = backend(tmp_path).capabilities
    fault = tmp_path / "fault"
    ill = backend(tmp_path, hang={"after": 2, "while_exists": str(fault)})
    assert "made to hang" in ill.capabilities.name
    assert ill.capabilities.variant == sound.variant
    network = ill.load(model_file(means(tmp_path)))
    for _ in range(3):
        network.infer(images(1))  # the file is not there
    assert not HangFault(models=("other",)).hangs("model", 10)
    assert [HangFault(after=2).hangs("model", done) for done in (1, 2)] == [False, True]
    fault.touch()
    assert HangFault(while_exists=fault).hangs("model", 0)


@pytest.mark.parametrize(
    ("fault", "failing"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"after": 5}, [5, 6, 7]),
        ({"rate": 0.5}, [1, 3, 5, 7]),
        ({"rate": 0.25, "after": 2}, [5]),
        ({"from_s": 11}, []),
        ({"models": ["other"]}, []),
        ({"while_exists": "/nowhere"}, []),
    ],
)
def test_when_inferences_fail(fault: dict[str, object], failing: list[int]) -> None:
    assert [n for n in range(8) if FailFault.model_validate(fault).strikes("means", n, age_s=10.0)] == failing


def test_inferences_fail_fast_or_slowly_and_give_nan(tmp_path: Path) -> None:
    fault = tmp_path / "fault"
    fault.touch()
    clock = Clock()

    def network(**faults: dict[str, object]) -> EmulatedNetwork:
        path = tmp_path / "profile.yaml"
        path.write_text(yaml.safe_dump({**PROFILE, "run": "openvino", "fps": {"*": 10}, **faults}))
        opened = EmulatedBackend(parse(f"emulated:{path}"), open_backend, None, clock, clock.sleep)
        assert opened.capabilities.name == f"emulated VPU (made to {'give NaN' if 'nan' in faults else 'fail'})"
        return opened.load(model_file(means(tmp_path)))

    for fast, took in ((True, 0.0), (False, 0.1)):
        ill = network(fail={"text": "CL_DEVICE_LOST", "fast": fast, "while_exists": str(fault)})
        began = clock.now
        with pytest.raises(ModelError, match="model .* failed: CL_DEVICE_LOST"):
            ill.infer(images(1))
        assert clock.now - began == pytest.approx(took)
    ill = network(nan={"rate": 0.5})
    assert [bool(np.isnan(ill.infer(images(1))["y"]).all()) for _ in range(4)] == [False, True, False, True]


def test_a_device_is_there_while_its_file_exists(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    with pytest.raises(DeviceSpecError, match="is not there: no .*/stick"):
        backend(tmp_path, device_file=str(stick))
    stick.touch()
    opened = backend(tmp_path, device_file=str(stick))
    network = opened.load(model_file(means(tmp_path)))
    network.infer(images(1))
    stick.unlink()
    with pytest.raises(ModelError, match="the device is gone"):
        network.infer(images(1))
    with pytest.raises(ModelError, match="the device is gone"):
        opened.load(model_file(means(tmp_path)))


@pytest.mark.parametrize("at", ["load", "inference"])
def test_a_driver_ends_the_process(tmp_path: Path, at: str) -> None:
    profile = stated(abort={"at": at, "signal": "SIGKILL", "models": ["means"], "after": 0})
    faults = Faults(profile, Clock())
    child = os.fork()
    if not child:  # only what ends it runs there
        faults.load("means") if at == "load" else faults.inference("means", 0)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert faults.inference("other", 0) is None


@pytest.mark.parametrize("run", ["openvino", "onnxruntime"])
def test_real_outputs_at_the_stated_speed(tmp_path: Path, run: str) -> None:
    network = backend(tmp_path, run=run).load(model_file(means(tmp_path)))
    pictures = images(3)
    start = time.perf_counter()
    for _ in range(10):
        outputs = network.infer(pictures)
    taken = time.perf_counter() - start
    np.testing.assert_allclose(outputs["y"][:, :, 0, 0], pictures.mean((2, 3)), rtol=1e-5)
    assert taken > 0.9 * 30 / 100  # it may only be slower, where the machine is busy


def test_zeros_of_the_right_shapes(tmp_path: Path) -> None:
    network = backend(tmp_path, run="none").load(model_file(means(tmp_path)))
    for count in (0, 1, 3):
        outputs = network.infer(images(count))
        assert outputs["y"].shape == (count, 3, 1, 1)
        assert not outputs["y"].any()
    with pytest.raises(ModelError, match="another shape"):
        network.infer(np.zeros((1, 3, 4, 4), np.float32))
    network.close()
    with pytest.raises(ModelError, match="closed"):
        network.infer(images(1))


def test_a_network_slower_than_stated_is_not_hurried(tmp_path: Path) -> None:
    slept: list[float] = []
    now = iter(range(100))
    pacer = Pacer(lambda: float(next(now)), slept.append)
    with pacer.at_least(0.5):  # one second passes on this clock
        pass
    assert slept == []


def test_an_overslept_sleep_is_made_up_for() -> None:
    clock = Clock(late=0.0005)
    pacer = Pacer(clock, clock.sleep)
    for _ in range(1000):
        with pacer.at_least(0.002):
            pass
    assert clock.now == pytest.approx(2.0, rel=0.001)


class Clock:
    """Time that passes by sleeping only."""

    def __init__(self, late: float = 0.0) -> None:
        self.now = 0.0
        self._late = late

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds + self._late


def test_speeds_by_name_by_digest_and_for_all_others(tmp_path: Path) -> None:
    model = model_file(means(tmp_path))
    profile = backend(tmp_path, fps={"means": 1, model.digest[:10]: 2, "*": 3})._profile
    assert profile.fps_of(model.name, model.digest) == 1
    assert profile.fps_of("else", model.digest) == 2
    assert profile.fps_of("else", "f" * 64) == 3


def test_a_model_without_a_speed_is_unsupported(tmp_path: Path) -> None:
    opened = backend(tmp_path, fps={"other": 5})
    with pytest.raises(UnsupportedModelError, match="has no speed for it"):
        opened.load(model_file(means(tmp_path)))


def test_a_block_lasts_half_of_its_time_whatever_was_overslept() -> None:
    clock = Clock(late=0.05)
    pacer = Pacer(clock, clock.sleep)
    for block in range(10):
        with pacer.at_least(0.002):
            pass
        assert clock.now == pytest.approx(0.002 + 0.05 + block * (0.001 + 0.05))


def stated(**changes: object) -> EmulationProfile:
    return EmulationProfile.model_validate({**PROFILE, **changes})


@pytest.mark.parametrize(
    ("changes", "images", "busy", "service_s"),
    [
        ({}, 1, 1, 0.1),
        ({}, 3, 1, 0.3),  # no curve: one by one
        ({}, 0, 1, 0.0),
        ({"lanes": 4}, 1, 1, 0.4),  # so that four lanes give 10 images/s
        ({"lanes": 4}, 1, 4, 0.4),
        ({"lanes": 4, "alone": 0.5}, 1, 1, 0.2),
        ({"lanes": 4, "alone": 0.5}, 1, 2, 0.4 * (0.5 + 0.5 / 3)),
        ({"lanes": 4, "alone": 0.5}, 1, 4, 0.4),
        ({"lanes": 4, "alone": 0.5}, 1, 9, 0.4),
        ({"batch": {4: 2.5, 8: 4.2}}, 1, 1, 0.1),
        ({"batch": {4: 2.5, 8: 4.2}}, 2, 1, 0.15),
        ({"batch": {4: 2.5, 8: 4.2}}, 4, 1, 0.25),
        ({"batch": {4: 2.5, 8: 4.2}}, 6, 1, 0.335),
        ({"batch": {4: 2.5, 8: 4.2}}, 8, 1, 0.42),
        ({"batch": {4: 2.5, 8: 4.2}}, 12, 1, 0.67),  # 8 and 4
        ({"batch": {4: 2.5, 8: 4.2}}, 16, 1, 0.84),
    ],
)
def test_the_time_of_an_inference(changes: dict[str, object], images: int, busy: int, service_s: float) -> None:
    assert stated(**changes).service_s(10.0, images, busy) == pytest.approx(service_s)


def test_lanes_and_batches_are_the_devices_own(tmp_path: Path) -> None:
    model = model_file(means(tmp_path))
    plain, able = backend(tmp_path), backend(tmp_path, lanes=4, batch={8: 4})
    assert (plain.capabilities.lanes, able.capabilities.lanes) == (1, 4)
    assert not plain.load(model).dynamic_batch
    assert able.load(model).dynamic_batch


def test_inferences_side_by_side_take_the_time_of_busy_lanes(tmp_path: Path) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text(yaml.safe_dump({**PROFILE, "fps": {"*": 10}, "lanes": 2, "alone": 0.5}))
    clock = Clock()
    opened = EmulatedBackend(parse(f"emulated:{path}"), open_backend, None, clock, clock.sleep)
    network = opened.load(model_file(means(tmp_path)))
    network.infer(images(1))
    assert clock.now == pytest.approx(0.1)
    with opened._busy.one_more():  # the other lane
        network.infer(images(1))
    assert clock.now == pytest.approx(0.1 + 0.2)


def test_busy_lanes_are_counted_also_when_one_fails() -> None:
    busy = Busy()
    with pytest.raises(ZeroDivisionError), busy.one_more() as first, busy.one_more() as second:
        assert (first, second) == (1, 2)
        raise ZeroDivisionError
    with busy.one_more() as lanes:
        assert lanes == 1


def test_cpu_time_of_a_driver_is_taken() -> None:
    before = time.thread_time()
    burn(0.02)
    assert time.thread_time() - before >= 0.02
    burn(0.0, clock=lambda: pytest.fail("it needs no clock"))


def test_power_is_advertised_and_changes_no_measurement(tmp_path: Path) -> None:
    record = device_record(backend(tmp_path, power_w={"idle": 0.5, "busy": 2.5}), "box")
    assert (record.idle_w, record.busy_w) == (0.5, 2.5)
    unknown = device_record(backend(tmp_path), "box")
    assert (unknown.idle_w, unknown.busy_w) == (0.0, 0.0)
    assert unknown.fingerprint == record.fingerprint


def test_devices_of_one_speed_are_measured_once(tmp_path: Path) -> None:
    first = fingerprint(backend(tmp_path, name="vpu0").capabilities)
    assert fingerprint(backend(tmp_path, name="vpu1").capabilities) == first
    assert fingerprint(backend(tmp_path, name="vpu1", lanes=2).capabilities) != first


def test_loading_takes_the_stated_time(tmp_path: Path) -> None:
    opened = backend(tmp_path, load_ms=400)
    start = time.perf_counter()
    network = opened.load(model_file(means(tmp_path)))
    assert time.perf_counter() - start >= 0.4
    assert network.load_ms >= 400


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "file: Input should be"),
        ("- 1", "file: Input should be"),
        ("name: [", "not YAML"),
        ("name: Stick 1", "name: String should match"),
        ("{name: s, kind: tpu, memory_mib: 1, fps: {'*': 1}}", "kind: Input should be 'cpu', 'gpu', 'npu' or 'vpu'"),
        ("{name: s, kind: vpu, memory_mib: 0, fps: {'*': 1}}", "memory_mib: Input should be greater than 0"),
        ("{name: s, kind: vpu, memory_mib: 1, fps: {}}", "fps: Dictionary should have at least 1 item"),
        ("{name: s, kind: vpu, memory_mib: 1, fps: {'*': -1}}", "fps.*: Input should be greater than 0"),
        ("{name: s, kind: vpu, memory_mib: 1, fps: {'*': .inf}}", "fps.*: Input should be a finite number"),
        ("{name: s, kind: vpu, memory_mib: 1, fps: {'*': 1}, speed: 3}", "speed: Extra inputs"),
        ("{name: s, kind: vpu, memory_mib: 1, fps: {'*': 1}, lanes: 0}", "lanes: Input should be greater than"),
        (
            "{name: s, kind: vpu, memory_mib: 1, fps: {'*': 1}, batch: {4: 0.5}}",
            "batch: the time of 1 image is 1",
        ),
        ("{name: s, kind: vpu, memory_mib: 1, fps: {'*': 1}, batch: {1: 2}}", "batch: the time of 1 image is 1"),
        ("{name: s, kind: vpu, memory_mib: 1, fps: {'*': 1}, power_w: {idle: 1}}", "power_w.busy: Field required"),
        ("\x00", "not YAML"),
    ],
)
def test_a_wrong_profile_says_where(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text(content)
    with pytest.raises(DeviceSpecError) as caught:
        read_profile(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["vpu.yaml", "gpu.yaml"])
def test_the_example_profiles(name: str) -> None:
    profile = read_profile(EXAMPLES / name)
    assert "constructed" in profile.note
    assert profile.fps["detector"] == {"vpu.yaml": 3.02, "gpu.yaml": 5.64}[name]


ABLE = Capabilities("openvino", "cpu0", "cpu", "A CPU", (0,), 100, ("fp32", "bf16"), "openvino 1", threads=1)


@pytest.mark.parametrize(
    "change",
    [{"unit": "cpu1"}, {"cores": (1,)}, {"memory_mib": 7}, {"runtime": "openvino 2"}, {"precisions": ("fp32",)}],
)
def test_like_devices_have_one_fingerprint(change: dict[str, object]) -> None:
    assert fingerprint(replace(ABLE, **change)) == fingerprint(ABLE)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [{"backend": "onnxruntime"}, {"name": "B CPU"}, {"threads": 2}, {"precisions": ("bf16",)}, {"variant": "x"}],
)
def test_unlike_devices_have_unlike_fingerprints(change: dict[str, object]) -> None:
    assert fingerprint(replace(ABLE, **change)) != fingerprint(ABLE)  # type: ignore[arg-type]


def test_fingerprint_is_the_same_in_every_process() -> None:
    assert fingerprint(ABLE) == fingerprint(replace(ABLE))
    assert len(fingerprint(ABLE)) == 16


def test_a_changed_profile_is_another_device(tmp_path: Path) -> None:
    first = fingerprint(backend(tmp_path, note="a").capabilities)
    assert fingerprint(backend(tmp_path, note="b").capabilities) == first
    assert fingerprint(backend(tmp_path, fps={"means": 101}).capabilities) != first
