from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hams_agents.backends import network as network_module
from hams_agents.backends.base import ModelFile
from hams_agents.backends.network import Array, BatchNetwork, Lanes, Run, noise
from hams_agents.backends.replay import _joined
from hams_shared.errors import ModelError

MODEL = ModelFile("fake", "0" * 64, Path("/cache/fake.onnx"), (1, 3, 2, 2))


class Clock:
    """Stands in for `time` where runs are measured: only a `Runner` takes time."""

    now = 0.0

    @classmethod
    def perf_counter(cls) -> float:
        return cls.now


@pytest.fixture(autouse=True)
def _measured_by_our_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_module, "time", Clock)


class Runner:
    """Sums each image; each call takes `seconds`, whatever the batch."""

    def __init__(self, seconds: float = 0.002, wrong: float = 0.0) -> None:
        self.sizes: list[int] = []
        self._seconds = seconds
        self._wrong = wrong

    def __call__(self, images: Array) -> list[Array]:
        self.sizes.append(len(images))
        Clock.now += self._seconds
        return [images.sum((1, 2, 3))[:, None] + self._wrong * (len(images) > 1)]


def network(one: Run, many: Run | None, gain: float = 0.2) -> BatchNetwork:
    return BatchNetwork(MODEL, np.float32, ["y"], one, lambda: many, gain)


def test_batches_that_save_time_are_used_in_powers_of_two() -> None:
    one, many = Runner(0.003), Runner(0.0)
    loaded = network(one, many)
    assert loaded.dynamic_batch
    one.sizes.clear()
    many.sizes.clear()
    pictures = noise(MODEL, 8).repeat(3, axis=0)[:23]
    outputs = loaded.infer(pictures)
    assert (many.sizes, one.sizes) == ([8, 8, 4, 2], [1])
    np.testing.assert_allclose(outputs["y"][:, 0], pictures.sum((1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("many", [None, Runner(seconds=0.05), Runner(wrong=3.0)], ids=["none", "slow", "wrong numbers"])
def test_batches_that_do_not_help_are_not_used(many: Run | None) -> None:
    one = Runner()
    loaded = network(one, many)
    assert not loaded.dynamic_batch
    one.sizes.clear()
    assert loaded.infer(noise(MODEL, 5))["y"].shape == (5, 1)
    assert one.sizes == [1] * 5


def test_batches_that_fail_are_not_used() -> None:
    def fails(images: Array) -> list[Array]:
        raise RuntimeError("no batches here")

    assert not network(Runner(), fails).dynamic_batch


def test_a_slow_network_is_not_tried_in_batches() -> None:
    def never() -> Run | None:
        raise AssertionError("tried")

    assert not BatchNetwork(MODEL, np.float32, ["y"], Runner(0.015), never, 0.2).dynamic_batch


def test_loading_runs_all_lanes_at_the_same_time() -> None:
    together = threading.Barrier(3)

    def run(images: Array) -> list[Array]:
        together.wait(60)
        return [images.sum((1, 2, 3))[:, None]]

    BatchNetwork(MODEL, np.float32, ["y"], Runner(), lambda: None, 0.2, Lanes([run] * 3))
    assert not together.broken


def test_a_lane_that_fails_is_an_error_of_loading() -> None:
    def fails(images: Array) -> list[Array]:
        raise RuntimeError("no memory for a second one")

    with pytest.raises(ModelError, match="no memory for a second one"):
        BatchNetwork(MODEL, np.float32, ["y"], Runner(), lambda: None, 0.2, Lanes([fails]))


def test_a_failure_is_one_line_and_names_the_model() -> None:
    def fails(images: Array) -> list[Array]:
        raise RuntimeError(
            "Exception from src/x.cpp:11:\n"
            "Check 'a == b (1)' failed at src/y.cpp:5:\n"
            "out of memory in /cache/fake.onnx\n\n"
        )

    with pytest.raises(ModelError) as caught:
        network(fails, None)
    assert str(caught.value) == "model fake failed on 1×3×2×2: out of memory in fake.onnx"


def test_an_output_that_is_no_tensor() -> None:
    with pytest.raises(ModelError, match="an output is not a tensor of numbers"):
        network(lambda images: [{"label": 1}], None)  # type: ignore[list-item]


def test_nan_outputs_do_not_break_loading() -> None:
    loaded = network(lambda images: [np.full((len(images), 2), np.nan, np.float32)], None)
    assert np.isnan(loaded.infer(noise(MODEL, 2))["y"]).all()


def test_lists_of_unlike_lengths_behind_a_batch_axis_are_filled_with_zeros() -> None:
    """Detectors with suppression inside; as `Replay` answers for emulated devices."""

    def one(images: Array) -> list[Array]:
        count = 1 + round(float(images[0, 0, 0, 0]))
        return [np.full((1, count, 5), count, np.float32)]

    loaded = network(one, None)
    batch = np.zeros((3, *MODEL.input_shape[1:]), np.float32)
    batch[1:, 0, 0, 0] = 5, 2
    found = loaded.infer(batch)["y"]
    assert found.shape == (3, 6, 5)
    assert [(row[:, 0] > 0).sum() for row in found] == [1, 6, 3]
    alone = [loaded.infer(batch[i : i + 1]) for i in range(3)]
    np.testing.assert_array_equal(_joined(alone)["y"], found)


@pytest.mark.parametrize("dtype", ["f32", "u8"])
def test_without_batches_only_two_images_of_noise_are_made(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight images of 4096×4096×3 are 1.6 GB."""
    made: list[int] = []

    def counted(model: ModelFile, count: int) -> NDArray[np.generic]:
        made.append(count)
        return noise(model, count)

    monkeypatch.setattr(network_module, "noise", counted)
    network(Runner(), None)
    assert max(made) == 2
    network(Runner(0.003), Runner(0.0))
    assert max(made) == 8
    model = replace(MODEL, dtype=dtype)
    np.testing.assert_array_equal(noise(model, 8)[:2], noise(model, 2))
