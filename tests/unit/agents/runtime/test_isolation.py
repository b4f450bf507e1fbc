"""One bad image in a batch: it fails alone; and the failure watch with a network that a test lets fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hams_agents.backends.base import NO_FURTHER, Further, ModelFile
from hams_agents.runtime.failure_watch import FailureWatch
from hams_agents.runtime.progress import Progress
from hams_agents.runtime.served_node import ServedNode
from hams_agents.runtime.serving import Batch, Piece, finish, infer, prepare
from hams_agents.tasks.input import IDENTITY
from hams_agents.tasks.registry import build_task
from hams_shared.errors import HamsError, ModelError
from hams_shared.group.spec import parse_group
from hams_shared.runtime.clock import SYSTEM_CLOCK
from hams_shared.wire.frames import FrameId, Work
from support.build import plan

SPEC = parse_group(
    {"name": "g", "nodes": {"light": {"model": "/m.onnx", "input": {"size": [8, 8]}, "task": {"type": "regression"}}}}
)


class Mean:
    """Gives the mean of each image; fails on black ones, or on all."""

    dynamic_batch, memory_mib, load_ms = True, 0.0, 0.0
    metadata: Mapping[str, str] = {}

    def __init__(self) -> None:
        self.broken = ""
        self.nan = False
        self.batches: list[int] = []

    def infer(
        self, batch: NDArray[np.generic], *, further: Further = NO_FURTHER, alone: bool = True
    ) -> Mapping[str, NDArray[np.generic]]:
        self.batches.append(len(batch))
        means = batch.mean(axis=(1, 2, 3), dtype=np.float64)
        if self.broken or not means.all():
            raise ModelError(self.broken or "a black image")
        return {"y": np.where(self.nan, np.nan, means)[:, None].astype(np.float32)}

    def close(self) -> None: ...


def node(network: Mean) -> ServedNode:
    spec = SPEC.nodes["light"]
    model = ModelFile("light", "0" * 64, Path("/m.onnx"), (1, 3, 8, 8))
    task = build_task(spec.task, spec.input)
    return ServedNode("h.b.u", plan(1, {"light": "h.b.u"}, SPEC), "light", network, task, 0.0, frozenset({"y"}), model)


def piece(served: ServedNode, frame: int, grey: int, attempt: int = 0) -> Piece:
    image = np.full((1, 8, 8, 3), grey, np.uint8)
    return Piece(
        served, Work(FrameId("g", "s", frame, attempt, 1, 0.0), "light", image, IDENTITY[None], [0], (8, 8)), 0.0
    )


class Watched:
    """A failure watch, and what it took out."""

    def __init__(self) -> None:
        self.network = Mean()
        self.served = node(self.network)
        self.networks: list[str] = []
        self.devices: list[str] = []
        self.others: list[ServedNode] = []
        self.watch = FailureWatch(lambda: self.others, self._out, self.devices.append, SYSTEM_CLOCK)

    def _out(self, _served: ServedNode, error: HamsError) -> None:
        self.networks.append(error.text)

    def run(self, *pieces: Piece) -> list[str]:
        """Compute a batch; return the code of the error of each piece, empty: none."""
        batch = Batch(list(pieces))
        prepare(batch)
        infer(batch)
        self.watch.inferred(batch, Progress())
        outputs = [one.output for one in finish(batch)]
        self.watch.finished(self.served, outputs)
        return [(output.error or {}).get("code", "") for output in outputs]


def test_one_bad_image_of_a_batch_fails_alone() -> None:
    watched = Watched()
    served = watched.served
    codes = watched.run(piece(served, 0, 10), piece(served, 1, 0), piece(served, 2, 30))
    assert codes == ["", "inference-failed", ""]
    assert watched.network.batches == [3, 1, 1, 1]


def test_the_results_of_the_others_are_their_own() -> None:
    served = node(Mean())
    batch = Batch([piece(served, 0, 0), piece(served, 1, 100), piece(served, 2, 200)])
    prepare(batch)
    infer(batch)
    found = [one.output.items for one in finish(batch)]
    assert found[0] == []
    assert found[2][0]["value"] == pytest.approx(2 * found[1][0]["value"])


def test_a_batch_that_fails_as_a_whole_is_one_error() -> None:
    watched = Watched()
    watched.network.broken = "primitive failed"
    assert watched.run(*(piece(watched.served, n, 10) for n in range(3))) == ["inference-failed"] * 3
    assert (watched.networks, watched.devices) == ([], [])


def test_a_bad_frame_that_comes_again_fails_for_good_and_takes_nothing_out() -> None:
    watched = Watched()
    for frame in range(20):
        assert watched.run(piece(watched.served, frame, 0)) == ["inference-failed"]
        assert watched.run(piece(watched.served, frame, 0, attempt=1)) == ["frame-fails"]
    assert (watched.networks, watched.devices) == ([], [])


def test_a_network_that_fails_its_self_test_is_out_once() -> None:
    watched = Watched()
    watched.network.broken = "primitive failed"
    for frame in range(20):
        assert watched.run(piece(watched.served, frame, 10)) == ["inference-failed"]
    assert watched.networks == ["node light of group g failed 5 times on h.b.u; last: primitive failed"]
    assert watched.devices == []


def test_errors_that_name_the_device_or_another_network_that_fails_take_the_device_out() -> None:
    named = Watched()
    named.network.broken = "CUDA error: unspecified launch failure"
    for frame in range(20):
        named.run(piece(named.served, frame, 10))
    assert named.devices == [f"node light of group g failed 3 times on h.b.u; last: {named.network.broken}"]
    several = Watched()
    several.network.broken = "primitive failed"
    other = plan(1, {"light": "h.b.u"}, SPEC)
    other = other.model_copy(
        update={"group": other.group.model_copy(update={"models": {"light": _renamed(other.group.models["light"])}})}
    )
    several.others = [replace(several.served, plan=other)]
    for frame in range(5):
        several.run(piece(several.served, frame, 10))
    assert len(several.devices) == 1
    assert "node light of group g fails its self-test, too: primitive failed" in several.devices[0]


def _renamed(model: object) -> object:
    return model.model_copy(update={"digest": "f" * 64})  # type: ignore[attr-defined]


def test_nan_takes_the_network_out_unless_it_gave_nan_when_it_was_loaded() -> None:
    for sound, out in ((True, 1), (False, 0)):
        watched = Watched()
        watched.served = replace(watched.served, sound=sound)
        watched.network.nan = True
        for frame in range(20):
            assert watched.run(piece(watched.served, frame, 10)) == ["not-finite"]
        assert (len(watched.networks), watched.devices) == (out, [])
