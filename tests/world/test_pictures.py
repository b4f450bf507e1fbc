"""Pictures that sinks draw have the zones, lines and masks of the group as it is deployed now."""

from __future__ import annotations

import asyncio

import numpy as np

from hams_client import Result
from hams_services.ctl.actions.sink import pictures, places
from hams_services.sinks.painter import Painter
from support.world.stub import StubDevice
from support.world.system import System, boxes_and_light


async def test_a_sink_knows_the_places_and_asks_again_when_the_group_is_deployed_anew(world: System) -> None:
    world.scheduler()
    world.pipeline()
    world.agent("sim", StubDevice(fps=100))
    zone = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)]
    await world.deploy(boxes_and_light({"source": "push", "mode": "live", "zones": {"yard": zone}}))
    painter, seen = Painter(), []

    def write(result: Result, image: np.ndarray) -> None:
        painter.paint(result, image)
        seen.append(set(painter.regions["s0"].zones))

    sink = asyncio.ensure_future(pictures(world.bus, "grey", "*", None, write, painter))
    world.play(fps=4)
    await world.until(lambda: seen == [{"yard"}] * len(seen) and len(seen) >= 4)
    await world.deploy(boxes_and_light({"source": "push", "mode": "live", "zones": {"gate": zone}}))
    await world.until(lambda: seen[-1] == {"gate"})
    sink.cancel()
    await asyncio.gather(sink, return_exceptions=True)
    assert await places(world.bus, "nobody") == {}
