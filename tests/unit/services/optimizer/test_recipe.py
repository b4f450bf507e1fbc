"""A group from frames to variants, in the precisions that a site's devices might have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import onnx
import pytest
from onnx import helper

from hams_services.optimizer import recipe
from hams_services.optimizer.passes.crop_input import crop_input_pass
from hams_services.optimizer.passes.trial import TrialContext
from hams_services.optimizer.recipe import NodeOutcome, Optimize
from hams_services.optimizer.sandbox.process import JobProcess
from hams_services.optimizer.site import SiteFormats
from hams_services.optimizer.variant_builder import VariantBuilder
from hams_services.optimizer.variant_folder import VariantStore
from hams_shared.group.spec import parse_group
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.variants import model_ref, task_key
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
        formats: SiteFormats,
        task: Mapping[str, Any] = MappingProxyType({"type": "embedding"}),
        fit: str = "stretch",
        height: int = 16,
    ) -> None:
        self.reported: list[str] = []
        self.spent_at = ""
        """The budget ends when this is reported."""
        self.killed_at = ""
        """The process ends when this is reported."""
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

            def progress(text: str, done: int = 0, total: int = 0, /) -> None:
                self.reported.append(text)
                if self.spent_at and self.spent_at in text:
                    job.bounds.until = 0.0
                if self.killed_at and self.killed_at in text:
                    raise SystemExit

            builder = VariantBuilder(VariantStore(self._folder / "store"), job, progress)
            files, costs = {"say": self._file}, {"say": 1.0}
            whole = Optimize(record, files, builder, progress, self._formats, costs)
            return whole.run(self._frames, self._folder / "shown", 6000.0)["say"]


@pytest.mark.nco
def test_less_is_computed_and_in_all_precisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of two outputs, of which the task names one, of images of which a quarter is filled."""
    monkeypatch.setattr(crop_input_pass, "FASTER", 0.0)  # how fast it is depends on what else runs
    file = convolutions(tmp_path, size=64, width=24)
    model = onnx.load_model(file)
    model.graph.node.append(helper.make_node("GlobalMaxPool", ["r2"], ["more"]))
    model.graph.output.append(helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, ["n", 24, 1, 1]))
    file.write_bytes(model.SerializeToString())
    points = {"type": "landmarks", "points": 2, "output": "y"}
    formats = SiteFormats(half=frozenset(("onnx", "openvino")), bf16=True)
    site = Site(tmp_path, file, 64, 0.5, formats, points, "letterbox", 4)
    outcome = site.optimized()
    found = {one.label: one for one in outcome.variants}
    assert set(found) >= {
        *(f"onnx cropped{one}" for one in ("", " fp16", " int8")),
        *(f"openvino cropped{one}" for one in ("", " bf16", " fp16", " int8", " int8+bf16")),
        *(f"onnx pruned{one}" for one in ("", " fp16")),
        *(f"openvino pruned{one}" for one in ("", " bf16", " fp16")),
    }, outcome.notes
    assert {one.made.settings["dropped-outputs"] for one in outcome.variants} == {"more"}
    assert {one.made.input and one.made.input.size for one in outcome.variants} == {(64, 32)}
    key = task_key(site.spec.nodes["say"])
    measured = {label: one for label, one in found.items() if key in one.agreements}
    assert all(key in one.failed for label, one in found.items() if label not in measured)
    assert all("bf16" in label for label in found if label not in measured)  # not on every processor
    for label, least in (("onnx cropped", 0.75), ("openvino cropped", 0.75), ("onnx pruned", 0.5)):
        assert measured[label].agreements[key].value >= least

    site.reported.clear()
    again = {one.model.digest for one in site.optimized().variants}
    assert again >= {one.model.digest for one in measured.values()}
    assert not [
        line for line in site.reported if "multiplications" in line or "part of the image" in line
    ]  # all is known


def test_smaller_images_where_outputs_are_no_places(tmp_path: Path) -> None:
    formats = SiteFormats(frozenset(("onnx",)), frozenset(("onnx",)), bf16=False)
    site = Site(tmp_path, convolutions(tmp_path, size=64), 64, 0.5, formats)
    outcome = site.optimized()
    assert {"onnx downscaled", "onnx downscaled fp16"} <= {one.label for one in outcome.variants}
    assert not [one.label for one in outcome.variants if one.made.form == "pruned"]
    assert "prune: it has no layers whose channels can be taken out" in outcome.notes


def test_a_budget_that_is_spent_ends_what_is_under_way_and_keeps_what_was_made(tmp_path: Path) -> None:
    formats = SiteFormats(frozenset(("onnx",)), frozenset(("onnx",)), bf16=False)
    site = Site(tmp_path, convolutions(tmp_path, size=64), 64, 0.5, formats)
    site.spent_at = "an image of"  # the first trial of a smaller image
    outcome = site.optimized()
    assert {one.label for one in outcome.variants} >= {"onnx fp16"}
    assert "downscaled" not in " ".join(one.label for one in outcome.variants)
    assert any(note.startswith("downscale-input: ") and "the budget is spent" in note for note in outcome.notes), (
        outcome.notes
    )


INT8 = re.compile(r"onnx int8, (all|layers), (\d+) layers kept, agreement")


def quantised(site: Site) -> list[str]:
    """What is tried of INT8, as it is reported."""
    found = [INT8.search(line) for line in site.reported]
    site.reported.clear()
    return [f"{one[1]} {one[2]}" for one in found if one]


def int8_site(folder: Path) -> Site:
    """No INT8 reaches its floor: regression on a probability is never exact."""
    formats = SiteFormats(frozenset(("onnx",)), frozenset(), bf16=False)
    task = {"type": "regression"}
    return Site(folder, convolutions(folder, size=16), 16, 1.0, formats, task)


def test_a_search_that_was_killed_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = int8_site(tmp_path)
    with monkeypatch.context() as killed:
        killed.setattr(TrialContext, "forget_all_but", lambda *_: None)  # a killed process removes nothing
        site.killed_at = "layers kept"
        with pytest.raises(SystemExit):
            site.optimized()
    assert quantised(site) == ["all 0"]
    site.killed_at = ""
    site.optimized()
    assert quantised(site)[:2] == ["all 0", "layers 0"]
    site.optimized()
    assert quantised(site) == []  # it has ended: all is known


def test_a_search_that_was_cut_short_is_made_again_with_more_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = int8_site(tmp_path)
    with monkeypatch.context() as short:
        short.setattr(recipe, "SEARCH", 0.0)
        short.setattr(recipe, "LEAST_S", 0.0)
        site.optimized()
        assert quantised(site) == ["all 0"]
        site.optimized()
        assert quantised(site) == []  # there is no more time than before
    site.optimized()
    assert quantised(site)[:2] == ["all 0", "layers 0"]
