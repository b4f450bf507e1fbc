"""A group that runs on no device: whoever sends it an image is told why, at once."""

from __future__ import annotations

import pytest

from hams_shared.bus.control import known
from hams_shared.errors import HamsError, NotFoundError
from support.world.stub import StubDevice
from support.world.system import System, light, picture


async def test_infer_reports_why(world: System) -> None:
    world.scheduler()
    world.pipeline()
    world.agent("a", StubDevice(fps={}))
    await world.alive(1)
    with pytest.raises(HamsError, match="runs on no device"):
        await world.deploy(light())
    began = world.clock.now()
    with pytest.raises(HamsError, match=r"node grey/light runs on no device: .*does not run brightness"):
        await world.hams.infer("grey", picture(1), deadline=30)
    assert world.clock.now() - began < 2.0


async def test_an_application_gets_the_names_of_groups(world: System) -> None:
    """With an application's credentials, which do not let it ask the scheduler."""
    world.pipeline()
    world.scheduler()
    world.agent("a", StubDevice())
    await world.alive(1)
    await world.deploy(light())
    await known(world.bus, "grey", "app")
    await known(world.bus, "grey", "")
    for user in ("app", ""):
        with pytest.raises(NotFoundError, match=r"group gray is not deployed \(deployed: grey\)"):
            await known(world.bus, "gray", user)
