"""Work and results that cannot be packed are lost to their own frame only."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from hams_services.pipeline.flight import Send
from hams_services.pipeline.flow import Flow
from hams_services.pipeline.group import DeployedGroup
from hams_services.pipeline.routing import Reroute, SharedMemoryPeers
from hams_services.pipeline.sources.base import Picture
from hams_shared.bus.mailbox import Mailboxes
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.memory.server import MemoryServer
from hams_shared.bus.protocol import Message
from hams_shared.errors import BrokerError
from hams_shared.runtime.clock import SystemClock
from hams_shared.wire import codec, subjects
from hams_shared.wire.frames import FrameId
from support.build import group_record, group_spec, output, plan
from support.wait import until

A = plan(1, {"det": "h.b.one", "age": "h.b.two"})


@pytest.mark.parametrize("error", [ValueError("1 objects, 3 sources"), BrokerError("the broker is away")])
async def test_a_stream_goes_on_where_its_work_cannot_be_sent(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[list[Send]] = []

    async def by_broker(sends: list[Send]) -> None:
        sent.append(sends)
        if len(sent) == 1:
            raise error

    flow = Flow.__new__(Flow)
    flow.name, flow._outbox = "face/cam", asyncio.Queue()
    flow.log = logging.LoggerAdapter(logging.getLogger("hams.pipeline"), {})
    flow._dispatch = cast("Any", SimpleNamespace(by_broker=by_broker))
    running = asyncio.create_task(flow.run())
    for frame in (0, 1):
        flow._outbox.put_nowait(Send(FrameId("face", "cam", frame, 0, 1, 0.0), A, {"det": "h.b.one"}, "det"))
        await until(lambda count=frame + 1: len(sent) == count or running.done())
    assert not running.done()
    running.cancel()
    assert [[one.id.frame for one in sends] for sends in sent] == [[0], [1]]
    [record] = [one for one in caplog.records if one.name.startswith("hams")]
    assert str(error) in record.message
    assert bool(record.exc_info) == isinstance(error, ValueError)


async def test_a_stream_goes_on_where_a_result_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A task that is not ours answers with keys that JSON has not."""
    streams = {"cam": {"source": "push", "mode": "lossless"}}
    spec = group_spec(nodes=("det",), streams=streams, results={"format": "json"})
    record = group_record(spec)
    received: list[int] = []

    async def on_result(message: Message) -> None:
        received.append(codec.unpack(message.data)["frame"])

    async with InMemoryBus(MemoryServer()) as bus, asyncio.TaskGroup() as owner:
        await bus.subscribe(subjects.result("face"), on_result)
        group = DeployedGroup(bus, record, "_infer", tmp_path, SystemClock(), SharedMemoryPeers(""), Mailboxes(None))
        flow = group.runners["cam"].flow
        running = owner.create_task(flow.run())
        flow.reroute(Reroute("face", plan(1, {"det": "h.b.det"}, spec)), streams=1)
        for frame, key in enumerate([b"x", "x"]):
            flow.submit(Picture(np.zeros((8, 8, 3), np.uint8)), 0.0)
            flight = flow.core.flights[frame]
            assert flight.id is not None
            flow._take(output(flight.id, "det", [{key: 1}], [0]), 0.0)
            await until(lambda: flow.core.idle or running.done())
        await until(lambda: received)
        running.cancel()
    assert received == [1]
    ledger = flow.core.ledger
    assert (ledger.submitted, ledger.delivered, dict(ledger.dropped)) == (2, 1, {"internal": 1})
    flow.core.validate()
    assert "frame 0 failed" in flow.view("playing", "").text
    assert [one.levelname for one in caplog.records if one.name.startswith("hams")] == ["WARNING"]
