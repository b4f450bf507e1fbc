from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from hams_services.ctl.commands_nco import nco
from hams_services.ctl.run_nco import variants_folder
from hams_services.optimizer.variants import VariantStore
from support.hostile import bomb, convolutions
from support.noise import noise


def ctl(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(nco, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.stdout


@pytest.mark.timeout(900)
def test_from_a_file_to_int8_and_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAMS_CACHE", str(tmp_path / "cache"))
    path = convolutions(tmp_path)
    imported = json.loads(ctl("import", path, "--json"))
    assert (imported["format"], len(imported["variants"])) == ("onnx", 2)
    ctl("import", bomb(tmp_path), code=3)
    task = {"type": "classification", "labels": ["a", "b", "c", "d"], "activation": "none"}
    node = {"model": str(path), "input": {"size": [16, 16]}, "task": task}
    group = tmp_path / "group.yaml"
    group.write_text(yaml.safe_dump({"name": "g", "nodes": {"say": node}}))
    samples = noise(tmp_path / "samples", 9)
    made = json.loads(ctl("quantize", group, "say", "--samples", samples, "--floor", "0", "--json"))
    assert sorted(one["made"]["precision"] for one in made) == ["f32", "f32", "i8", "i8"]
    assert all(next(iter(one["agreements"].values()))["fps"] > 0 for one in made)
    assert len(json.loads(ctl("variants", group, "--json"))["say"]) == 4
    assert len(json.loads(ctl("variants", path, "--json"))) == 4
    ctl("quantize", group, "hear", "--samples", samples, code=2)

    store = VariantStore(variants_folder())
    record = store.get(made[-1]["model"]["digest"])
    [(key, found)] = record.agreements.items()
    store.measured(record, key, found.model_copy(update={"value": 0.99}))
    asked = tmp_path / "strict.yaml"  # the floor is the node's own, if --floor says nothing
    asked.write_text(yaml.safe_dump({"name": "g", "nodes": {"say": {**node, "min_agreement": 0.995}}}))
    shown = [" ".join(ctl("variants", *words).split()) for words in ((asked,), (asked, "--floor", 0.9), (group,))]
    assert ["below the floor of 0.995" in text for text in shown] == [True, False, False]

    [half, weights] = json.loads(ctl("convert", group, "say", "--precision", "fp16", "--samples", samples, "--json"))
    assert {half["made"]["format"], weights["made"]["format"]} == {"openvino", "onnx"}
    assert all(next(iter(one["agreements"].values()))["value"] > 0.99 for one in (half, weights))
    [short] = json.loads(ctl("convert", group, "say", "--precision", "bf16", "--batch", "static", "--embed", "--json"))
    assert (short["made"]["precision"], short["made"]["batch"]) == ("bf16", "static")  # ONNX has no such variant
    assert short["made"]["input"]["dtype"] == "u8"
    assert "openvino bf16 u8" in ctl("convert", group, "say", "--precision", "bf16", "--embed")
    ctl("convert", group, "hear", code=2)


@pytest.mark.timeout(900)
def test_a_network_is_made_narrower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAMS_CACHE", str(tmp_path / "cache"))
    task = {"type": "classification", "labels": ["a", "b", "c", "d"], "activation": "none"}
    groups = {}
    for name, width in (("narrow", 8), ("wide", 32)):
        file = convolutions(tmp_path / name, width=width)
        node = {"model": str(file), "input": {"size": [16, 16]}, "task": task}
        groups[name] = tmp_path / f"{name}.yaml"
        groups[name].write_text(yaml.safe_dump({"name": "g", "nodes": {"say": node}}))
    samples = noise(tmp_path / "samples", 12)
    plain, made = json.loads(ctl("prune", groups["wide"], "say", "--samples", samples, "--floor", "0.5", "--json"))
    assert ("pruned" in plain["made"]["settings"], made["made"]["format"]) == (False, "onnx")
    assert float(made["made"]["settings"]["pruned"]) < 0.95
    assert made["made"]["settings"]["floor"] == "0.5"
    assert made["made"]["calibration"]["samples"] == 8
    assert sum(part["size"] for part in made["model"]["parts"]) < sum(part["size"] for part in plain["model"]["parts"])
    [found] = made["agreements"].values()
    assert found["value"] >= 0.5
    assert "onnx pruned" in ctl("variants", groups["wide"])
    assert len(json.loads(ctl("variants", groups["wide"], "--json"))["say"]) == 3  # what was tried beside it is gone
    ctl("prune", groups["narrow"], "say", "--samples", samples, code=3)
    ctl("shrink", groups["wide"], "say", "--samples", samples, code=3)  # 16×16 is as small as it gets


@pytest.mark.timeout(900)
def test_a_network_looks_at_a_smaller_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAMS_CACHE", str(tmp_path / "cache"))
    task = {"type": "classification", "labels": ["a", "b", "c", "d"], "activation": "none"}
    node = {"model": str(convolutions(tmp_path, size=64)), "input": {"size": [64, 64]}, "task": task}
    group = tmp_path / "group.yaml"
    group.write_text(yaml.safe_dump({"name": "g", "nodes": {"say": node}}))
    samples = noise(tmp_path / "samples", 12)
    _, made = json.loads(ctl("shrink", group, "say", "--samples", samples, "--floor", "0", "--json"))
    assert (made["made"]["format"], made["made"]["settings"]["size"]) == ("onnx", "24×24")
    assert "onnx shrunk" in ctl("variants", group)


@pytest.mark.timeout(900)
def test_a_network_looks_at_what_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAMS_CACHE", str(tmp_path / "cache"))
    node = {
        "model": str(convolutions(tmp_path, size=128, width=24)),
        "input": {"size": [128, 128], "fit": "letterbox"},
        "task": {"type": "landmarks", "points": 2},
    }
    group = tmp_path / "group.yaml"
    group.write_text(yaml.safe_dump({"name": "g", "nodes": {"say": node}}))
    samples = noise(tmp_path / "samples", 12, height=4)
    _, made = json.loads(ctl("rectangle", group, "say", "--samples", samples, "--floor", "0.5", "--json"))
    assert (made["made"]["format"], made["made"]["input"]["size"]) == ("onnx", [128, 48])
    assert "onnx rectangular" in ctl("variants", group)
    squares = noise(tmp_path / "squares", 12)
    ctl("rectangle", group, "say", "--samples", squares, "--floor", "0.5", code=3)  # they fill all of it
