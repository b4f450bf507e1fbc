"""Parts and records of other versions: what cannot work together says so, and nothing else suffers."""

from __future__ import annotations

import pytest

from hams_shared.errors import MessageError
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.agents import DeviceRecord
from hams_shared.wire.protocol import SPOKEN
from support.world.stub import StubDevice
from support.world.system import System, light

LATER = (SPOKEN[1] + 1, SPOKEN[1] + 2)


async def started(world: System) -> None:
    world.scheduler()
    world.pipeline()
    world.agent("a", StubDevice())
    await world.alive(1)


async def test_a_group_record_of_a_later_version_is_refused_by_name(world: System) -> None:
    await started(world)
    record = await world.deploy(light())
    results = await world.listen()
    world.play(fps=0)
    data = codec.unpack(codec.encode(record.model_copy(update={"deployed_at": record.deployed_at + 1})))
    data["spec"]["of_later_versions"] = True
    bucket = await world.bus.kv(subjects.bucket("groups"))
    await bucket.put("grey", codec.pack(data))

    async def known() -> bool:
        return "grey" in (await world.view()).unread

    await world.until(known)
    newer = record.model_copy(update={"deployed_at": record.deployed_at + 1})
    for wait in (anext(world.control.follow(newer)), world.control.until_streams_run(newer, 1.0)):
        with pytest.raises(MessageError, match=r"of_later_versions.*upgrade this part"):
            await wait
    seen = len(results.received)
    await world.until(lambda: len(results.received) >= seen + 20)  # the earlier record serves on
    results.check()

    await world.deploy(light())
    assert not (await world.view()).unread
    assert not (await world.control.streams()).unread


async def test_a_device_of_a_later_protocol_gets_no_work(world: System) -> None:
    await started(world)
    await world.deploy(light())
    devices = await world.bus.kv(subjects.bucket("devices"))
    [entry] = (await devices.entries()).values()
    record = codec.decode(DeviceRecord, entry.value or b"")
    await devices.put(record.device, codec.encode(record.model_copy(update={"protocol": LATER, "version": "9.0"})))

    async def refused() -> bool:
        return await world.states() == {record.device: "incompatible"}

    await world.until(refused)
    [device] = (await world.view()).devices
    assert device.misfit.startswith(f"agent {record.device} 9.0 speaks protocol {LATER[0]} to {LATER[1]}")
    assert (await world.group()).state != "serving"
    await devices.put(record.device, codec.encode(record))
    await world.until(lambda: _serves(world))


async def _serves(world: System) -> bool:
    return (await world.group()).state == "serving"
