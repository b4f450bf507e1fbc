from __future__ import annotations

from pathlib import Path

import openvino as ov
import pytest

from hams_agents.backends.openvino import OpenVinoBackend
from hams_agents.devices import parse
from hams_shared.errors import UnsupportedModelError
from support.networks import images, means, model_file


def noted(folder: Path, precision: str) -> Path:
    """An IR that says what it is to be computed in."""
    graph = ov.Core().read_model(means(folder))
    graph.set_rt_info(precision, ["hams", "precision"])
    path = folder / f"{precision}.xml"
    ov.save_model(graph, path, compress_to_fp16=False)
    return path


def test_a_file_may_say_what_it_is_computed_in(tmp_path: Path) -> None:
    backend = OpenVinoBackend(parse("openvino:CPU"))
    for precision in {"fp32", "bf16"} & set(backend.capabilities.precisions):
        network = backend.load(model_file(noted(tmp_path, precision)))
        assert network.infer(images(2))["y"].shape == (2, 3, 1, 1)
    with pytest.raises(UnsupportedModelError, match="is to be computed in f8; this device offers fp32"):
        backend.load(model_file(noted(tmp_path, "f8")))
