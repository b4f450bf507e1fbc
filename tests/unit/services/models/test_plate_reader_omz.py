"""Open Model Zoo's plate reader: characters by index, on drawn plates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hams_agents.backends.base import ModelFile
from hams_agents.backends.registry import open_backend
from hams_agents.devices import parse
from hams_agents.tasks.base import Detected
from hams_agents.tasks.crops import cut
from hams_agents.tasks.input import IDENTITY, prepare
from hams_agents.tasks.registry import build_task, is_detection
from hams_shared.group.node_spec import CropSpec, InputSpec, TaskSpec
from support.networks import OMZ
from support.plates import corners, plate, put
from support.zoo import parked_car

CHARACTERS = Path(__file__).parents[4] / "examples" / "plate-characters.txt"
INPUT = InputSpec(size=(94, 24))


@pytest.mark.parametrize("align", ["none", "corners"])
@pytest.mark.parametrize("text", ["KA85629", "ZA85629"])
def test_a_plate_by_indices(text: str, align: str) -> None:
    """Every plate it was trained on begins with a province, which it sees here too; its 1 and 4 are alike."""
    path = OMZ / "license-plate-recognition-barrier-0007.xml"
    if not path.exists():
        pytest.skip(f"no Open Model Zoo file {path.name} in {OMZ} (set HAMS_OMZ)")
    network = open_backend(parse("openvino:CPU")).load(ModelFile("lpr", "0" * 64, path, INPUT.shape()))
    characters = CHARACTERS.read_text().splitlines()
    spec = TaskSpec.model_validate({"type": "text", "decode": "indices", "characters": characters})
    task = build_task(spec, INPUT, network.metadata)
    assert not is_detection(task)
    where = corners((592, 396), 120)
    frame = put(parked_car(), plate(text), where)
    seen = Detected((*where.min(axis=0), *where.max(axis=0)), 0.9, "plate", where)
    crops, _, _ = cut(frame, None, [seen], CropSpec.model_validate({"align": align}), INPUT.size)
    batch, _ = prepare(list(crops), INPUT)
    (output,) = task.describe(network.infer(batch), [IDENTITY])
    province, _, rest = output["text"].rpartition(">")
    assert province.startswith("<")
    assert sum(a == b for a, b in zip(rest, text, strict=False)) >= 6
    assert np.isin(list(rest), characters).all()
