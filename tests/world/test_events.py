"""The way of events: from the outbox of a pipeline by the broker to an application, whatever is away meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from hams_client import Event
from hams_services.pipeline import event_outbox
from hams_services.pipeline.event_outbox import KEEP_S, EventOutbox
from hams_shared.bus.journal import events_journal
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.protocol import Bus, Journal
from hams_shared.errors import BadInputError, BrokerError, CredentialsError, DeadlineError, HamsError, NotFoundError
from hams_shared.runtime.lifecycle import ended
from hams_shared.wire import codec
from hams_shared.wire.messages.events import TracksRecord
from support.events import TrackSource, check_tracks, event
from support.world.system import System, light


class Box:
    """An outbox on a bus of its own that runs in a task, as a group of the pipeline has one."""

    def __init__(self, world: System, **options: int) -> None:
        self._world = world
        self._options = options

    async def __aenter__(self) -> Box:
        self.bus = await InMemoryBus(self._world.server).__aenter__()
        self.outbox = EventOutbox(self.bus, "grey", **self._options)
        self.recovered = await self.outbox.recover()
        self._task = asyncio.get_running_loop().create_task(self.outbox.run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        """End at once, as a process that is killed."""
        self.bus.crash()
        await ended([self._task])
        await self.bus.__aexit__(None, None, None)


async def deployed(world: System) -> None:
    """A pipeline that knows the group; nobody serves it."""
    world.pipeline()
    record, _ = world.record(light(streams=2))
    await world.control.deploy(record)
    await world.until(world.stream)


async def stored(world: System, stream: str | None = None, after: int = 0) -> list[Event]:
    return [one async for one in world.hams.events("grey", stream, after=after, follow=False)]


@asynccontextmanager
async def following(world: System, after: int | None = None) -> AsyncIterator[list[Event]]:
    """Collect events as they come."""
    got: list[Event] = []
    ready = asyncio.Event()

    async def read() -> None:
        async with aclosing(world.hams.events("grey", after=after)) as events:
            ready.set()
            async for one in events:
                got.append(one)

    task = asyncio.get_running_loop().create_task(read())
    await ready.wait()
    await world.later(0.1)
    try:
        yield got
    finally:
        await ended([task])


async def test_events_come_in_order_and_may_be_read_again(world: System) -> None:
    await deployed(world)
    async with Box(world) as box, following(world) as live:
        box.outbox.put(
            [event("new", 1), event("new", 2, stream="s1"), event("end", 1, reason="lost", crop=b"\xff\xd8")]
        )
        assert await box.outbox.flush(5)
        await world.until(lambda: len(live) == 3)
        assert box.outbox.published == 3
    assert [(one.kind, one.track, one.stream) for one in live] == [("new", 1, "s0"), ("new", 2, "s1"), ("end", 1, "s0")]
    assert live[2].crop == b"\xff\xd8"
    assert [one.sequence for one in live] == [1, 2, 3]
    assert await stored(world) == live
    assert await stored(world, "s0") == [live[0], live[2]]
    assert await stored(world, after=live[1].sequence) == live[2:]


async def test_those_of_the_last_seconds(world: System) -> None:
    await deployed(world)
    async with Box(world) as box:
        for number in range(3):
            box.outbox.put([event("new", number)])
            await world.later(60)

    async def since(seconds: float) -> list[int]:
        return [one.track async for one in world.hams.events("grey", since=seconds, follow=False)]

    assert [await since(s) for s in (0, 61, 150, 1000)] == [[], [2], [1, 2], [0, 1, 2]]


async def test_an_application_that_was_away_misses_nothing(world: System) -> None:
    await deployed(world)
    seen: list[Event] = []
    async with Box(world) as box:
        source = TrackSource(box.outbox, 1, "r1")
        for _ in range(5):
            async with following(world, after=seen[-1].sequence if seen else 0) as got:
                for _ in range(20):
                    source.step()
                    await world.later(0.05)
                await world.until(lambda: got, what="an event")
            seen += got
            for _ in range(20):  # it is away
                source.step()
                await world.later(0.05)
        source.end()
        assert await box.outbox.flush(5)
    seen += await stored(world, after=seen[-1].sequence)
    assert seen == await stored(world)
    assert check_tracks(seen) > 50


async def test_a_broker_that_is_away_loses_no_event(world: System) -> None:
    await deployed(world)
    async with Box(world) as box, following(world) as live:
        source = TrackSource(box.outbox, 2, "r1")
        for away_s in (0.2, 3.0, 30.0, 400.0):
            source.step()
            await world.later(0.1)
            world.server.stop()
            for _ in range(20):
                source.step()
            await world.later(away_s)
            world.server.start()
            for _ in range(20):
                source.step()
        source.end()
        assert await box.outbox.flush(30)
        await world.until(lambda: live and live[-1].sequence == box.outbox.published)
        assert not box.outbox.dropped
        assert not box.outbox.waiting
        assert live == await stored(world)
        assert check_tracks(live) > 20


async def test_a_broker_that_lost_its_store_gives_what_comes_after(world: System) -> None:
    await deployed(world)
    async with Box(world) as box, following(world) as live:
        box.outbox.put([event("new", track) for track in range(5)])
        await world.until(lambda: len(live) == 5)
        world.server.stop()
        box.outbox.put([event("end", track) for track in range(5)])
        world.server.start(empty=True)
        await world.until(lambda: len(live) == 10)
        assert [one.sequence for one in live[5:]] == [1, 2, 3, 4, 5]
        assert check_tracks(live) == 5


async def test_when_too_many_wait_updates_give_way_and_are_counted(world: System) -> None:
    await deployed(world)
    async with Box(world, limit=10) as box:
        world.server.stop()
        for track in range(6):
            box.outbox.put([event("new", track)] + [event("update", track, number=n) for n in range(3)])
        assert box.outbox.waiting == 10
        assert box.outbox.dropped == {"update": 14}
        assert not await box.outbox.flush(1)
        box.outbox.put([event("end", track) for track in range(6)])
        assert box.outbox.dropped == {"update": 18, "new": 2}
        world.server.start()
        assert await box.outbox.flush(30)
        kinds = [(one.kind, one.track) for one in await stored(world)]  # the first was under way: it cannot give way
        assert kinds == [("new", track) for track in (0, 3, 4, 5)] + [("end", track) for track in range(6)]


async def test_a_crop_that_is_too_large_is_left_out(world: System) -> None:
    await deployed(world)
    async with Box(world) as box:
        box.outbox.put([event("new", 1, crop=bytes(600_000)), event("new", 2, crop=bytes(500_000))])
        assert await box.outbox.flush(5)
        assert box.outbox.without_crop == 1
    assert [one.crop and len(one.crop) for one in await stored(world)] == [None, 500_000]


@pytest.mark.parametrize("seed", range(10))
async def test_a_killed_pipeline_ends_each_track_once_when_it_is_back(world: System, seed: int) -> None:
    await deployed(world)
    source = None
    for life in range(6):
        async with Box(world) as box:
            source = TrackSource(box.outbox, 10 * seed + life, f"r{life}")
            source.recover(box.recovered.get("s0"))
            for _ in range((life + seed) * 7 % 11):
                source.step()
                await world.later(0.01 if life % 2 else 0.4 * KEEP_S)
            if life == 5:
                source.end()
                assert await box.outbox.flush(10)
    check_tracks(await stored(world))


async def test_a_record_is_written_once_a_second_and_after_its_events(world: System) -> None:
    await deployed(world)
    async with Box(world) as box:
        bucket = await world.bus.kv("hams-tracks")
        for number in range(100):
            box.outbox.keep("s0", b"%d" % number)
            await world.later(0.05)
        began = world.clock.now()
        box.outbox.put([event("new", 0)])
        box.outbox.keep("s0", b"100")
        assert await box.outbox.flush(5)
        assert world.clock.now() - began < 0.1  # who waits for everything does not wait for the next second
        entry = await bucket.get("grey.s0")
        assert entry is not None
        assert codec.decode(TracksRecord, entry.value or b"").tracks == b"100"
        assert 5 <= entry.revision <= 8
        world.server.stop()
        box.outbox.put([event("new", 1)])
        box.outbox.keep("s0", b"last")
        await world.later(5)
        world.server.start()
        assert await box.outbox.flush(10)
    async with Box(world) as box:
        assert box.recovered["s0"].tracks == b"last"
        assert box.recovered["s0"].events == ()
        box.outbox.keep("s0", None)
        assert await box.outbox.flush(5)
    async with Box(world) as box:
        assert box.recovered == {}


async def test_no_record_is_written_over_one_that_is_still_to_be_read(world: System) -> None:
    await deployed(world)
    async with Box(world) as box:
        box.outbox.keep("s0", b"of before")
        assert await box.outbox.flush(5)
    async with Box(world) as box:
        box.outbox.hold()
        box.outbox.keep("s0", b"first")
        box.outbox.put([event("new", 1)])
        box.outbox.keep("s0", b"newest")
        await world.later(60)
        assert box.outbox.published == 1  # events do not wait
        assert (await box.outbox.recover())["s0"].tracks == b"of before"
        assert not await box.outbox.flush(1)
        box.outbox.release()
        assert await box.outbox.flush(5)
    async with Box(world) as box:
        assert box.recovered["s0"].tracks == b"newest"
        assert box.recovered["s0"].events == ()


async def test_what_an_earlier_life_left_is_asked_for_until_the_broker_gives_it(
    world: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deployed(world)
    async with Box(world) as box:
        box.outbox.keep("s0", b"of before")
        assert await box.outbox.flush(5)
    errors: list[HamsError] = [BrokerError("no leader"), DeadlineError("no answer"), CredentialsError("refused")]

    async def elects(bus: Bus) -> Journal:
        if len(errors) > 1:
            raise errors.pop(0)
        return await events_journal(bus)

    async def refuses(bus: Bus) -> Journal:
        raise errors[-1]

    monkeypatch.setattr(event_outbox, "events_journal", elects)
    async with Box(world) as box:
        assert box.recovered["s0"].tracks == b"of before"
    monkeypatch.setattr(event_outbox, "events_journal", refuses)
    with pytest.raises(CredentialsError):
        await EventOutbox(world.bus, "grey").recover()


async def test_what_is_wrong_is_named(world: System) -> None:
    await deployed(world)
    with pytest.raises(NotFoundError, match=r"group other is not deployed.*deployed: grey"):
        [one async for one in world.hams.events("other", follow=False)]
    with pytest.raises(NotFoundError, match=r"no stream s7.*it has s0, s1"):
        [one async for one in world.hams.events("grey", "s7")]
    for since, after in ((1.0, 1), (-1.0, None), (None, -1)):
        with pytest.raises(BadInputError):
            [one async for one in world.hams.events("grey", since=since, after=after)]
    assert await stored(world) == []


async def test_events_of_a_group_that_is_gone_may_be_read(world: System) -> None:
    await deployed(world)
    async with Box(world) as box:
        box.outbox.put([event("new", 1)])
        assert await box.outbox.flush(5)
    await world.control.undeploy("grey")
    await world.until(lambda: not world.parts["pipeline"].service._groups)
    assert [one.track for one in await stored(world)] == [1]


async def test_an_application_waits_for_a_pipeline_that_is_killed(world: System) -> None:
    await deployed(world)
    async with Box(world) as box, following(world) as live:
        box.outbox.put([event("new", 1)])
        await world.until(lambda: len(live) == 1)
        await world.parts["pipeline"].kill()
        box.outbox.put([event("end", 1)])
        await world.later(20)
        assert len(live) == 1
        world.parts["pipeline"].start()
        await world.until(lambda: len(live) == 2)


async def test_without_a_pipeline_it_is_named(world: System) -> None:
    with pytest.raises(NotFoundError, match="no pipeline is running"):
        [one async for one in world.hams.events("grey")]
