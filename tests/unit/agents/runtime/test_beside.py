"""Slow nodes run beside the device's lanes, and rest by their budget."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from hams_agents.runtime.beside import Beside
from hams_agents.runtime.executor import Executor
from hams_agents.runtime.progress import Progress
from hams_agents.runtime.served_node import ServedNode
from hams_agents.runtime.serving import Batch, Finished, Piece, Visit
from hams_agents.tasks.registry import build_task
from hams_shared.wire.frames import FrameId, Work
from support.build import group_spec, plan
from support.wait import until
from unit.agents.runtime.test_executor import Gated

BUDGET = 0.25


class Moments:
    """A clock that jumps to the end of each wait; a wait without an end calls `idle`."""

    def __init__(self) -> None:
        self.time = 100.0
        self.idle = lambda: None

    def now(self) -> float:
        return self.time

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        if timeout is None:
            condition.release()
            self.idle()
            condition.acquire()
        else:
            self.time += timeout


def piece(frame: int, node: str = "text", group: str = "one", network: Any = None) -> Piece:
    slow = {"parent": "det", "cadence": "track", "budget": BUDGET}
    spec = group_spec(group, nodes=("det", "text", "more")).model_dump(mode="json", exclude_unset=True)
    spec["nodes"]["det"]["track"] = {}
    spec["nodes"]["text"] |= slow
    spec["nodes"]["more"] |= slow
    of = plan(1, dict.fromkeys(spec["nodes"], "h.b.u"), type(group_spec()).model_validate(spec))
    one = of.group.spec.nodes[node]
    served = ServedNode("h.b.u", of, node, network or Gated(), build_task(one.task, one.input))
    image = np.zeros((1, 32, 32, 3), np.uint8)
    maps = np.array([[[1.0, 0, 0], [0, 1, 0]]])
    return Piece(served, Work(FrameId(group, "cam", frame, 0, 1, 0.0), node, image, maps, [0], (32, 32)), 0.0, Visit())


def run(pieces: list[Piece], spent: float) -> list[tuple[float, str, int]]:
    """When which work began, where each takes `spent` s."""
    clock, begun = Moments(), []
    loops: list[Any] = []

    def work(batch: Batch, _: Progress) -> float:
        one = batch.pieces[0]
        begun.append((clock.time, one.served.node, one.work.id.frame))
        clock.time += spent
        return spent

    beside = Beside(work, lambda _: None, lambda _, loop: loops.append(loop), lambda: None, clock)
    for one in pieces:
        assert beside.submit(one)
    clock.idle = beside.stop
    thread = threading.Thread(target=loops[0])
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert len(loops) == 1
    return begun


def test_a_node_rests_so_that_it_takes_its_budget() -> None:
    assert run([piece(0), piece(1), piece(2)], 2.0) == [(100.0, "text", 0), (108.0, "text", 1), (116.0, "text", 2)]


def test_while_one_rests_another_works() -> None:
    begun = run([piece(0), piece(1), piece(0, "more"), piece(1, "more")], 2.0)
    assert begun == [(100.0, "text", 0), (102.0, "more", 0), (108.0, "text", 1), (110.0, "more", 1)]


class Ending(Gated):
    """One that may be ended."""

    def end(self) -> None:
        self.gate.set()


@pytest.mark.parametrize("lanes", [1, 2])
async def test_lanes_work_on_while_a_slow_node_computes(lanes: int) -> None:
    done: list[Finished] = []
    executor = Executor(done.extend, lanes=lanes)
    executor.start()
    slow, fast = piece(0, network=Ending()), piece(7, "det")
    fast.served.network.gate.set()  # type: ignore[attr-defined]
    assert executor.submit(slow.served, slow.work, slow.visit)
    assert executor.submit(slow.served, piece(1).work, Visit())
    assert executor.submit(fast.served, fast.work, fast.visit)
    await until(lambda: [one.output.id.frame for one in done] == [7])
    await until(lambda: executor.waiting == 1)
    assert executor.stop(60)  # the one under way is ended, the other refused
    answers = {one.output.id.frame: one.output.error for one in done}
    assert answers[0] is None
    assert answers[1] is not None
    assert answers[1]["code"] == "refused"
    loads = {load.node: load for load in executor.loads()}
    assert (loads["text"].inferences, loads["text"].alone) == (1, 1)
    assert not executor.submit(slow.served, slow.work, slow.visit)
