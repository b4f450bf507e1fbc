"""What the MQTT bridge makes of a running group: its counts are the pipeline's own, over a restart of the pipeline."""

from __future__ import annotations

from hams_services.sinks.mqtt.core import GONE, BridgeCore
from hams_services.sinks.mqtt.topics import Topics
from support.world.stub import StubDevice
from support.world.system import System, boxes_and_light

YARD = {"mode": "live", "zones": {"left": [[0, 0], [0.6, 0], [0.6, 1], [0, 1]], "none": [[0.9, 0], [1, 0], [1, 0.1]]}}
RULES = {"rules": {"stays": {"zones": ["left"], "min_age_s": 2}}}


class Bridge:
    """The core, fed as the bridge feeds it."""

    def __init__(self, world: System) -> None:
        self._world = world
        self.core = BridgeCore(Topics(), kinds=("rule", "end"), version="1")
        self.published: list[str] = []

    async def look(self) -> dict[str, bytes]:
        """Read what there is; return what the broker would retain."""
        control, core = self._world.control, self.core
        core.look(await control.view(matrix=False), await control.streams(), self._world.clock.now())
        for group in core.groups:
            after = core.after(group) or 0
            async for event in self._world.hams.events(group, after=after, follow=False):
                if core.take(event) is not None:
                    self.published.append(event.kind)
                core.dealt_with(group, event.sequence)
        return core.desired(self._world.clock.now())


async def test_counts_are_the_pipelines_own(world: System) -> None:
    world.scheduler()
    pipeline = world.pipeline()
    pipeline.restarts = True
    world.agent("one", StubDevice(fps=40))
    await world.alive(1)
    group = boxes_and_light(YARD, events=RULES)
    group["nodes"]["find"]["track"] = {"confirm_hits": 1}
    await world.deploy(group)
    bridge = Bridge(world)
    world.play(fps=10)

    async def agrees() -> bool:
        found = await bridge.look()
        stream = await world.stream()
        inside = {zone: b"%d" % count.inside for zone, count in stream.places.zones.items()}
        shown = {zone: found[f"hams/grey/s0/zone/{zone}/count"] for zone in ("left", "none")}
        picture = found["hams/grey/s0/count"] == b"%d" % (stream.places.tracks or 0)
        return picture and inside == shown and shown["left"] != b"0"

    await world.until(agrees, what="the same counts", every=0.5)
    found = await bridge.look()
    assert found["hams/status"] == found["hams/grey/s0/availability"] == b"online"
    assert found["hams/grey/s0/zone/left/label/thing/occupancy"] == b"ON"
    assert found["hams/grey/s0/zone/none/occupancy"] == b"OFF"

    async def ruled() -> bool:
        await bridge.look()
        return "rule" in bridge.published

    await world.until(ruled, what="the rule's event", every=0.5)

    await pipeline.kill()
    await world.until(agrees, what="the same counts after a restart", every=0.5)
    assert "end" in bridge.published

    await world.control.undeploy("grey")
    await world.later(2)
    for _ in range(GONE):
        found = await bridge.look()
    assert set(found) == {"hams/status"}
