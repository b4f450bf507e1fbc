"""The agent's data plane on its event loop: answers that wait leave in time, and work of a node that was dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from hams_agents import core
from hams_agents.runtime import data_plane
from hams_agents.runtime.data_plane import HELD_S, DataPlane
from hams_agents.runtime.serving import Finished, Visit
from hams_shared.bus import chunks
from hams_shared.bus.mailbox import Mailboxes
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.memory.server import MemoryServer
from hams_shared.bus.protocol import Message
from hams_shared.runtime.clock import SYSTEM_CLOCK
from hams_shared.wire import subjects
from hams_shared.wire.frame_pool import FrameReader
from hams_shared.wire.frames import FrameId, Output, Work, unpack_outputs
from hams_shared.wire.messages.plan import PlanRecord
from support.build import group_spec, plan
from support.wait import until

DEVICE = "h.b.u"


class Busy:
    """An executor that has enough to do, and does nothing."""

    behind = True

    def submit(self, *_: object) -> bool:
        return True


class Nodes:
    """Loaded nodes; `dropped` is what was dropped between two steps of a lane."""

    def __init__(self, **nodes: object) -> None:
        self.nodes = {("g", 1, node): served for node, served in nodes.items()}


def output(frame: int) -> Output:
    return Output(FrameId("g", "cam", frame, 0, 1, 0.0), "face", DEVICE, [])


@contextmanager
def made(bus: InMemoryBus, loaded: Any, state: core.AgentState | None = None) -> Iterator[DataPlane]:
    mailboxes = Mailboxes(None)
    executor: Any = Busy()
    there = state or core.AgentState(DEVICE)
    yield DataPlane(bus, mailboxes, FrameReader(), there, loaded, lambda _: executor, SYSTEM_CLOCK)
    mailboxes.close()


async def test_an_answer_that_is_held_leaves_in_time_though_nothing_else_is_finished(monkeypatch: Any) -> None:
    """A heavy network computes for long; only the next end, or the tick of 0.5 s, sent what was held."""
    monkeypatch.setattr(data_plane, "QUICK_S", 60.0)  # on a starved machine, too, they follow each other quickly
    frames: list[int] = []
    assembler = chunks.Assembler()

    async def heard(message: Message) -> None:
        data = assembler.take(message.data, SYSTEM_CLOCK.now())
        frames.extend(one.id.frame for one in unpack_outputs(data or b"\x90"))

    async with InMemoryBus(MemoryServer()) as bus:
        await bus.subscribe(subjects.answer("g", "cam"), heard)
        with made(bus, Nodes()) as data:
            running = asyncio.ensure_future(data.run())
            for frame in range(4):
                began = SYSTEM_CLOCK.now()
                await asyncio.to_thread(data._deliver, [Finished(Visit(left=1), output(frame))])
                await until(lambda frame=frame: frames == list(range(frame + 1)))  # type: ignore[misc]
                assert frame == 0 or SYSTEM_CLOCK.now() - began >= HELD_S / 2  # it did wait for others
            assert not data._timed
            running.cancel()


async def test_a_node_that_is_dropped_as_work_comes_is_a_refusal() -> None:
    """The plan is deleted on the event loop while a lane is between admission and its look for the node."""
    state, of = core.AgentState(DEVICE), plan(1, {"face": DEVICE}, group_spec("g", ("face",)))
    core.step(state, core.PlanSeen("g", PlanRecord(group="g", active=of)), 0.0)
    core.step(state, core.NodeLoaded("g", 1, "face", None), 0.0)
    image, to_frame = np.zeros((1, 2, 2, 3), np.uint8), np.zeros((1, 2, 3))
    work = Work(FrameId("g", "cam", 0, 0, 1, 0.0), "face", image, to_frame, [0], (2, 2))
    async with InMemoryBus(MemoryServer()) as bus:
        with made(bus, Nodes(face=object()), state) as data:
            assert data._accept(work, Visit()) is None
        with made(bus, Nodes(), state) as data:
            refusal = data._accept(work, Visit())
    assert refusal is not None
    assert refusal.code == "refused"
    assert refusal.text == f"{DEVICE} does not serve node face any more"
