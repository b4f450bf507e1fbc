"""Results that the broker keeps: each once and in order, whoever is away or is killed meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import cv2
import pytest

from hams_client import Result
from hams_services.pipeline import result_history
from hams_shared.errors import BadInputError, DeadlineError, NotFoundError, NotKeptError, RefusedError
from hams_shared.runtime.lifecycle import ended
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.results import KeptSizes, PositionRecord
from support.world.stub import StubDevice
from support.world.system import Listener, System, light, picture, values

KEPT = {"keep": "1h"}


async def stored(world: System, **options: Any) -> list[Result]:
    return [one async for one in world.hams.kept_results("grey", follow=False, **{"since": 10_000, **options})]


@asynccontextmanager
async def following(world: System, **options: Any) -> AsyncIterator[list[Result]]:
    """Collect kept results as they come."""
    got: list[Result] = []

    async def read() -> None:
        async with aclosing(world.hams.kept_results("grey", **options)) as results:
            async for one in results:
                got.append(one)

    task = asyncio.get_running_loop().create_task(read())
    await world.later(0.1)
    try:
        yield got
    finally:
        await ended([task])


def frames(results: list[Result], stream: str = "s0") -> list[int]:
    return [one.frame for one in results if one.stream == stream]


def shots(folder: Path, count: int) -> str:
    for number in range(count):
        cv2.imwrite(str(folder / f"shot{number:04}.png"), picture(number))
    return str(folder / "shot*.png")


async def played(world: System, folder: Path, count: int, keep: bool = True, **more: Any) -> Listener:
    """A folder of images, losslessly and as fast as a device of 40 frames/s goes; somebody listens."""
    world.scheduler()
    world.pipeline()
    world.agent("sim", StubDevice(fps=40))
    listener = await world.listen()
    group = light({"source": shots(folder, count), "pace": "max"}, **({"results": KEPT} if keep else {}), **more)
    await world.deploy(group)
    return listener


async def test_results_are_heard_and_may_be_read_again(world: System) -> None:
    await world.box(sim=StubDevice(fps=100))
    live = await world.listen()
    await world.deploy(light(streams=2, results=KEPT))
    async with following(world) as got:
        world.play(count=20)
        world.play(stream="s1", count=20)
        await world.until(lambda: len(got) == len(live.received) == 40)
    for results in (got, live.received, await stored(world)):
        assert frames(results) == frames(results, "s1") == list(range(20))
    assert await stored(world) == got
    assert await stored(world, since=None, after=got[29].sequence) == got[30:]
    assert frames(await stored(world, stream="s1"), "s1") == list(range(20))
    assert await stored(world, stream="s0", since=None, after=got[-1].sequence) == []


async def test_a_broker_that_is_lost_again_and_again_loses_no_result(world: System) -> None:
    """Lossless: the source waits. What the broker had in its hands for a subscriber is read from what it stored."""
    await world.box(sim=StubDevice(fps=50))
    await world.deploy(light(results="1h"))
    async with following(world) as got:
        player = world.play(count=100)
        for _ in range(4):
            seen = player.pushed
            await world.until(lambda seen=seen: player.pushed > seen + 10)
            world.server.stop()
            await world.later(1.0)
            world.server.start()
        await world.until(lambda: len(got) == 100, what="all results")
    assert frames(got) == list(range(100))
    view = await world.stream()
    assert (view.delivered, view.dropped, view.failed) == (100, {}, {})


async def test_a_reader_that_was_away_goes_on_where_it_was(world: System) -> None:
    await world.box(sim=StubDevice(fps=50))
    await world.deploy(light(results=KEPT))
    player, got = world.play(count=150), []
    for _ in range(3):
        async with following(world, durable="app", since=100) as part:
            await world.until(lambda part=part: len(part) > 20)
        got += part
        await world.later(0.5)
    await world.until(lambda: player.pushed == 150)
    async with following(world, durable="app") as part:
        await world.until(lambda: len(got) + len(part) == 150, what="what it missed")
    assert frames(got + part) == list(range(150))
    assert frames(await stored(world, durable="other")) == list(range(150))
    with pytest.raises(BadInputError, match="no name of a reader"):
        await stored(world, durable="a.b")


async def test_names_of_readers_are_freed(world: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those whose results are gone first, then those not used for the longest; never those that are in use."""
    monkeypatch.setattr(result_history, "READERS", 3)
    await world.box(sim=StubDevice(fps=100))
    await world.deploy(light(results="10m"))
    bucket = await world.bus.kv(subjects.POSITIONS)

    async def names() -> set[str]:
        return {key.removeprefix("grey.reader.") for key in await bucket.entries() if ".reader." in key}

    world.play(count=10)
    await world.until(lambda: world.parts["pipeline"].service._groups["grey"].results == 10)
    async with aclosing(world.hams.kept_results("grey", durable="old", since=900)) as results:
        await anext(results)  # and reads no further
    assert frames(await stored(world, durable="one")) == list(range(10))
    assert frames(await stored(world, durable="two")) == list(range(10))
    await world.later(601)  # these are gone
    world.play(count=10)
    await world.until(lambda: world.parts["pipeline"].service._groups["grey"].results == 20)
    assert frames(await stored(world, durable="one")) == list(range(10, 20))
    assert await names() == {"old", "one", "two"}
    await world.later(61)
    async with following(world, durable="three") as three:
        assert await names() == {"one", "two", "three"}  # of "old" results are gone, as of "two", and it is older
        await world.later(61)
        assert len(await stored(world, durable="four")) == 10
        assert await names() == {"one", "three", "four"}
        await world.later(61)
        async with following(world, durable="one"), following(world, durable="four"):
            with pytest.raises(RefusedError, match="3 readers of the group are in use"):
                await stored(world, durable="five")
        await world.later(61)  # "three" waits all the time, for results that do not come
        assert await names() == {"one", "three", "four"}
        assert len(await stored(world, durable="five")) == 10
        assert "three" in await names()
        world.play(count=5)
        await world.until(lambda: len(three) == 5)
    assert len(await names()) == 3
    assert frames(await stored(world, durable="five", since=None)) == list(range(20, 25))  # it goes on


async def test_a_group_that_keeps_nothing(world: System) -> None:
    await world.box(sim=StubDevice(fps=50))
    await world.deploy(light())
    async with following(world) as got:
        world.play(count=10)
        await world.until(lambda: len(got) == 10)
    for options in ({"since": 60}, {"durable": "app", "since": None}):
        with pytest.raises(NotKeptError, match="group grey keeps no results .set `results"):
            await stored(world, **options)
    with pytest.raises(NotFoundError, match="not deployed"):
        [one async for one in world.hams.kept_results("gray", since=1, follow=False)]
    assert "hams-results" not in world.server.journals or not world.server.journals["hams-results"].kept


async def test_a_live_stream_goes_on_while_the_broker_is_away(world: System) -> None:
    """Its results wait; beyond the bound the oldest are dropped, and the ledger says so."""
    await world.box(sim=StubDevice(fps=200))
    await world.deploy(light({"mode": "live"}, results=KEPT))
    flow = world.parts["pipeline"].service._groups["grey"].flows["s0"]
    kept = flow.publisher.kept
    kept._backlog.limit = 5
    journal = await kept._kept.journal()
    world.play(count=10, fps=20)
    await world.until(lambda: flow.core.ledger.delivered == 10 and not kept.waiting)
    away = asyncio.Event()
    publish = journal.publish

    async def later(*args: Any) -> int:
        await away.wait()
        return await publish(*args)

    journal.publish = later
    world.play(count=20, fps=20)
    await world.until(lambda: flow.core.ledger.submitted == 30 and flow.core.idle)
    assert kept.waiting == 5
    away.set()
    await world.until(lambda: not kept.waiting)
    ledger = flow.core.ledger
    assert ledger.dropped["not-stored"] == 15
    assert len(await stored(world)) == ledger.delivered


async def test_an_acknowledgement_that_is_away_for_minutes(world: System) -> None:
    """The broker has stored a result; until its link is back, it has forgotten the id."""
    await world.box(sim=StubDevice(fps=50))
    live = await world.listen()
    await world.deploy(light(results=KEPT))
    journal = await world.parts["pipeline"].service._groups["grey"].flows["s0"].publisher.kept._kept.journal()
    publish, last, lost = journal.publish, journal.last, 0

    async def away(*args: Any) -> Any:
        await asyncio.sleep(2.0)
        raise DeadlineError("no answer")

    async def unanswered(*args: Any) -> int:
        nonlocal lost
        lost += 1
        journal.publish, journal.last = away, away
        await publish(*args)
        return int(await away())

    world.play(count=60)
    for number in (10, 30):
        await world.until(lambda number=number: len(live.received) > number)
        journal.publish = unanswered
        await world.later(200)
        journal.publish, journal.last = publish, last
    await world.until(lambda: len(live.received) >= 60)
    await world.later(1)
    assert lost == 2
    assert live.frames == frames(await stored(world)) == list(range(60))


async def test_bytes_are_bounded_by_group(world: System) -> None:
    await world.box(sim=StubDevice(fps=400))
    await world.deploy(light(results={"keep": "1h", "max_mb": 1}))
    await world.deploy(light(name="other", results="1h"))
    world.play("other", count=50)
    group = world.parts["pipeline"].service._groups["grey"]
    group.runners["s0"].flow.publisher.kept._kept._sizes.most = 40_000
    world.play(count=300)
    await world.until(lambda: group.results == 300 and not group.runners["s0"].flow.publisher.kept.waiting)
    kept = await stored(world)
    size = sum(len(codec.pack(one.data)) + 160 for one in kept)
    assert frames(kept) == list(range(300 - len(kept), 300))
    assert 30_000 < size <= 42_000
    other = [one async for one in world.hams.kept_results("other", since=1000, follow=False)]
    assert len(other) == 50
    sizes = codec.decode(KeptSizes, (await (await world.bus.kv(subjects.POSITIONS)).get("grey.kept")).value)
    assert sum(bytes for _, bytes in sizes.pieces) <= 42_000


async def test_results_grow_old(world: System) -> None:
    await world.box(sim=StubDevice(fps=100))
    await world.deploy(light(results="60s"))
    world.play(count=5)
    await world.until(lambda: world.parts["pipeline"].service._groups["grey"].results == 5)
    await world.later(50)
    assert len(await stored(world)) == 5
    await world.later(12)
    assert await stored(world) == []


async def test_large_results_are_kept_in_parts(world: System) -> None:
    """Masks and maps make results of megabytes; the broker takes so much at a time."""
    world.server.max_payload = 4096
    await world.box(sim=StubDevice(fps=100))
    live = await world.listen()
    await world.deploy(light(results=KEPT, streams=2))
    flow = world.parts["pipeline"].service._groups["grey"].flows["s0"]
    pack = flow._pack
    flow._pack = lambda result: pack({**result, "nodes": {**result["nodes"], "mask": {"device": "x" * 9000}}})
    got: list[Result] = []
    world.play(count=10)
    world.play(stream="s1", count=10)
    for _ in range(6):  # a reader that ends again and again, in the middle of a result, too
        async with asyncio.timeout(30), aclosing(world.hams.kept_results("grey", durable="app", since=100)) as results:
            got += [await anext(results) for _ in range(3)]
    await world.until(lambda: len(live.received) == 20)
    async with asyncio.timeout(30), aclosing(world.hams.kept_results("grey", durable="app", follow=False)) as results:
        got += [one async for one in results]
    assert frames(live.received) == frames(await stored(world)) == list(range(10))
    assert sorted({*frames(got)}) == sorted({*frames(got, "s1")}) == list(range(10))


@pytest.mark.parametrize("keep", [True, False])
async def test_a_killed_pipeline_goes_on_where_it_was(world: System, tmp_path: Path, keep: bool) -> None:
    live = await played(world, tmp_path, 90, keep)
    for kill in range(3):
        before = len(live.received)
        await world.until(lambda before=before: len(live.received) > before + 20)
        await world.parts["pipeline"].kill()
        if kill % 2:
            await world.parts["box.stub.sim"].kill()
            world.parts["box.stub.sim"].start()
        await world.later(0.3)
        world.parts["pipeline"].start()

    async def over() -> bool:
        return (await world.stream()).state == "ended"

    await world.until(over)
    assert sorted({*live.frames}) == list(range(90))
    assert values([r for r in live.received if r.frame == 77])[0] == pytest.approx(values_of(77), abs=1)
    if keep:
        live.check(one_owner=False)
        assert frames(await stored(world)) == list(range(90))
    assert [round(one.media_time_s or 0, 3) for one in live.received] == [
        round(one.frame / 25, 3) for one in live.received
    ]
    view = await world.stream()
    assert (view.submitted, view.delivered, view.dropped, view.failed) == (90, 90, {}, {})
    await world.parts["pipeline"].stop()
    world.parts["pipeline"].start()  # a batch that is over is not done again
    await world.until(over)
    await world.later(1)
    assert len(live.received) == (90 if keep else len(live.received))


def values_of(number: int) -> float:
    return float(picture(number)[0, 0, 0])


async def test_a_stopped_pipeline_and_a_file_that_starts_over(world: System, tmp_path: Path) -> None:
    live = await played(world, tmp_path, 30, keep=False)
    await world.control.undeploy("grey")
    await world.until(lambda: not world.parts["pipeline"].service._groups)
    live.received.clear()
    await world.deploy(light({"source": str(tmp_path / "shot*.png"), "pace": "max", "loop": True}))
    for _ in range(3):
        before = len(live.received)
        await world.until(lambda before=before: len(live.received) > before + 40)
        await world.parts["pipeline"].stop()
        world.parts["pipeline"].start()
    await world.until(lambda: len(live.received) > 200)
    live.check(one_owner=False)  # a stop is clean: each frame once, without a journal, too
    assert values(live.received) == pytest.approx([values_of(one.frame % 30) for one in live.received], abs=1)


async def test_another_source_or_deployment_begins_anew(world: System, tmp_path: Path) -> None:
    live = await played(world, tmp_path, 60)
    await world.until(lambda: len(live.received) > 20)
    await world.parts["pipeline"].kill()
    cv2.imwrite(str(tmp_path / "shot0001.png"), picture(59))
    live.received.clear()
    world.parts["pipeline"].start()
    await world.until(lambda: len(live.received) == 60)
    live.check(one_owner=False)
    await world.parts["pipeline"].kill()
    live.received.clear()
    await world.control.undeploy("grey")  # while no pipeline runs
    world.parts["pipeline"].start()
    await world.deploy(light({"source": str(tmp_path / "shot*.png"), "pace": "max"}, results=KEPT))
    await world.until(lambda: len(live.received) == 60)
    await world.control.undeploy("grey")
    await world.until(lambda: not world.parts["pipeline"].service._groups)
    bucket = await world.bus.kv(subjects.POSITIONS)

    async def forgotten() -> bool:
        return await bucket.get("grey.stream.s0") is None

    await world.until(forgotten)


async def test_an_application_that_pushes_is_told_where_to_go_on(world: System) -> None:
    await world.box(sim=StubDevice(fps=50))
    live = await world.listen()
    await world.deploy(light(results=KEPT))
    hams = world.hams

    async def push(first: int, last: int) -> None:
        for number in range(first, last):
            assert (await hams.push("grey", "s0", picture(number), frame=number)).frame == number

    await push(0, 40)
    await world.parts["pipeline"].kill()  # with frames under way that it had taken
    world.parts["pipeline"].start()
    await world.until(lambda: hams.next_frame("grey", "s0"))
    due = await hams.next_frame("grey", "s0")
    assert 0 < due <= 40
    with pytest.raises(RefusedError, match=f"goes on at frame {due}, not 90 .push frame {due} next"):
        await hams.push("grey", "s0", picture(0), frame=90)
    assert (await hams.push("grey", "s0", picture(0), frame=due - 1)).frame == due - 1  # it was taken: not again
    await push(due, 80)
    await world.until(lambda: len(live.received) == 80)
    live.check(one_owner=False)
    assert values(live.received) == pytest.approx([values_of(n) for n in range(80)], abs=1)


async def test_a_position_costs_two_writes_a_second(world: System) -> None:
    await world.box(sim=StubDevice(fps=100))
    await world.deploy(light(streams=2))
    world.play(count=1000)
    await world.later(5)
    found = await (await world.bus.kv(subjects.POSITIONS)).get("grey.stream.s0")
    assert found is not None
    assert found.value is not None
    assert found.revision <= 24  # of both
    assert codec.decode(PositionRecord, found.value).frame > 100
