"""Groups with tracks: devices do only what is due, and tracks outlive devices and plans."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hams_services.pipeline import event_outbox
from hams_services.pipeline.group_events import KEEP_OPEN_S
from hams_services.pipeline.service import PipelineService
from hams_shared.bus.journal import events_journal
from hams_shared.bus.protocol import Bus, Journal
from hams_shared.errors import DeadlineError
from support.world.parts import Part
from support.world.stub import StubDevice
from support.world.system import Listener, System, boxes_and_light, picture

FRAMES = 40


def tracked(find: dict[str, Any], child: dict[str, Any], **more: Any) -> dict[str, Any]:
    group = boxes_and_light(**more)
    group["nodes"]["find"] |= find
    group["nodes"]["light"] |= child
    return group


def tracks(results: Listener) -> list[list[int]]:
    return [[one["track"] for one in result.data["objects"]] for result in results.received]


async def test_devices_do_what_is_due_and_no_more(world: System) -> None:
    device = StubDevice(fps=40)
    world.scheduler()
    world.pipeline()
    world.agent("one", device)
    await world.alive(1)
    await world.deploy(tracked({"track": {"confirm_hits": 1}, "cadence": 4}, {"cadence": "track"}))
    results = await world.listen()
    before = {name: len(runs) for name, runs in device.runs.items()}
    world.play(count=FRAMES)
    await world.until(lambda: len(results.received) == FRAMES)
    done = {name: len(runs) - before[name] for name, runs in device.runs.items()}
    assert done["boxes"] == FRAMES / 4
    assert done["brightness"] <= 2
    shown = [track for track in tracks(results) if track]  # picture 0 is black: nothing is in it
    assert set(map(tuple, shown)) == {(1, 2)}
    last = results.received[-1].data
    assert [one["light"]["from_frame"] for one in last["objects"]] == [4, 4]
    assert all(one["predicted"] for one in last["objects"])
    assert last["nodes"] == {}
    assert len({result.data["run"] for result in results.received}) == 1


async def test_tracks_outlive_a_lost_device(world: System) -> None:
    world.scheduler()
    world.pipeline()
    world.agent("one", StubDevice(fps=40))
    world.agent("two", StubDevice(fps=15))
    await world.alive(2)
    await world.deploy(tracked({"track": {"confirm_hits": 1}}, {}))
    results = await world.listen()
    world.play()
    await world.until(lambda: len(results.received) >= FRAMES)
    await world.parts["box.stub.one"].kill()
    seen = len(results.received)
    await world.until(lambda: len(results.received) >= seen + FRAMES)
    results.check(one_owner=False)
    assert set(map(tuple, filter(None, tracks(results)))) == {(1, 2)}


async def test_tracks_begin_again_with_the_pipeline(world: System) -> None:
    world.scheduler()
    pipeline = world.pipeline()
    world.agent("one", StubDevice(fps=40))
    await world.alive(1)
    await world.deploy(tracked({"track": {"confirm_hits": 1}}, {}))
    results = await world.listen()
    player = world.play()
    await world.until(lambda: len(results.received) >= FRAMES)
    pipeline.restarts = True
    await pipeline.kill()
    await world.until(lambda: results.received[-1].data["run"] != results.received[0].data["run"])
    assert player is not None


async def test_a_stream_in_which_nothing_moves_costs_devices_next_to_nothing(world: System) -> None:
    device = StubDevice(fps=40)
    world.scheduler()
    world.pipeline()
    world.agent("one", device)
    await world.alive(1)
    stream = {"mode": "lossless", "gate": {"hold_s": 0.2, "min_fps": 1}}
    await world.deploy(boxes_and_light(stream))
    before = len(device.runs.get("boxes", []))
    for _ in range(100):
        await world.hams.push("grey", "s0", picture(7))
        await world.later(0.1)
    view = await world.stream()
    assert view.submitted == view.delivered + view.gated == 100
    assert view.gated >= 80
    assert len(device.runs["boxes"]) - before == view.delivered <= 20


async def test_hams_finds_out_how_often_the_detector_must_look(world: System) -> None:
    device = StubDevice(fps=200)
    world.scheduler()
    world.pipeline()
    world.agent("one", device)
    await world.alive(1)
    await world.deploy(tracked({"track": {}, "cadence": {"max": 5}}, {"cadence": "track"}))
    results = await world.listen()
    world.play(fps=25)
    await world.until(lambda: len(results.received) >= 600, within=120)
    looked = ["find" in result.data["nodes"] for result in results.received]
    assert all(looked[:300])
    assert sum(looked[-50:]) == 10


async def test_tiles_are_one_batch_and_their_boxes_are_those_of_the_frame(world: System) -> None:
    device = StubDevice(fps=40, batches=True)
    world.scheduler()
    world.pipeline()
    world.agent("one", device)
    await world.alive(1)
    await world.deploy(boxes_and_light({"tiles": {"grid": [2, 1], "overlap": 0.0}}))
    results = await world.listen()
    world.play(count=20)
    await world.until(lambda: len(results.received) == 20)
    last = results.received[-1].data
    assert [one["box"] for one in last["objects"]] == [
        [0, 0, 16, 24],
        [16, 24, 32, 48],
        [32, 0, 48, 24],
        [48, 24, 64, 48],
    ]
    assert all("light" in one for one in last["objects"])
    assert device.runs["boxes"][-1] % 2 == 0


YARD = {"zones": {"left": [[0, 0], [0.6, 0], [0.6, 1], [0, 1]]}}
RULES = {"rules": {"stays": {"zones": ["left"], "min_age_s": 2, "when": "light.value < 1000"}}}


async def event_kinds(world: System, group: str = "grey") -> list[tuple[str, int, str]]:
    """Kind, track and reason or rule of all events that are stored."""
    found: list[tuple[str, int, str]] = []
    async with asyncio.timeout(30):
        async for event in world.hams.events(group, since=3600, follow=False):
            found.append((event.kind, event.track, event.reason or event.rule or event.zone))
    return found


async def test_events_of_tracks_zones_and_rules_outlive_a_pipeline(world: System) -> None:
    world.scheduler()
    pipeline = world.pipeline()
    world.agent("one", StubDevice(fps=40))
    await world.alive(1)
    await world.deploy(tracked({"track": {"confirm_hits": 1}}, {}, stream=YARD, events=RULES))
    results = await world.listen()
    world.play(fps=10)
    await world.until(lambda: len(results.received) >= FRAMES)
    await world.later(2.0)  # the record of open tracks is a second old at most
    kinds = await event_kinds(world)
    assert kinds[:2] == [("new", 1, ""), ("new", 2, "")]
    assert ("zone_entered", 1, "left") in kinds
    assert [one for one in kinds if one[0] == "rule"] == [("rule", 1, "stays")]
    left = (await world.stream()).places.zones["left"]
    assert (left.inside, left.entries, left.exits) == (1, 1, 0)
    pipeline.restarts = True
    await pipeline.kill()
    await world.until(lambda: results.received[-1].data["run"] != results.received[0].data["run"])
    await world.later(2.0)
    kinds = await event_kinds(world)
    assert sorted(one for one in kinds if one[0] == "end") == [("end", 1, "restart"), ("end", 2, "restart")]
    await world.control.undeploy("grey")
    await world.later(3.0)


async def yard(world: System) -> Part[PipelineService]:
    """A group that tracks what is in the yard, and the pipeline that serves it."""
    world.scheduler()
    pipeline = world.pipeline()
    world.agent("one", StubDevice(fps=40))
    await world.alive(1)
    await world.deploy(tracked({"track": {"confirm_hits": 1}}, {"cadence": "track"}, stream=YARD))
    return pipeline


async def stays(world: System, seconds: float) -> None:
    """Show two things that do not move; one of them is in the zone."""
    for number in range(int(2 * seconds)):
        await world.hams.push("grey", "s0", picture(1 + number % 40))
        await world.later(0.5)


async def ends(world: System) -> list[tuple[str, int, float]]:
    """Kind, track and time of all events with which tracks of the first run left zones and ended."""
    found: list[tuple[str, int, float]] = []
    run = ""
    async with asyncio.timeout(30):
        async for one in world.hams.events("grey", since=3600, follow=False):
            run = run or one.run
            if one.run == run and one.kind in ("zone_left", "end"):
                assert one.kind == "zone_left" or one.reason == "restart"
                found.append((one.kind, one.track, one.age_s if one.kind == "end" else one.dwell_s))
    return sorted(found)


@pytest.mark.parametrize("killed", [False, True])
async def test_who_is_in_a_zone_for_long_was_there_until_the_pipeline_stopped(world: System, killed: bool) -> None:
    pipeline = await yard(world)
    await stays(world, 100)
    await (pipeline.kill() if killed else pipeline.stop())
    pipeline.start()
    await world.until(world.stream, what="the pipeline")
    await world.until(lambda: ended(world), what="the ends of tracks")
    assert [one[:2] for one in await ends(world)] == [("end", 1), ("end", 2), ("zone_left", 1)]
    for _, _, seconds in await ends(world):
        assert 100 - (KEEP_OPEN_S + 2 if killed else 1) <= seconds <= 100


async def ended(world: System) -> bool:
    return len(await ends(world)) == 3


@pytest.mark.parametrize("away_s", [8.0, 300.0], ids=["while it starts", "for minutes"])
async def test_tracks_of_before_end_once_the_broker_gives_its_events(
    world: System, away_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = await yard(world)
    await stays(world, 15)
    await pipeline.stop()
    back = world.clock.now() + away_s

    async def elects(bus: Bus) -> Journal:
        if world.clock.now() < back:
            raise DeadlineError("the broker did not answer within 5 s")
        return await events_journal(bus)

    monkeypatch.setattr(event_outbox, "events_journal", elects)
    pipeline.start()
    await world.until(world.stream, what="the pipeline")
    results = await world.listen()
    await stays(world, 40)
    assert len(results.received) == 80  # the group does not wait for it
    await world.later(max(0.0, back - world.clock.now()) + 5.0)
    assert [one[:2] for one in await ends(world)] == [("end", 1), ("end", 2), ("zone_left", 1)]


async def test_tracks_end_when_a_camera_gives_no_frames(world: System) -> None:
    """The system is told that nobody is known to be there any more; what comes later is new."""
    world.scheduler()
    world.pipeline()
    world.agent("one", StubDevice(fps=40))
    await world.alive(1)
    await world.deploy(tracked({"track": {"confirm_hits": 1}}, {"cadence": "track"}, stream=YARD))
    results = await world.listen()

    async def show(numbers: range) -> None:
        for number in numbers:
            await world.hams.push("grey", "s0", picture(number))
            await world.later(0.1)

    await show(range(1, 11))
    await world.until(lambda: len(results.received) == 10)
    await world.later(9.0)
    assert (await world.stream()).places.zones["left"].inside == 1
    await world.later(3.0)
    left = (await world.stream()).places.zones["left"]
    assert (left.inside, left.entries, left.exits) == (0, 1, 1)
    ends = [one for one in await event_kinds(world) if one[0] == "end"]
    assert ends == [("end", 1, "no-frames"), ("end", 2, "no-frames")]
    await world.later(60.0)
    await show(range(11, 21))
    await world.until(lambda: len(results.received) == 20)
    assert tracks(results) == [[1, 2]] * 10 + [[3, 4]] * 10
    assert len({result.data["run"] for result in results.received}) == 1
    assert sum(one[0] == "end" for one in await event_kinds(world)) == 2
