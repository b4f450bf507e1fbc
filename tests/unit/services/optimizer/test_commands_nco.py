from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from hams_services.ctl.actions.nco import variants_folder
from hams_services.ctl.commands.jobs import nco as jobs_commands
from hams_services.ctl.commands.nco import nco
from hams_services.optimizer.passes.crop_input import crop_input_pass
from hams_services.optimizer.variant_folder import VariantStore
from support.hostile import bomb, convolutions
from support.noise import noise

ONCE = ("--budget", "1")
"""Nothing is tried after the first time."""


def ctl(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(nco, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.stdout


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAMS_CACHE", str(tmp_path / "cache"))


def group_of(folder: Path, file: Path, side: int, **more: Any) -> Path:
    """The file of a group of one node."""
    task = {"type": "classification", "labels": ["a", "b", "c", "d"], "activation": "none"}
    node = {"model": str(file), "input": {"size": [side, side]}, "task": task, **more}
    path = folder / f"{len(list(folder.glob('*.yaml')))}.yaml"
    path.write_text(yaml.safe_dump({"name": "g", "nodes": {"say": node}}))
    return path


def test_from_a_file_to_variants_and_what_there_is(tmp_path: Path) -> None:
    path = convolutions(tmp_path)
    imported = json.loads(ctl("import", path, "--json"))
    assert (imported["format"], len(imported["variants"])) == ("onnx", 2)
    ctl("import", bomb(tmp_path), code=3)
    group, samples = group_of(tmp_path, path, 16), noise(tmp_path / "samples", 9)
    [half, weights] = json.loads(ctl("convert", group, "say", "--precision", "fp16", "--samples", samples, "--json"))
    assert {half["made"]["format"], weights["made"]["format"]} == {"openvino", "onnx"}
    assert all(next(iter(one["agreements"].values()))["value"] > 0.99 for one in (half, weights))
    [short] = json.loads(ctl("convert", group, "say", "--precision", "bf16", "--batch", "static", "--embed", "--json"))
    assert (short["made"]["precision"], short["made"]["batch"]) == ("bf16", "static")  # ONNX has no such variant
    assert short["made"]["input"]["dtype"] == "u8"
    assert "openvino bf16 u8" in ctl("convert", group, "say", "--precision", "bf16", "--embed")
    ctl("convert", group, "hear", code=2)
    assert len(json.loads(ctl("variants", group, "--json"))["say"]) == 6
    assert len(json.loads(ctl("variants", path, "--json"))) == 6

    store = VariantStore(variants_folder())
    record = store.get(half["model"]["digest"])
    [(key, found)] = record.agreements.items()
    store.measured(record, key, found.model_copy(update={"value": 0.99}))
    asked = group_of(tmp_path, path, 16, min_agreement=0.995)  # the floor is the node's own, if --floor says nothing
    shown = [" ".join(ctl("variants", *words).split()) for words in ((asked,), (asked, "--floor", 0.9), (group,))]
    assert ["below the floor of 0.995" in text for text in shown] == [True, False, False]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("optimize", "g", "--budget", "100000"), "--budget 100000.0: input should be less than or equal to 86400"),
        (("train", "g", "n", "--fps", "9", "--epochs", "200000"), "--epochs 200000: input should be less than"),
    ],
)
def test_a_value_that_no_job_may_have_is_named(words: tuple[str, ...], text: str) -> None:
    result = CliRunner().invoke(jobs_commands, words)
    assert result.exit_code == 2
    assert text in " ".join(result.output.split())


@pytest.mark.nco
def test_int8_for_each_runtime(tmp_path: Path) -> None:
    group, samples = group_of(tmp_path, convolutions(tmp_path), 16), noise(tmp_path / "samples", 9)
    made = json.loads(
        ctl("quantize", group, "say", "--samples", samples, "--floor", "0", "--scope", "layers", *ONCE, "--json")
    )
    assert sorted(one["made"]["precision"] for one in made) == ["fp32", "fp32", "int8", "int8"]
    assert all(next(iter(one["agreements"].values()))["fps"] > 0 for one in made)
    assert len(json.loads(ctl("variants", group, "--json"))["say"]) == 4
    ctl("quantize", group, "hear", "--samples", samples, code=2)


@pytest.mark.slow
def test_a_network_is_pruned(tmp_path: Path) -> None:
    groups = {
        width: group_of(tmp_path, convolutions(tmp_path / str(width), size=8, width=width), 8) for width in (8, 32)
    }
    samples = noise(tmp_path / "samples", 12)
    plain, made = json.loads(ctl("prune", groups[32], "say", "--samples", samples, "--floor", "0.5", *ONCE, "--json"))
    assert ("pruned" in plain["made"]["settings"], made["made"]["format"]) == (False, "onnx")
    assert float(made["made"]["settings"]["pruned"]) < 0.95
    assert made["made"]["settings"]["floor"] == "0.5"
    assert made["made"]["calibration"]["samples"] == 8
    assert sum(part["size"] for part in made["model"]["parts"]) < sum(part["size"] for part in plain["model"]["parts"])
    [found] = made["agreements"].values()
    assert found["value"] >= 0.5
    assert "onnx pruned" in ctl("variants", groups[32])
    assert len(json.loads(ctl("variants", groups[32], "--json"))["say"]) == 3  # what was tried beside it is gone
    ctl("prune", groups[8], "say", "--samples", samples, code=3)


@pytest.mark.slow
def test_the_input_of_a_network_is_down_scaled(tmp_path: Path) -> None:
    group, samples = group_of(tmp_path, convolutions(tmp_path, size=64), 64), noise(tmp_path / "samples", 12)
    _, made = json.loads(ctl("downscale-input", group, "say", "--samples", samples, "--floor", "0", *ONCE, "--json"))
    assert (made["made"]["format"], made["made"]["settings"]["floor"]) == ("onnx", "0")
    assert "onnx downscaled" in ctl("variants", group)


@pytest.mark.slow
def test_the_input_of_a_network_is_cropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crop_input_pass, "FASTER", 0.0)  # how fast it is depends on what else runs
    letterbox = {"input": {"size": [128, 128], "fit": "letterbox"}, "task": {"type": "landmarks", "points": 2}}
    group = group_of(tmp_path, convolutions(tmp_path, size=128, width=24), 128, **letterbox)
    samples = noise(tmp_path / "samples", 12, height=4)
    _, made = json.loads(ctl("crop-input", group, "say", "--samples", samples, "--floor", "0.5", *ONCE, "--json"))
    assert (made["made"]["format"], made["made"]["input"]["size"]) == ("onnx", [128, 48])
    assert "onnx cropped" in ctl("variants", group)
