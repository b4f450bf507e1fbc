"""How long an evaluation may take, and what its process may do."""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path

import pytest

from hams_services.optimizer.accuracy.evaluate import Evaluator
from hams_shared.group.node_spec import NodeSpec
from hams_shared.runtime.child_process import Bounds
from support.noise import noise

NODE = NodeSpec.model_validate({"model": "x.onnx", "input": {"size": [8, 8]}, "task": {"type": "embedding"}})
NAMES = [f"{index:02}.png" for index in range(12)]


@pytest.mark.parametrize("left", [120.0, math.inf])
def test_it_may_take_as_long_as_its_images_or_the_budget(tmp_path: Path, left: float) -> None:
    """A request whose own time is over at once."""
    evaluator = Evaluator("onnxruntime:CPU", timeout=0.001, bounds=Bounds(time.monotonic() + left))
    frames = noise(tmp_path / "frames", len(NAMES))
    assert evaluator.tensors(NODE, frames, NAMES, tmp_path / "out" / "tensors.npy") == (8, 8)


@pytest.mark.parametrize(("device", "confined"), [("openvino:CPU@0", True), ("openvino:GPU.0", False)])
def test_a_network_runs_without_secrets_and_writes_only_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, confined: bool
) -> None:
    """It is foreign; the drivers of other devices need what nobody lists."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("HAMS_CREDENTIALS", "/a/secret")
    monkeypatch.setenv("HAMS_CACHE", "/a/cache")
    inside, outside = tmp_path / "in" / "a", tmp_path / "a"
    with Evaluator(device)._process(inside.parent if confined else None) as child:
        inside.parent.mkdir(exist_ok=True)
        wanted = {"names": ["HAMS_CREDENTIALS", "HAMS_CACHE"]}
        assert child.run("support.confined:environment", wanted) == [None if confined else "/a/secret", "/a/cache"]
        found = child.run("support.confined:tries", {"read": [], "write": [str(inside), str(outside)]})
        if confined and not child.confined:
            pytest.skip("this kernel has no Landlock: writing cannot be confined")
    assert found[f"write {inside}"] == "yes"
    denied = "PermissionError" if confined else "yes"
    assert (found[f"write {outside}"], found["AF_INET SOCK_STREAM"]) == (denied, denied)
