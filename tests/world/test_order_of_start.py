"""Parts may be started in any order: each waits for the others. A broker that comes late: tests/unit/docs."""

from __future__ import annotations

from itertools import permutations

import pytest

from support.world.stub import StubDevice
from support.world.system import System, light


@pytest.mark.parametrize("order", [*permutations(("group", "agent", "pipeline", "scheduler"))][::3], ids="-".join)
async def test_whatever_comes_first_the_group_serves(world: System, order: tuple[str, ...]) -> None:
    record, files = world.record(light())
    results = await world.listen()
    for what in order:
        match what:
            case "scheduler":
                world.scheduler()
            case "pipeline":
                world.pipeline()
            case "agent":
                world.agent("sim", StubDevice(fps=20))
            case _:
                await world.control.upload(files, lambda *_: None)
                await world.control.deploy(record)
        await world.later(5)
    world.play(count=10)
    await world.until(lambda: len(results.received) == 10)
    results.check()
