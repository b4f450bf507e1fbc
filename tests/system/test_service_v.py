"""Service V with real networks and real processes: three levels, a network cut short, characters out of its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml

from hams_shared.group.spec import load_group
from support.plates import corners, plate, put
from support.results import Subscriber
from support.up import ROOT, Up
from support.zoo import parked_car, real

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

FRAMES = 250
OMZ_GROUP = ROOT / "examples" / "vehicle-omz.yaml"


@pytest.fixture
def lossless_vehicle(tmp_path: Path) -> Path:
    """Service V on the street, once, losslessly, as fast as it goes."""
    group: dict[str, Any] = yaml.safe_load((ROOT / "examples" / "vehicle.yaml").read_text())
    for node in group["nodes"].values():
        real(node["model"], node["sha256"])
    for stream in group["streams"].values():
        real(stream["source"])
        stream.update(mode="lossless", pace="max", loop=False)
    path = tmp_path / "vehicle.yaml"
    path.write_text(yaml.safe_dump(group, sort_keys=False))
    return path


@pytest.fixture
def lossless_omz(tmp_path: Path) -> Path:
    """The same on Open Model Zoo networks, from above; skipped where they are not."""
    spec = load_group(OMZ_GROUP)
    files = [Path(node.model) for node in spec.nodes.values()] + [Path(s.source) for s in spec.streams.values()]
    missing = [path for path in files if not path.exists()]
    if missing:
        pytest.skip(f"no {missing[0].name} in {missing[0].parent} (Open Model Zoo, not part of the repository)")
    streams = {
        n: s.model_copy(update={"mode": "lossless", "pace": "max", "loop": False}) for n, s in spec.streams.items()
    }
    path = tmp_path / "vehicle-omz.yaml"
    path.write_text(yaml.safe_dump(spec.model_copy(update={"streams": streams}).model_dump(mode="json")))
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A car seen from behind, its plate drawn in."""
    path = tmp_path / "car.png"
    cv2.imwrite(str(path), put(parked_car(), plate("B7K291M"), corners((592, 396), 120)))
    return path


def test_vehicles_plates_and_their_text(up: Up, lossless_vehicle: Path, photo: Path, tmp_path: Path) -> None:
    served = json.loads(up.ctl("deploy", lossless_vehicle, "--json"))
    assert sorted(served["active"]["shares"]) == ["plate", "text", "vehicle"]
    reasons = up.json_when(lambda m: len(m["devices"]) == 2, "matrix")["reasons"]
    assert len(reasons) == 1, reasons  # ONNX Runtime reads no OpenVINO IR, which the detector has become
    assert "frozen_inference_graph @ box.onnxruntime" in next(iter(reasons))

    picture = tmp_path / "out.png"
    answer = json.loads(up.ctl("infer", "vehicle", photo, "--json", "--annotate", picture))
    [car] = answer["objects"]
    assert car["label"] == "car"
    [found] = car["plate"]["objects"]
    assert found["label"] == "plate"
    assert found["text"]["text"] == "B7K291M"
    assert found["text"]["score"] > 0.8
    x0, y0, x1, y1 = found["box"]
    assert (x0 + x1) / 2 == pytest.approx(592, abs=8)
    assert (y0 + y1) / 2 == pytest.approx(396, abs=8)
    assert picture.stat().st_size > 10_000
    assert "plate ×1 (plate 0." in up.ctl("infer", "vehicle", photo)
    assert "text B7K291M" in up.ctl("infer", "vehicle", photo)

    stream = up.until_ended()
    assert (stream["state"], stream["delivered"]) == ("ended", FRAMES)
    up.ctl("undeploy", "vehicle")


def test_open_model_zoo(up: Up, lossless_omz: Path, photo: Path) -> None:
    with Subscriber(up.url, "vehicle-omz") as results:
        up.ctl("deploy", lossless_omz)
        stream = up.until_ended()
        assert (stream["state"], stream["delivered"]) == ("ended", 377)
        results.until(377)
    seen = {
        (one["attributes"]["attributes"]["color"]["label"], one["label"])
        for result in results.received
        for one in result.objects
        if "attributes" in one
    }
    assert {("white", "vehicle"), ("red", "vehicle")} <= seen  # two white cars and a red one drive by
    at = {result.frame: result.objects for result in results.received}
    [red] = at[220]
    assert red["box"] == pytest.approx([307, 5, 450, 220], abs=6)  # read off the picture
    assert red["attributes"]["attributes"]["kind"]["label"] == "car"
    answer = json.loads(up.ctl("infer", "vehicle-omz", photo, "--json"))
    [found] = [one for one in answer["objects"] if one["label"] == "plate"]
    assert "B7K2" in found["text"]["text"]  # behind the province it expects; it reads some letters wrongly
    assert "attributes" not in found
