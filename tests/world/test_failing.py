"""A device that fails at each inference, after having served: frames are sent elsewhere, and it is given up."""

from __future__ import annotations

import pytest

from hams_shared.errors import InternalError
from hams_shared.runtime.lifecycle import leaves_of
from support.world.stub import StubDevice
from support.world.system import Listener, System, light

ILL, SOUND = "box.stub.ill", "box.stub.sound"


async def serving(world: System, *, mode: str = "lossless", strategy: str = "hfs") -> Listener:
    """A fast device that will fail and a slower sound one; a group that is fed."""
    world.scheduler()
    world.pipeline()
    world.agent("ill", StubDevice(fps=60))
    world.agent("sound", StubDevice(fps=30))
    await world.alive(2)
    await world.deploy(light({"mode": mode}, strategy=strategy))
    results = await world.listen()
    world.play(fps=25 if mode == "live" else 0)
    await world.until(lambda: len(results.received) >= 20)
    assert ILL in results.devices
    return results


async def more(world: System, results: Listener, count: int = 40) -> None:
    """Wait for more results."""
    seen = len(results.received)
    await world.until(lambda: len(results.received) >= seen + count)


async def test_the_group_moves_and_no_frame_is_lost(world: System) -> None:
    results = await serving(world)
    world.devices[ILL].fails_from = 0
    failed_at = world.clock.now()
    await world.until(lambda: results.devices[-1] == SOUND)
    assert world.clock.now() - failed_at < 3.0
    await more(world, results)
    stream = await world.stream()
    assert (stream.failed, stream.dropped) == ({}, {})
    results.check()
    assert (await world.states())[ILL] == "alive"  # other groups may use it
    view = await world.view()
    reason = next(d for d in view.devices if d.record.device == ILL)
    assert "the stub was told to" in str(reason) + str(view.groups)


@pytest.mark.parametrize("period", [2, 3])
async def test_a_device_that_fails_every_few_times_is_given_up_too(world: System, period: int) -> None:
    results = await serving(world)
    world.devices[ILL].fails_every = period
    failed_at = world.clock.now()
    await world.until(lambda: results.devices[-1] == SOUND)
    assert world.clock.now() - failed_at < 20.0
    await more(world, results)
    stream = await world.stream()
    assert (stream.failed, stream.dropped) == ({}, {})
    results.check(one_owner=False)  # what is sent again passes what its first device still does


async def test_a_failing_replica_costs_no_frame(world: System) -> None:
    results = await serving(world, strategy="replicated")
    await more(world, results)
    assert set(results.devices[-20:]) == {ILL, SOUND}
    world.devices[ILL].fails_from = 0
    await world.until(lambda: set(results.devices[-20:]) == {SOUND})
    await more(world, results)
    stream = await world.stream()
    assert (stream.failed, stream.dropped) == ({}, {})
    assert stream.resent > 0
    results.check(one_owner=False)


async def test_a_live_stream_drops_what_failed_and_goes_on_elsewhere(world: System) -> None:
    results = await serving(world, mode="live")
    world.devices[ILL].fails_from = 0
    await world.until(lambda: results.devices[-1] == SOUND)
    stream = await world.stream()
    assert stream.dropped["inference-failed"] > 0
    assert not stream.failed
    results.check(whole=False)


async def test_a_single_failure_changes_nothing(world: System) -> None:
    results = await serving(world)
    before = (await world.group()).active
    for _ in range(5):
        world.backends[ILL].fails_next = 1
        await more(world, results)
    assert (await world.group()).active == before
    results.check()
    assert not (await world.stream()).failed


async def test_without_another_device_the_group_reports_why_and_frames_fail_by_name(world: System) -> None:
    world.scheduler()
    world.pipeline()
    world.agent("ill", StubDevice(fps=60))
    await world.deploy(light())
    results = await world.listen()
    world.play(count=100)
    await world.until(lambda: len(results.received) >= 20)
    world.devices[ILL].fails_from = 0

    async def said() -> bool:
        return "the stub was told to" in (await world.group()).text

    await world.until(said)
    world.devices[ILL].fails_from = None
    await world.parts[ILL].kill()
    world.parts[ILL].start()  # a new life may serve again
    await more(world, results)


async def test_an_agent_whose_device_thread_has_ended_ends_and_its_next_life_serves(world: System) -> None:
    results = await serving(world)
    part = world.parts[ILL]

    def no(_outgoing: object) -> None:
        raise OSError("no room")

    part.service.executor.deliver = no
    await world.until(lambda: not part.runs)
    (error,) = leaves_of(part.ended_by())
    assert isinstance(error, InternalError)
    assert "thread ended: OSError: no room" in str(error)
    part.start()
    await world.alive(2)
    await more(world, results)
    results.check()
    assert not (await world.stream()).failed
