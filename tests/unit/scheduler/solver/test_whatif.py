from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hams_scheduler.offline import answers, read
from hams_scheduler.solver import instance_json
from hams_scheduler.solver.instance import Instance, InvalidInstanceError
from hams_scheduler.solver.strategies.registry import names, solve
from hams_scheduler.solver.whatif import apply, max_streams
from hams_shared.errors import BadInputError, InfeasibleError

EXAMPLES = Path(__file__).parents[4] / "examples"
SLIDES = EXAMPLES / "instances" / "slides-service-f.json"


def small() -> Instance:
    return instance_json.read(
        {
            "models": ["det", "age"],
            "devices": ["cpu", "gpu"],
            "fps": [[10, 20], [100, 50]],
            "capacity_mib": [100, 200],
            "memory_mib": [10, 20],
            "pins": {"det": ["gpu"]},
        }
    )


def test_a_twin_has_the_speeds_and_memory_of_its_model() -> None:
    more = apply(small(), "add:gpu")
    assert more.devices == ("cpu", "gpu", "gpu-2")
    np.testing.assert_array_equal(more.fps[:, 2], [20, 50])
    assert more.capacity_mib[2] == 200
    assert apply(more, "add:gpu").devices[-1] == "gpu-3"


def test_the_end_of_an_id_names_a_device() -> None:
    """As in a saved matrix of a running system, where ids have the host's and the runtime's name."""
    real = small().replace(devices=("box.openvino.cpu", "box.openvino.gpu"), pins={})
    assert apply(real, "add:gpu").devices[-1] == "box.openvino.gpu-2"
    assert apply(real, "remove:openvino.cpu").devices == ("box.openvino.gpu",)
    np.testing.assert_array_equal(apply(real, "scale:cpu=2").fps[:, 0], [20, 200])
    with pytest.raises(InvalidInstanceError, match=r"no device 'npu' to add another of; .* add:examples/profiles"):
        apply(real, "add:npu")
    twice = real.replace(devices=("a.openvino.cpu", "b.openvino.cpu"))
    with pytest.raises(InvalidInstanceError, match=r"'cpu' may be a.openvino.cpu or b.openvino.cpu: name one"):
        apply(twice, "add:cpu")


def test_a_profiled_device_has_the_profiles_speeds() -> None:
    profile = {"name": "vpu", "fps": {"det": 3, "*": 7}, "memory_mib": 64}
    more = apply(small(), "add:vpu.yaml", {"vpu.yaml": profile})
    assert more.devices[-1] == "vpu"
    np.testing.assert_array_equal(more.fps[:, 2], [3, 7])
    assert more.capacity_mib[2] == 64


def test_a_model_the_profile_does_not_list_is_unsupported_there() -> None:
    more = apply(small(), "add:vpu.yaml", {"vpu.yaml": {"name": "vpu", "fps": {"det": 3}}})
    assert more.fps[1, 2] == 0
    assert np.isinf(more.capacity_mib[2])


def test_removing_and_scaling() -> None:
    assert apply(small(), "remove:cpu").devices == ("gpu",)
    np.testing.assert_array_equal(apply(small(), "scale:cpu=1.5").fps[:, 0], [15, 150])


@pytest.mark.parametrize(
    "change",
    [
        "",
        "add:",
        "add:x",
        "remove:x",
        "scale:cpu",
        "scale:cpu=x",
        "scale:cpu=0",
        "scale:cpu=-1",
        "paint:cpu",
        "cores:box=2",
    ],
)
def test_what_cannot_be_done_is_said(change: str) -> None:
    with pytest.raises(InvalidInstanceError):
        apply(small(), change, {})


def on_two_cores() -> Instance:
    return instance_json.read(
        {
            "models": ["det", "age"],
            "devices": ["cpu", "gpu"],
            "fps": [[10, 200], [100, 500]],
            "hosts": {"cpu": "box", "gpu": "box"},
            "cores": {"box": 2},
            "cpu_ms": {"prepare": [[2, 2], [1, 1]], "infer": [[190, 0], [18, None]]},
            "frame_cpu_ms": {"default": {"box": {"video": 3, "join": 2}}},
            "usable": 1.0,
        }
    )


def test_stages_of_the_cpu_time_add_up() -> None:
    instance = on_two_cores()
    np.testing.assert_array_equal(instance.cpu_ms, [[192, 2], [19, 1]])
    assert instance.frame_cpu_ms == {"default": {"box": 5.0}}
    [found] = answers(
        {"models": ["a"], "devices": ["x"], "fps": [[9]], "hosts": {"x": "h"}, "cores": {"h": 1}}, ("mfs",), 1.0
    )
    assert found["bottleneck"] == "x"
    assert found["cores"] == {}


def test_more_cores_for_a_host() -> None:
    """All on the GPU: 7 ms there, 8 ms of CPU time: 250 FPS with 2 cores, 142.9 by the GPU alone."""
    found = {}
    for change in ("", "cores:box=1", "cores:box=+4"):
        instance = apply(on_two_cores(), change) if change else on_two_cores()
        found[change] = solve(instance, "optimal")
    assert found[""].fps == pytest.approx(1 / 0.007)
    assert found["cores:box=1"].fps == pytest.approx(125)
    assert found["cores:box=1"].bottleneck == "host box's cores"
    assert apply(on_two_cores(), "cores:box=+4").cores == {"box": 6.0}
    assert apply(on_two_cores(), "add:gpu").cpu_ms[:, 2].tolist() == [2, 1]  # type: ignore[index]


def test_a_profiled_device_costs_its_host_what_the_profile_states() -> None:
    profile = {"name": "vpu", "fps": {"*": 7}, "host_cpu_ms": 0.5, "host": "box"}
    more = apply(on_two_cores(), "add:vpu.yaml", {"vpu.yaml": profile})
    assert more.cpu_ms[:, 2].tolist() == [0.5, 0.5]  # type: ignore[index]
    assert more.hosts["vpu"] == "box"


def test_the_only_device_stays() -> None:
    with pytest.raises(InvalidInstanceError, match="only device"):
        apply(apply(small().replace(pins={}), "remove:cpu"), "remove:gpu")


@pytest.mark.parametrize("change", ["cores:box", "cores:box=x", "cores:box=0", "cores:box=-2", "cores:other=2"])
def test_wrong_cores_are_named(change: str) -> None:
    with pytest.raises(InvalidInstanceError, match="cores"):
        apply(on_two_cores(), change)


@pytest.mark.parametrize(("group", "stream", "count"), [(100, 25, 4), (99.9, 25, 3), (5, 25, 0), (75, 25, 3)])
def test_streams_that_fit(group: float, stream: float, count: int) -> None:
    assert max_streams(group, stream) == count


def test_the_slides_case() -> None:
    """All on the GPU gives 4.380; the detector alone there gives 5.640: +28.77 % FPS, 22.3 % less time."""
    by_name = {a["strategy"]: a for a in answers(read(SLIDES), ("all",), 1.0)}
    for name in ("mfs", "hfs"):
        assert by_name[name]["fps"] == pytest.approx(5.640, abs=5e-4)
    on_gpu = apply(apply(instance_json.read(read(SLIDES)), "remove:CPU"), "remove:VPU")
    alone = solve(on_gpu, "mfs").fps
    assert alone == pytest.approx(4.380, abs=5e-4)
    assert 5.640 / alone - 1 == pytest.approx(0.2877, abs=5e-4)
    assert 1 - alone / 5.640 == pytest.approx(0.223, abs=1e-3)


def test_what_if_answers_come_in_the_order_of_the_strategies() -> None:
    found = answers(read(SLIDES), ("all",), 1.0, ("add:GPU", "scale:CPU=2"), stream_fps=2.0)
    assert tuple(a["strategy"] for a in found) == names()
    assert all(a["max_streams"] == int(a["fps"] / 2) for a in found)


def test_a_saved_matrix_is_an_instance() -> None:
    matrix = {"models": ["a"], "devices": ["x", "y"], "fps": [[None, 5.0]], "reasons": {"a @ x": "no"}, "cells": {}}
    [answer] = answers(matrix, ("mfs",), 1.0)
    assert answer["assignment"] == {"a": "y"}


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        ([], BadInputError, "JSON object"),
        ({"models": ["a"]}, BadInputError, "lacks devices, fps"),
        ({"models": ["a"], "devices": ["x"], "fps": [[1, 2]]}, BadInputError, "fps"),
        ({"models": ["a", "b"], "devices": ["x"], "fps": [[0], [1]]}, InfeasibleError, "a: supported by none"),
        (
            {"models": ["a"], "devices": ["x"], "fps": [[1]], "cpu_ms": {"prepare": [[1]], "infer": [[1, 2]]}},
            BadInputError,
            "tables of one size",
        ),
        ({"models": ["a"], "devices": ["x"], "fps": [[1]], "cpu_ms": [1]}, BadInputError, "cpu_ms must be 1×1"),
        ({"models": ["a"], "devices": ["x"], "fps": [[1]], "cores": {"h": 0}}, BadInputError, "more than 0 cores"),
        (
            {"models": ["a"], "devices": ["x"], "fps": [[1]], "frame_cpu_ms": {"default": {"h": -1}}},
            BadInputError,
            "frame_cpu_ms",
        ),
        (
            {"models": ["a", "b"], "devices": ["x"], "fps": [[1], [1]], "memory_mib": [9, 9], "capacity_mib": [10]},
            InfeasibleError,
            "do not fit",
        ),
    ],
)
def test_wrong_instances_are_named(data: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        answers(data, ("mfs",), 1.0)


def test_an_unknown_strategy_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="mfs"):
        answers(read(SLIDES), ("best",), 1.0)
    with pytest.raises(BadInputError, match="cannot read"):
        read(tmp_path / "none.json")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(BadInputError, match="not JSON"):
        read(tmp_path / "x.json")
