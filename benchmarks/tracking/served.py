"""What groups with tracks and cadences cost devices, served: ``python -m benchmarks tracking --served``.

A group is served as its file says, and with rules; each stream is played once, losslessly. Devices count inferences and
busy time per node in their heartbeats. Answers of children are compared with those of the run without rules, object by
object (boxes that overlap by half in the same frame), as the optimizer compares a variant with its source.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.serving.hams import System
from hams_client import connect
from hams_services.agreement.compare import compare
from hams_services.models.groups import load_group
from hams_services.pipeline.tracking.boxes import iou
from hams_services.pipeline.tracking.identity import idf1
from hams_shared.bus.ask import pipeline_view, scheduler_view

POLL_S = 0.3
PLAY_S = 900.0
OVERLAP = 0.5
COUNTED_S = 1.2
"""Two heartbeats and a bit: then all that was done is counted, s."""

Result = dict[str, Any]


@dataclass
class Run:
    """One group, served once."""

    results: list[Result]
    inferences: dict[str, int]
    busy_s: dict[str, float]

    @property
    def tracks(self) -> list[tuple[list[int], np.ndarray]]:
        """Ids and boxes of each frame."""
        return [
            (
                [one["track"] for one in result["objects"]],
                np.array([one["box"] for one in result["objects"]], np.float64).reshape(-1, 4),
            )
            for result in self.results
        ]


@dataclass
class Row:
    """What a rule saves, and what it changes; all relative to the run that it is compared with."""

    case: str
    frames: int
    busy: float
    """Busy time of devices per frame."""
    inferences: dict[str, float] = field(default_factory=dict)
    """By node."""
    idf1: float | None = None
    agreement: dict[str, float] = field(default_factory=dict)
    """By child."""


def group_file(
    example: Path, video: str | None, rules: dict[str, dict[str, Any]], keep: Sequence[str]
) -> dict[str, Any]:
    """Return the example's group with `rules` added to its nodes, those in `keep` only (empty: all), and one stream."""
    spec = load_group(example)
    group: dict[str, Any] = spec.model_dump(mode="json", exclude_unset=True)
    if keep:
        group["nodes"] = {name: node for name, node in group["nodes"].items() if name in keep}
    for name, keys in rules.items():
        group["nodes"][name] |= keys
    stream = next(iter(group["streams"].values()))
    group["streams"] = {"s": {"source": video or stream["source"], "mode": "lossless", "pace": "max"}}
    return group


def serve(group: dict[str, Any], devices: Sequence[str]) -> Run:
    """Play the group's stream once; return the results, and what the devices did."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["HAMS_HOME"] = home
        path = Path(home) / "group.yaml"
        path.write_text(yaml.safe_dump(group, sort_keys=False))
        with System(list(devices)) as system:
            return asyncio.run(_play(system, path, group["name"]))


async def _play(system: System, path: Path, name: str) -> Run:
    async with connect(system.url) as hams:
        found: list[Result] = []

        async def read() -> None:
            async for result in hams.results(name):
                found.append(dict(result.data))

        reader = asyncio.create_task(read())
        await asyncio.sleep(POLL_S)
        await asyncio.to_thread(system.ctl, "deploy", str(path))
        async with asyncio.timeout(PLAY_S):
            while True:
                streams = (await pipeline_view(hams.bus, timeout=30)).streams
                if streams and streams[0].state in ("ended", "failed") and len(found) >= streams[0].delivered:
                    break
                await asyncio.sleep(POLL_S)
        await asyncio.sleep(COUNTED_S)
        view = await scheduler_view(hams.bus, timeout=30)
        reader.cancel()
    loads = [load for device in view.devices if device.heartbeat for load in device.heartbeat.nodes]
    nodes = {load.node for load in loads}
    return Run(
        found,
        {node: sum(load.inferences for load in loads if load.node == node) for node in nodes},
        {node: sum(load.busy_s for load in loads if load.node == node) for node in nodes},
    )


def compared(case: str, plain: Run, ruled: Run, tracked: Run | None, children: Sequence[str]) -> Row:
    """Compare a run with rules with the one without; its tracks with those of `tracked`, detected on every frame."""
    busy = [sum(run.busy_s.values()) / max(len(run.results), 1) for run in (plain, ruled)]
    return Row(
        case,
        len(ruled.results),
        busy[1] / busy[0],
        {node: ruled.inferences.get(node, 0) / max(plain.inferences[node], 1) for node in sorted(plain.inferences)},
        None if tracked is None else idf1(tracked.tracks, ruled.tracks),
        {child: _agreement(plain.results, ruled.results, child) for child in children},
    )


def _agreement(plain: list[Result], ruled: list[Result], child: str) -> float:
    pairs = []
    by_frame = {result["frame"]: result["objects"] for result in ruled}
    for result in plain:
        mine, theirs = result["objects"], by_frame.get(result["frame"], [])
        if not mine or not theirs:
            continue
        alike = iou(*(np.array([one["box"] for one in side], np.float64) for side in (mine, theirs)))
        for row, one in enumerate(mine):
            other = theirs[int(alike[row].argmax())]
            if alike[row].max() >= OVERLAP and child in one and child in other:
                pairs.append((_described(one[child]), _described(other[child])))
    return compare([one for one, _ in pairs], [other for _, other in pairs]).agreement if pairs else 0.0


def _described(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key not in ("from_frame", "objects", "points", "identity")}


EXAMPLES = Path(__file__).parents[2] / "examples"
FLOW = {"track": {"motion": "flow"}}


def measure(video: str, devices: Sequence[str] = ("openvino:CPU",)) -> list[dict[str, Any]]:
    """Serve all cases; return their rows. `video` is of people."""
    rows = []
    person = EXAMPLES / "person-omz.yaml"
    tracked = serve(group_file(person, video, {"person": FLOW}, ["person"]), devices)
    for every in (2, 5):
        ruled = serve(group_file(person, video, {"person": {**FLOW, "cadence": every}}, ["person"]), devices)
        rows.append(compared(f"people, detector on every {every}. frame", tracked, ruled, tracked, []))
    face = EXAMPLES / "face.yaml"
    children = ["gender", "age", "emotion"]
    kept = ["face", *children]
    plain = serve(group_file(face, None, {}, kept), devices)
    for text, cadence in (("once per track", "track"), ("on every 10th frame", {"frames": 10})):
        rules = {"face": {"track": {}}, **{child: {"cadence": cadence} for child in children}}
        ruled = serve(group_file(face, None, rules, kept), devices)
        rows.append(compared(f"faces, children {text}", plain, ruled, None, children))
    return [asdict(row) for row in rows]
