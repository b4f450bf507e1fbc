"""A group from frames to variants, in the precisions that a site's devices might have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import onnx
import pytest
from onnx import helper

from hams_services.optimizer.jobs.optimize import Formats, NodeOutcome, Optimize
from hams_services.optimizer.make import Workshop
from hams_services.optimizer.process import JobProcess
from hams_services.optimizer.variants import VariantStore
from hams_shared.group_spec import parse_group
from hams_shared.messages import GroupRecord
from hams_shared.variants import model_ref, task_key
from support.hostile import convolutions
from support.noise import noise

pytestmark = pytest.mark.slow  # half a minute each: networks are made and compared in processes


class Site:
    """One node that embeds what its network says, with samples of noise, and what is kept from one job to the next.

    `task`: what it does instead; `height`: of the frames, which are 16 wide.
    """

    def __init__(
        self,
        folder: Path,
        file: Path,
        side: int,
        floor: float,
        formats: Formats,
        task: Mapping[str, Any] = MappingProxyType({"type": "embedding"}),
        fit: str = "stretch",
        height: int = 16,
    ) -> None:
        self.told: list[str] = []
        self._folder, self._file, self._formats = folder, file, formats
        node = {
            "model": str(file), "input": {"size": [side, side], "fit": fit}, "task": dict(task), "min_agreement": floor,
        }  # fmt: skip
        self.spec = parse_group({"name": "g", "nodes": {"say": node}})
        self._frames = noise(folder / "frames", 12, height=height)

    def optimized(self) -> NodeOutcome:
        models = {"say": model_ref("say", [(".onnx", self._file.read_bytes())])}
        record = GroupRecord(spec=self.spec, models=models, deployed_at=1.0)
        with JobProcess(self._folder / "job") as job:
            workshop = Workshop(VariantStore(self._folder / "store"), job, self.told.append)
            files, costs = {"say": self._file}, {"say": 1.0}
            whole = Optimize(record, files, workshop, lambda *said: None, lambda: False, self._formats, costs)
            return whole.run(self._frames, self._folder / "shown", 600.0)["say"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("width", "note"), [(32, ""), (8, "pruned: it has no layers whose channels can be taken out")])
def test_narrower_networks_in_all_precisions(tmp_path: Path, width: int, note: str) -> None:
    formats = Formats(half=frozenset(("onnx", "openvino")), bf16=True)
    site = Site(tmp_path, convolutions(tmp_path, width=width), 16, 0.8, formats)
    outcome = site.optimized()
    found = {one.label: one for one in outcome.variants if one.made.form == "pruned"}
    if note:
        assert not found
        assert note in outcome.notes
        return
    assert set(found) >= {
        "onnx pruned",
        "onnx pruned fp16",
        *(f"openvino pruned{one}" for one in ("", " bf16", " fp16")),
    }
    key = task_key(site.spec.nodes["say"])
    assert all(key in one.agreements or key in one.failed for one in found.values())  # bf16 is not on every processor
    assert found["onnx pruned"].agreements[key].value >= 0.8

    site.told.clear()
    again = site.optimized()
    assert {one.model.digest for one in again.variants} >= {
        one.model.digest for one in found.values() if key in one.agreements
    }
    assert not [text for text in site.told if "multiplications" in text]  # what is known is not made again


@pytest.mark.timeout(900)
def test_smaller_images_where_outputs_say_no_places(tmp_path: Path) -> None:
    site = Site(tmp_path, convolutions(tmp_path, size=64), 64, 0.5, Formats(half=frozenset(("onnx",)), bf16=False))
    outcome = site.optimized()
    assert {"onnx shrunk", "onnx shrunk fp16"} <= {one.label for one in outcome.variants}


@pytest.mark.timeout(900)
def test_padding_is_in_no_variant(tmp_path: Path) -> None:
    """Frames four times as wide as high: the network looks at a third of its letterboxed image, in all its forms."""
    file = convolutions(tmp_path, size=128, width=24)
    points = {"type": "landmarks", "points": 2}
    site = Site(tmp_path, file, 128, 0.5, Formats(bf16=False), points, "letterbox", 4)
    outcome = site.optimized()
    found = {one.label: one for one in outcome.variants}
    assert set(found) >= {"onnx rectangular", "openvino rectangular", "openvino rectangular int8"}, outcome.notes
    assert {one.made.input and one.made.input.size for one in outcome.variants} == {(128, 48)}
    key = task_key(site.spec.nodes["say"])
    assert all(found[f"{kind} rectangular"].agreements[key].value >= 0.75 for kind in ("onnx", "openvino"))
    site.told.clear()
    again = {one.model.digest for one in site.optimized().variants}
    assert again == {one.model.digest for one in outcome.variants}
    assert not [text for text in site.told if "part of the image" in text]  # what is known is not made again


@pytest.mark.timeout(900)
def test_what_nobody_reads_is_in_no_variant(tmp_path: Path) -> None:
    """A network of two outputs, of which the task names one; another task does not say what it reads."""
    file = convolutions(tmp_path)
    model = onnx.load_model(file)
    model.graph.node.append(helper.make_node("GlobalMaxPool", ["r2"], ["more"]))
    model.graph.output.append(helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, ["n", 8, 1, 1]))
    file.write_bytes(model.SerializeToString())
    points = {"type": "landmarks", "points": 2, "output": "y"}
    site = Site(tmp_path, file, 16, 0.5, Formats(bf16=False), points)
    outcome = site.optimized()
    found = {one.label: one for one in outcome.variants}
    assert set(found) >= {"onnx trimmed", "openvino trimmed", "onnx trimmed int8", "openvino trimmed int8"}
    assert {one.made.settings["trimmed"] for one in outcome.variants} == {"more"}
    key = task_key(site.spec.nodes["say"])
    assert [found[f"{kind} trimmed"].agreements[key].value for kind in ("onnx", "openvino")] == [1.0, 1.0]
    again = {one.model.digest for one in site.optimized().variants}
    assert again == {one.model.digest for one in outcome.variants}

    (tmp_path / "both").mkdir()
    both = Site(tmp_path / "both", file, 16, 0.5, Formats(bf16=False), {"type": "embedding", "output": "y"})
    outcome = both.optimized()
    assert not [one.label for one in outcome.variants if "trimmed" in one.made.settings]
