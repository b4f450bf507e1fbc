"""A group from frames to variants, in the precisions that a site's devices might have."""

from __future__ import annotations

from pathlib import Path

import pytest

from hams_services.optimizer.jobs.optimize import Formats, NodeOutcome, Optimize
from hams_services.optimizer.make import Workshop
from hams_services.optimizer.process import JobProcess
from hams_services.optimizer.variants import VariantStore
from hams_shared.group_spec import parse_group
from hams_shared.messages import GroupRecord
from hams_shared.variants import model_ref, task_key
from support.hostile import convolutions
from support.noise import noise


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("width", "note"), [(32, ""), (8, "pruned: it has no layers whose channels can be taken out")])
def test_narrower_networks_in_all_precisions(tmp_path: Path, width: int, note: str) -> None:
    frames = noise(tmp_path / "frames", 12)
    file = convolutions(tmp_path, width=width)
    node = {"model": str(file), "input": {"size": [16, 16]}, "task": {"type": "embedding"}, "min_agreement": 0.8}
    spec = parse_group({"name": "g", "nodes": {"say": node}})
    record = GroupRecord(spec=spec, models={"say": model_ref("say", [(".onnx", file.read_bytes())])}, deployed_at=1.0)
    told: list[str] = []

    def optimized() -> NodeOutcome:
        with JobProcess(tmp_path / "job") as job:
            workshop = Workshop(VariantStore(tmp_path / "store"), job, told.append)
            formats = Formats(half=frozenset(("onnx", "openvino")), bf16=True)
            job_of = Optimize(
                record, {"say": file}, workshop, lambda text, done, total: None, lambda: False, formats, {"say": 1.0}
            )
            return job_of.run(frames, tmp_path / "shown", 600.0)["say"]

    outcome = optimized()
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
    key = task_key(spec.nodes["say"])
    assert all(key in one.agreements or key in one.failed for one in found.values())  # bf16 is not on every processor
    assert found["onnx pruned"].agreements[key].value >= 0.8

    told.clear()
    again = optimized()
    assert {one.model.digest for one in again.variants} >= {
        one.model.digest for one in found.values() if key in one.agreements
    }
    assert not [text for text in told if "multiplications" in text]  # what is known is not made again


@pytest.mark.timeout(900)
def test_smaller_images_where_outputs_say_no_places(tmp_path: Path) -> None:
    frames = noise(tmp_path / "frames", 12)
    file = convolutions(tmp_path, size=64)
    node = {"model": str(file), "input": {"size": [64, 64]}, "task": {"type": "embedding"}, "min_agreement": 0.5}
    spec = parse_group({"name": "g", "nodes": {"say": node}})
    record = GroupRecord(spec=spec, models={"say": model_ref("say", [(".onnx", file.read_bytes())])}, deployed_at=1.0)
    with JobProcess(tmp_path / "job") as job:
        workshop = Workshop(VariantStore(tmp_path / "store"), job)
        formats = Formats(half=frozenset(("onnx",)), bf16=False)
        outcome = Optimize(
            record, {"say": file}, workshop, lambda text, done, total: None, lambda: False, formats, {"say": 1.0}
        ).run(frames, tmp_path / "shown", 600.0)["say"]
    assert {"onnx shrunk", "onnx shrunk fp16"} <= {one.label for one in outcome.variants}
