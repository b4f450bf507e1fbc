"""Records that fuzzing found to end a reader, or to be taken for another's: each is refused or ignored."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import BaseModel

from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.records import watched
from hams_shared.errors import MessageError
from hams_shared.wire import codec
from hams_shared.wire.messages.agents import DeviceRecord, Heartbeat
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.plan import PlanRecord
from support.build import device, group_record, plan

DEVICE = device("h.b.u")
WHOLE = {"det": "h.b.u", "age": "h.b.u"}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (DeviceRecord, {**DEVICE.model_dump(), "precisions": ()}),  # ended the scheduler
        (DeviceRecord, {**DEVICE.model_dump(), "started_at": math.nan}),
        (Heartbeat, {"device": "h.b.u", "incarnation": "i", "sequence": 1, "busy_s": math.inf}),
        (GroupRecord, {**group_record().model_dump(), "models": {}}),  # ended the scheduler
    ],
)
def test_what_cannot_be_calculated_with_is_refused(kind: type[BaseModel], value: dict[str, Any]) -> None:
    with pytest.raises(MessageError):
        codec.decode(kind, codec.pack(value))


@pytest.mark.parametrize(
    ("key", "record"),
    [
        ("other", PlanRecord(group="face", active=plan(1, WHOLE))),
        ("other", PlanRecord(group="other", active=plan(1, WHOLE))),
        ("face", PlanRecord(group="face", active=plan(1, {"det": "h.b.u"}))),
        ("face", PlanRecord(group="face", next=plan(1, {**WHOLE, "age": ""}).model_copy(update={"shares": {}}))),
        ("other", group_record()),
        ("h.b.v", DEVICE),
    ],
)
async def test_what_is_of_something_else_or_not_whole_is_ignored(key: str, record: BaseModel) -> None:
    right: dict[type, tuple[str, BaseModel]] = {
        PlanRecord: ("face", PlanRecord(group="face", active=plan(2, WHOLE))),
        GroupRecord: ("face", group_record()),
        DeviceRecord: ("h.b.u", DEVICE),
    }
    async with InMemoryBus() as bus:
        bucket = await bus.kv("records")
        await bucket.put(key, codec.encode(record))
        last, good = right[type(record)]
        await bucket.put(last, codec.encode(good))
        async for found, read in watched(bucket, type(record)):
            assert (found, read) == (last, good)
            break
