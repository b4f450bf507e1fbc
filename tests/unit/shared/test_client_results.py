"""What the client hands to applications: plain values with types, and errors that say what to do."""

from __future__ import annotations

import asyncio
import json

import pytest

from hams_client import Hams, NoResultError, Object
from hams_client.sync import SyncHams
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.memory.server import MemoryServer
from hams_shared.errors import HamsError, from_wire

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

    bus = asyncio.run_coroutine_threadsafe(run(), loop).result(5)
    hams = SyncHams(Hams(bus), loop)
    arguments = ("face",) if call == "results" else ("face", "age")
    with pytest.raises(NoResultError, match=f"no {what} came for 0.05 s .*hams-ctl status") as caught:
        next(getattr(hams, call)(*arguments, timeout=0.05))
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, HamsError)
    assert type(from_wire(caught.value.to_wire())) is NoResultError
    asyncio.run_coroutine_threadsafe(bus.__aexit__(None, None, None), loop).result(5)


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
