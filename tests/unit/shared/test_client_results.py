"""What the client hands to applications: plain values with types, and errors that say what to do."""

from __future__ import annotations

import asyncio
import json

import pytest

from hams_client import Hams, NoResultError, Object, Result, kept
from hams_client.sync import SyncHams
from hams_shared.bus.chunks import split
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.memory.server import MemoryServer
from hams_shared.bus.protocol import Message
from hams_shared.errors import HamsError, from_wire
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.results import ResultsAnswer, ResultsRequest, StoredResult
from support.wait import PATIENCE

FACE = Object({"box": [1, 2.5, 11, 22.5], "score": 0.9, "label": "face", "age": {"value": 31.0, "unit": "years"}})


def test_a_box_is_json_and_four_numbers() -> None:
    x0, y0, x1, y1 = FACE.box
    assert (x0, y0, x1, y1) == (1.0, 2.5, 11.0, 22.5)
    assert (FACE.box.width, FACE.box.height, FACE.box.x1) == (10.0, 20.0, 11.0)
    assert json.loads(json.dumps({"box": FACE.box})) == {"box": [1.0, 2.5, 11.0, 22.5]}


def test_what_a_node_said() -> None:
    age = FACE.prediction("age")
    assert age is not None
    assert age["value"] == FACE["age"]["value"] == 31.0
    assert FACE.prediction("gender") is None
    assert FACE.data["age"]["unit"] == "years"


@pytest.mark.parametrize(("call", "what"), [("results", "result of face"), ("tap", "output of face/age")])
def test_a_timeout_is_a_named_error(loop: asyncio.AbstractEventLoop, call: str, what: str) -> None:
    async def run() -> InMemoryBus:
        return await InMemoryBus(MemoryServer()).__aenter__()

    bus = asyncio.run_coroutine_threadsafe(run(), loop).result(5 * PATIENCE)
    hams = SyncHams(Hams(bus), loop)
    arguments = ("face",) if call == "results" else ("face", "age")
    with pytest.raises(NoResultError, match=f"no {what} came for 0.05 s .*hams-ctl status") as caught:
        next(getattr(hams, call)(*arguments, timeout=0.05))
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, HamsError)
    assert type(from_wire(caught.value.to_wire())) is NoResultError
    asyncio.run_coroutine_threadsafe(bus.__aexit__(None, None, None), loop).result(5 * PATIENCE)


def test_tracks_are_typed_and_absent_without_them() -> None:
    plain = Object({"box": [0, 0, 1, 1], "score": 1.0, "label": "x"})
    assert (plain.track, plain.age_s, plain.velocity, plain.predicted, plain.zones) == (
        None,
        0.0,
        (0.0, 0.0),
        False,
        (),
    )
    more = {
        "track": 3,
        "age_s": 2.5,
        "velocity": [1, -2],
        "predicted": True,
        "zones": ["yard"],
        "skipped": {"age": "when"},
    }
    tracked = Object({**plain, **more})
    assert (tracked.track, tracked.age_s, tracked.velocity) == (3, 2.5, (1.0, -2.0))
    assert (tracked.predicted, tracked.zones, tracked.skipped("age"), tracked.skipped("who")) == (
        True, ("yard",), "when", None,
    )  # fmt: skip


class Clock:
    """An hour passes between any two looks at it."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 3600.0
        return self.now


async def read_stored(bus: InMemoryBus, stored_messages: list[bytes]) -> list[Result]:
    """Read kept results of the group `g` that lie in the broker as `stored_messages`."""

    async def answer(message: Message) -> None:
        after = codec.decode(ResultsRequest, message.data).after or 0
        found = tuple(StoredResult(sequence=n, result=data) for n, data in enumerate(stored_messages, 1) if n > after)
        page = ResultsAnswer(results=found[:5], after=after + len(found[:5]), journal="j", more=len(found) > 5)
        await message.respond(codec.encode(page))

    await bus.subscribe(subjects.results_after("g"), answer)
    return [one async for one in Hams(bus).kept_results("g", after=0, follow=False)]


async def test_the_parts_of_a_stored_result_may_be_read_at_any_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "time", Clock(), raising=False)
    large = codec.pack({"stream": "s", "frame": 7, "objects": [], "extra": "x" * 4000})
    async with InMemoryBus() as bus:
        assert [one.frame for one in await read_stored(bus, split(large, 700))] == [7]


async def test_a_result_left_half_stored_does_not_hold_the_readers_place_for_long() -> None:
    small = [codec.pack({"stream": "s", "frame": n, "objects": []}) for n in range(kept.PARTS_WITHIN + 2)]
    async with InMemoryBus() as bus:
        found = await read_stored(bus, [*split(b"x" * 4000, 700)[:2], *small])
    assert [one.frame for one in found] == list(range(len(small)))
    assert found[0].sequence == 0
    assert found[-1].sequence == len(small) + 2
