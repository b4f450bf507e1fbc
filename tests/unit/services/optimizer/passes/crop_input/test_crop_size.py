"""Which part of the image a network is cropped to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from hams_services.optimizer.accuracy.evaluate import Predictions
from hams_services.optimizer.accuracy.samples import NodeSamples
from hams_services.optimizer.passes.crop_input import crop_input_pass
from hams_services.optimizer.passes.crop_input.crop_input_pass import CropInput, size_of
from hams_services.optimizer.passes.quantization.int8_pass import Int8
from hams_services.optimizer.passes.trial import Start, Trial
from hams_services.optimizer.sandbox.process import JobProcess
from hams_services.optimizer.variant_builder import VariantBuilder
from hams_services.optimizer.variant_folder import VariantStore
from hams_shared.errors import UnsupportedModelError
from hams_shared.group.node_spec import NodeSpec
from support.hostile import convolutions

SIDE = 128


def of(**changed: Any) -> NodeSpec:
    spec = {
        "model": "/m.onnx",
        "input": {"size": [SIDE, SIDE], "fit": "letterbox"},
        "task": {"type": "landmarks", "points": 2},
    }
    return NodeSpec.model_validate(spec | changed)


@pytest.mark.parametrize(
    ("filled", "more", "size"),
    [
        ((320, 136), 0, (320, 144)),
        ((320, 136), 40, (320, 176)),
        ((320, 144), 0, (320, 144)),
        ((100, 320), 16, (128, 320)),
        ((150, 150), 0, (160, 160)),
        ((320, 270), 0, (320, 272)),
        ((320, 270), 16, None),
        ((320, 320), 0, None),
    ],
)
def test_sides_are_multiples_and_hold_what_is_filled(
    filled: tuple[int, int], more: int, size: tuple[int, int] | None
) -> None:
    assert size_of((320, 320), filled, more) == size


def test_which_nodes_it_is_for() -> None:
    step = CropInput()
    assert step.applies(of())
    assert "fill all" in step.why_not(of(input={"size": [SIDE, SIDE]}))
    assert "down-scaled as a whole" in step.why_not(of(task={"type": "text"}))
    assert step.floor(of(min_agreement=0.98)) == pytest.approx(0.99)


@pytest.mark.parametrize(("speed", "kept"), [(1.05, False), (1.2, True)])
def test_what_is_hardly_faster_is_not_kept(speed: float, kept: bool) -> None:
    best = Trial(None, 0.95)  # type: ignore[arg-type]
    measured = [Predictions([], fps=100.0), Predictions([], fps=100.0 * speed)]
    context: Any = SimpleNamespace(
        samples=SimpleNamespace(node=of()), calibration=(None, (SIDE, 32)), floor=0.9, base=None,
        search=lambda scale, make: best, predict=lambda trials: measured,
    )  # fmt: skip
    assert CropInput().run(context) == [best] * kept


def pictures(folder: Path, height: int) -> Path:
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(12):
        cv2.imwrite(str(folder / f"{index:02}.png"), random.integers(0, 256, (height, 200, 3), dtype=np.uint8))
    return folder


@pytest.mark.slow
def test_the_part_that_is_filled_agrees_in_less_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crop_input_pass, "FASTER", 0.0)  # how fast it is depends on what else runs
    file = convolutions(tmp_path / "net", size=SIDE, width=24)
    samples = NodeSamples.of("say", of(), pictures(tmp_path / "wide", 50))
    reported: list[str] = []
    with JobProcess(tmp_path / "job") as job:
        builder = VariantBuilder(VariantStore(tmp_path / "store"), job, reported.append)  # type: ignore[arg-type]
        base = builder.import_file(file, "say", samples.node.input.shape()).variants["onnx"]
        before = len(builder.store.of(base.made.source_digest))
        [made] = CropInput().apply(builder, Start(base), samples, floor=0.9)
        assert made.made.input is not None
        assert made.made.input.size == (128, 48)  # 32 rows are filled, an eighth of the side is the margin
        assert (made.label, made.made.settings["cropped"]) == ("onnx cropped", "128×48")
        assert made.agreements[samples.key].value >= 0.9
        assert len(builder.store.of(base.made.source_digest)) == before + 1
        [int8] = Int8().apply(builder, Start(made), samples, floor=0.5, source=base)
        assert int8.made.input == made.made.input  # calibrated with images as it takes them
        assert int8.label == "onnx cropped int8"

        full = NodeSamples.of("say", of(), pictures(tmp_path / "square", 190))
        with pytest.raises(UnsupportedModelError, match="fill 128×122 of 128×128, which is nearly all"):
            CropInput().apply(builder, Start(base), full, floor=0.9)
        with pytest.raises(UnsupportedModelError, match="fill all"):
            CropInput().apply(builder, Start(base), replace(samples, node=of(input={"size": [SIDE, SIDE]})), floor=0.9)
