"""Events with a crop: the group asks for it, the journal has it, whoever reads the event gets it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from hams_client import Event
from support.world.stub import StubDevice
from support.world.system import STEP, System, boxes_and_light

FRAMES = 40


async def played(world: System, events: dict[str, Any], stream: dict[str, Any] | None = None) -> list[Event]:
    """The events of FRAMES pictures with two things in them, and of the end of their group."""
    world.scheduler()
    world.pipeline()
    world.agent("one", StubDevice(fps=40))
    await world.alive(1)
    group = boxes_and_light(stream, events=events)
    group["nodes"]["find"]["track"] = {"confirm_hits": 1}
    await world.deploy(group)
    results = await world.listen()
    live = (stream or {}).get("mode") == "live"
    world.play(count=10 * FRAMES if live else FRAMES, fps=15 if live else 0)
    await world.until(lambda: len(results.received) >= FRAMES)
    results.check(whole=not live, one_owner=False)
    await world.control.undeploy("grey")

    async def ended() -> bool:
        return sum(one.kind == "end" for one in await stored(world)) == 2

    await world.until(ended)
    return await stored(world)


async def stored(world: System) -> list[Event]:
    return [one async for one in world.hams.events("grey", since=3600.0, follow=False)]


def grey(jpeg: bytes) -> float:
    """The brightness of a crop."""
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return float(image.mean())


@pytest.mark.parametrize("mode", ["lossless", "live"])
async def test_all_events_but_updates_have_the_best_view_so_far(world: System, mode: str) -> None:
    events = await played(world, {"crop": True}, {"mode": mode})
    assert {one.kind for one in events} >= {"new", "end"}
    for one in events:
        assert (one.crop is None) == (one.kind == "update")
        if one.crop is not None:
            assert abs(grey(one.crop) / STEP - round(grey(one.crop) / STEP)) < 0.3  # a picture that was played
    last = {one.track: one for one in events}
    assert len(last) == 2


async def test_of_a_rule_only_its_own_event_has_one(world: System) -> None:
    rules = {"seen": {"crop": True}, "other": {}}
    events = await played(world, {"rules": rules})
    having = {(one.kind, one.rule) for one in events if one.crop is not None}
    assert having == {("rule", "seen")}
    assert sum(one.rule == "seen" for one in events) == 2


async def test_without_the_key_no_event_has_one(world: System) -> None:
    assert not [one for one in await played(world, {}) if one.crop is not None]
