"""Service P with real networks and real processes: people, their pose, what they wear, and who is who."""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from hams_services.models.groups import load_group
from hams_services.pipeline.sources.opening import open_file
from support.networks import OMZ
from support.results import Subscriber
from support.up import ROOT, Up
from support.zoo import real

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

VIDEO = OMZ / "one-by-one-person-detection.mp4"
WOMAN, MAN = range(100, 130, 3), range(310, 340, 3)
"""Frames of the video that show one person or the other."""


def frames(folder: Path) -> Path:
    """A folder of pictures: the woman, the man, the woman again."""
    if not VIDEO.exists():
        pytest.skip(f"no {VIDEO.name} in {OMZ} (set HAMS_OMZ)")
    folder.mkdir()
    wanted = {n: i for i, n in enumerate([*WOMAN, *MAN])}
    with closing(open_file(str(VIDEO))) as source:
        for number, shown in enumerate(iter(source.read, None)):
            if number in wanted:
                cv2.imwrite(str(folder / f"{wanted[number]:03d}.png"), shown.pixels)
                if number in WOMAN:
                    cv2.imwrite(str(folder / f"{100 + wanted[number]:03d}.png"), shown.pixels)
    return folder


def lossless(example: str, source: Path, tmp_path: Path) -> Path:
    spec = load_group(ROOT / "examples" / example).model_dump(mode="json", exclude_defaults=True)
    spec["streams"] = {"hall": {"source": str(source), "mode": "lossless", "pace": "max"}}
    path = tmp_path / example
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


def test_people_and_their_pose(up: Up, tmp_path: Path) -> None:
    group: dict[str, Any] = yaml.safe_load((ROOT / "examples" / "person.yaml").read_text())
    for node in group["nodes"].values():
        real(node["model"], node["sha256"])
    source = frames(tmp_path / "frames")
    with Subscriber(up.url, "person") as results:
        up.ctl("deploy", lossless("person.yaml", source, tmp_path))
        assert up.until_ended()["delivered"] == 30
        results.until(30)
    men = [r.objects for r in results.received if 10 <= r.frame < 20]
    assert all(len(objects) == 1 for objects in men)
    for [man] in men:
        points, seen = man.array("pose", "points"), man.array("pose", "visibility")
        assert points.shape == (33, 2)
        assert len(seen) == 33
        shoulders, hips, ankles = (points[[i, i + 1], 1].mean() for i in (11, 23, 27))
        assert man.box[1] < shoulders < hips < ankles < man.box[3] + 40  # he stands upright
        assert np.abs(points[[11, 12, 23, 24], 0] - (man.box[0] + man.box[2]) / 2).max() < 80
        assert seen[[11, 12]].min() > 0.5
    picture = tmp_path / "out.png"
    said = up.ctl("infer", "person", source / "012.png", "--annotate", picture)
    assert re.search(r"^1 object in .*^  0: .*person [01]\.", said, re.M | re.S), said
    assert picture.stat().st_size > 10_000


def test_who_is_who_on_open_model_zoo_networks(up: Up, tmp_path: Path) -> None:
    source = frames(tmp_path / "frames")
    with Subscriber(up.url, "person-omz") as results:
        up.ctl("deploy", lossless("person-omz.yaml", source, tmp_path))
        assert up.until_ended()["delivered"] == 30
        results.until(30)
    people: dict[str, Counter[int]] = {"woman": Counter(), "man": Counter(), "woman again": Counter()}
    male: dict[str, list[float]] = {who: [] for who in people}
    male: dict[str, list[float]] = {who: [] for who in people}
    for result in results.received:
        [one] = result.objects
        who = ("woman", "man", "woman again")[result.frame // 10]
        people[who][one["who"]["identity"]] += 1
        male[who].append(one["attributes"]["attributes"]["is_male"])
        assert one.array("who", "embedding").shape == (256,)
    assert np.mean(male["woman"]) < 0.5 < 0.9 < np.mean(male["man"])
    told = {who: float(np.mean(chances)) for who, chances in male.items()}
    assert max(told["woman"], told["woman again"]) < 0.4, male  # 0.27; single frames reach 0.42
    assert told["man"] > 0.9, male
    [woman], [man], [again] = people.values()
    assert woman == again != man
    infer = json.loads(up.ctl("infer", "person-omz", source / "012.png", "--json"))
    assert infer["objects"][0]["who"]["identity"] == man  # single images are recognised too
    said = up.ctl("infer", "person-omz", source / "012.png")
    assert f"who #{man}" in said
    assert "is_male" in said
