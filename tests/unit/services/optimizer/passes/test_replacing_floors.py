"""The agreement that a network must keep, in each format, before later passes start from it."""

from __future__ import annotations

from hams_services.optimizer.passes.crop_input.crop_input_pass import CropInput
from hams_services.optimizer.passes.drop_outputs.drop_outputs_pass import DropOutputs
from hams_shared.group.node_spec import NodeSpec

NODE = NodeSpec.model_validate(
    {
        "model": "net.onnx",
        "input": {"size": [16, 16], "fit": "letterbox"},
        "task": {"type": "landmarks", "points": 2},
        "min_agreement": 0.9,
    }
)


def test_dropped_outputs_change_nothing_in_any_format() -> None:
    """As docs/nco.md promises: the pass removes only what is not used."""
    assert DropOutputs().floor(NODE) == DropOutputs().least(NODE) == 0.999


def test_cropping_leaves_half_of_what_the_floor_allows() -> None:
    """In the format that it makes; another runtime may round it down to the floor."""
    assert CropInput().floor(NODE) == 0.95
    assert CropInput().least(NODE) == 0.9
