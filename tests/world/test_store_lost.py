"""The broker comes back with an empty store: everything is there again, from what the parts hold."""

from __future__ import annotations

import pytest

from hams_shared.bus.protocol import Entry
from hams_shared.wire import codec
from hams_shared.wire.messages.plan import PlanRecord
from hams_shared.wire.subjects import MODEL_STORE, bucket
from support.world.stub import StubDevice
from support.world.system import Listener, System, light


async def serving(world: System) -> Listener:
    """A group that is fed."""
    world.scheduler()
    world.pipeline()
    world.agent("sim", StubDevice(fps=20))
    await world.deploy(light())
    results = await world.listen()
    world.play()
    await world.until(lambda: len(results.received) >= 10)
    return results


async def more(world: System, results: Listener) -> None:
    """Wait for more results."""
    seen = len(results.received)
    await world.until(lambda: len(results.received) >= seen + 20)


async def restart(world: System, *, empty: bool = True, away_s: float = 0.5) -> None:
    """Stop the broker, and start it again."""
    world.server.stop()
    await world.later(away_s)
    world.server.start(empty=empty)


async def test_a_broker_that_comes_back_with_its_store_changes_nothing(world: System) -> None:
    results = await serving(world)
    before = (await world.group()).active
    for away_s in (0.1, 1.0, 4.0, 20.0):
        await restart(world, empty=False, away_s=away_s)
        await more(world, results)
    assert (await world.group()).active == before
    results.check(whole=False)
    stream = await world.stream()
    assert not stream.failed
    assert not stream.dropped


async def test_nothing_is_undeployed_when_the_store_is_lost(world: System) -> None:
    results = await serving(world)
    before, seen = (await world.group()).active, len(results.received)
    await restart(world)
    await more(world, results)
    assert (await world.group()).active == before
    assert (await world.stream()).submitted >= seen  # the stream was not begun again
    results.check(whole=False)  # what the broker held when it was lost is lost to subscribers, never doubled


async def test_what_was_measured_and_stored_is_back_too(world: System) -> None:
    results = await serving(world)
    await restart(world)
    await more(world, results)
    await world.until(lambda: _one_of_each(world))


async def _one_of_each(world: System) -> bool:
    buckets = [await world.bus.kv(f"hams-{name}") for name in ("groups", "plans", "profiles", "devices")]
    return [len(await bucket.entries()) for bucket in buckets] == [1] * 4 and len(world.server.stores[MODEL_STORE]) == 1


async def test_store_and_scheduler_lost_at_once(world: System) -> None:
    results = await serving(world)
    before = (await world.group()).active
    assert before is not None
    await world.parts["scheduler"].kill()
    await restart(world)
    world.parts["scheduler"].start()
    after = (await world.until(lambda: world.group())).active
    assert (after.shares, after.group) == (before.shares, before.group)
    assert after.epoch >= before.epoch
    await more(world, results)


async def test_store_scheduler_and_pipeline_lost_at_once(world: System) -> None:
    """Only the agent remembers: the plan it serves carries its group."""
    results = await serving(world)
    before = (await world.group()).active
    assert before is not None
    await world.parts["scheduler"].kill()
    await world.parts["pipeline"].kill()
    await restart(world)
    world.parts["scheduler"].start()
    world.parts["pipeline"].start()
    await more(world, results)
    after = (await world.group()).active
    assert after is not None
    assert after.epoch >= before.epoch


async def test_a_group_that_was_undeployed_stays_so_over_a_lost_store(world: System) -> None:
    await serving(world)
    await world.control.undeploy("grey")
    await world.until(lambda: _none(world))
    await restart(world)
    await world.later(10)
    assert await _none(world)


async def _none(world: System) -> bool:
    return not (await world.view()).groups


@pytest.mark.parametrize("away_s", [0.5, 5.0])  # the lease goes on, or has run out
async def test_a_plan_that_went_back_with_the_store_is_written_again(world: System, away_s: float) -> None:
    results = await serving(world)
    await world.deploy(light())
    before = (await world.group()).active
    assert before is not None
    plans = world.server.buckets[bucket("plans")]
    await world.until(lambda: _in_force(world) == before.epoch)
    world.server.stop()
    await world.later(away_s)
    older = codec.decode(PlanRecord, plans.values["grey"].value or b"")
    older = older.model_copy(update={"active": before.model_copy(update={"epoch": before.epoch - 1})})
    plans.revision = plans.values["grey"].revision - 1
    plans.values["grey"] = Entry("grey", codec.encode(older), plans.revision)
    world.server.start()
    await world.until(lambda: _in_force(world) >= before.epoch)
    await more(world, results)
    assert (await world.group()).active == before
    await world.parts["box.stub.sim"].stop()
    world.parts["box.stub.sim"].start()
    await more(world, results)


def _in_force(world: System) -> int:
    return codec.decode(PlanRecord, world.server.buckets[bucket("plans")].values["grey"].value or b"").in_force


async def test_a_group_that_cannot_be_read_is_not_called_lost(world: System, caplog: pytest.LogCaptureFixture) -> None:
    await serving(world)
    await world.parts["scheduler"].kill()
    await (await world.bus.kv(bucket("groups"))).put("grey", b"of a later version")
    world.parts["scheduler"].start()
    await world.until(lambda: "group grey cannot be read" in caplog.text)
    assert "was lost by the broker" not in caplog.text
    assert _in_force(world) > 0
