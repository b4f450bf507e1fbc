"""Work that cannot be packed is lost to its own frame only."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hams_services.pipeline.flight import Send
from hams_services.pipeline.flow import Flow
from hams_shared.errors import BrokerError
from hams_shared.wire.frames import FrameId
from support.build import plan
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
    [record] = caplog.records
    assert str(error) in record.message
    assert bool(record.exc_info) == isinstance(error, ValueError)
