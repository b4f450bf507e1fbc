"""Parts may be started in any order: each waits for the others. A broker that comes late: tests/unit/docs."""

from __future__ import annotations

from itertools import permutations

import pytest

from hams_shared.bus.records import START_S
from hams_shared.errors import DeadlineError
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


async def test_a_store_that_answers_late_is_waited_for(world: System) -> None:
    """As where brokers elect their leaders while the parts start."""
    record, files = world.record(light())
    await world.control.upload(files, lambda *_: None)
    await world.control.deploy(record)
    world.server.stop()
    parts = [world.scheduler(), world.pipeline(), world.agent("sim", StubDevice(fps=20))]
    await world.later(40)
    assert all(part.runs for part in parts)
    world.server.start()
    results = await world.listen()
    world.play(count=10)
    await world.until(lambda: len(results.received) == 10)
    results.check()
    assert [part.lives for part in parts] == [1, 1, 1]


async def test_a_part_whose_store_never_answers_ends_with_the_reason(world: System) -> None:
    world.server.stop()
    scheduler = world.scheduler()
    await world.later(2 * START_S)
    error = scheduler.ended_by()
    assert isinstance(error, DeadlineError)
    assert "the broker is away" in str(error)
