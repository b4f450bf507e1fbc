"""`sink clips` in a running group: a track that stays has a clip, over a restart of the sink as well."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import av

from hams_services.ctl.actions.clips import Asked, write_clips
from hams_shared.runtime.lifecycle import ended
from support.world.stub import StubDevice
from support.world.system import System, boxes_and_light

YARD = {"mode": "live", "zones": {"left": [[0, 0], [0.6, 0], [0.6, 1], [0, 1]]}}
RULES = {"rules": {"stays": {"zones": ["left"], "min_age_s": 2}}}


def lines(folder: Path) -> list[dict[str, Any]]:
    path = folder / "clips.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def frames_of(path: Path) -> int:
    with av.open(str(path)) as file:
        return sum(1 for _ in file.decode(video=0))


async def test_a_rule_has_a_clip_and_a_restart_goes_on(world: System, tmp_path: Path) -> None:
    world.scheduler()
    pipeline = world.pipeline()
    world.agent("one", StubDevice(fps=40))
    await world.alive(1)
    group = boxes_and_light(YARD, events=RULES)
    group["nodes"]["find"]["track"] = {"confirm_hits": 1}
    await world.deploy(group)
    folder = tmp_path / "clips"
    asked = Asked("grey", folder, None, [], ["rule"], before=1.5, after=1.0, annotate=True, crop=True)
    sink = asyncio.ensure_future(write_clips(world.bus, asked))
    results = await world.listen()
    world.play(fps=10)
    await world.until(lambda: len(lines(folder)) == 1, within=60)
    (line,) = lines(folder)
    assert (line["event"]["rule"], line["event"]["track"], line["lost"]) == ("stays", 1, 0)
    times = {result.frame: result.media_time_s or 0.0 for result in results.received}
    began, ends = line["event"]["media_time_s"] - 1.5, line["event"]["media_time_s"] + 1.0
    span = [frame for frame, time in times.items() if began <= time <= ends]
    assert (line["first"], line["last"], line["frames"]) == (span[0], span[-1], len(span))
    assert frames_of(folder / line["file"]) == len(span)
    assert (folder / line["crop"]).stat().st_size > 100
    await ended([sink])
    assert lines(folder) == [line]

    pipeline.restarts = True  # while there is no sink, tracks end and begin
    await pipeline.kill()
    await world.until(lambda: results.received[-1].data["run"] != line["event"]["run"])
    again = Asked("grey", folder, "s0", [], ["rule", "new", "end"], before=1.0, after=1.0, annotate=False, crop=False)
    sink = asyncio.ensure_future(write_clips(world.bus, again))
    await world.until(lambda: len(lines(folder)) == 6, within=60)
    await ended([sink])
    stored = [one async for one in world.hams.events("grey", after=line["event"]["sequence"], follow=False)]
    asked_for = [one.id for one in stored if one.kind in ("rule", "new", "end")]
    assert sorted(one["event"]["id"] for one in lines(folder)[1:]) == sorted(asked_for)
    found = {(one["event"]["kind"], one["event"]["track"]): one for one in lines(folder)[1:]}
    assert found["end", 1]["file"] is None  # the frames of the run before are gone
    assert found["rule", 1]["frames"] == frames_of(folder / found["rule", 1]["file"]) > 10
