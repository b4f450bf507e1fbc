"""Which rectangle is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hams_services.optimizer.passes.crop_input.trials import refusal, size_of
from hams_services.optimizer.sandbox.process import JobProcess
from hams_services.optimizer.variant_builder import Shown, Workshop
from hams_services.optimizer.variant_folder import VariantStore
from hams_shared.errors import UnsupportedModelError
from hams_shared.group.spec import NodeSpec
from hams_shared.wire.variants import task_key
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
    assert not refusal(of())
    assert "fill all" in refusal(of(input={"size": [SIDE, SIDE]}))
    assert "smaller altogether" in refusal(of(task={"type": "text"}))


def pictures(folder: Path, height: int) -> Path:
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(12):
        cv2.imwrite(str(folder / f"{index:02}.png"), random.integers(0, 256, (height, 200, 3), dtype=np.uint8))
    return folder


@pytest.mark.slow
def test_the_part_that_is_filled_says_the_same_in_less_time(tmp_path: Path) -> None:
    file = convolutions(tmp_path / "net", size=SIDE, width=24)
    shown, node = Shown.of(pictures(tmp_path / "wide", 50)), of()
    told: list[str] = []
    with JobProcess(tmp_path / "job") as job:
        shop = Workshop(VariantStore(tmp_path / "store"), job, told.append)
        base = shop.import_file(file, "say", node.input.shape()).variants["onnx"]
        before = len(shop.store.of(base.made.source_digest))
        made = shop.rectangle(base, "say", node, shown, floor=0.9)
        assert made is not None, told
        assert made.made.input is not None
        assert made.made.input.size == (128, 48)  # 32 rows are filled, an eighth of the side is the margin
        assert (made.label, made.made.settings["rectangular"]) == ("onnx rectangular", "128×48")
        assert made.agreements[task_key(node)].value >= 0.9
        assert len(shop.store.of(base.made.source_digest)) == before + 1
        int8 = shop.quantize(made, "say", node, shown, floor=0.5)
        assert int8.made.input == made.made.input  # calibrated with images as it takes them
        assert int8.label == "onnx rectangular int8"

        full = Shown.of(pictures(tmp_path / "square", 190))
        with pytest.raises(UnsupportedModelError, match="fill 128×122 of 128×128, which is nearly all"):
            shop.rectangle(base, "say", node, full, floor=0.9)
        with pytest.raises(UnsupportedModelError, match="fill all"):
            shop.rectangle(base, "say", of(input={"size": [SIDE, SIDE]}), shown, floor=0.9)
