"""Frames with a reduced picture: the root sees that one, crops are of the large frame, wherever the devices are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hams_services.ctl.system.broker import check_port
from hams_services.pipeline.flow import Flow
from hams_services.pipeline.sources.base import Picture
from hams_shared.bus.chunks import Assembler
from hams_shared.bus.protocol import Message
from hams_shared.wire import codec
from hams_shared.wire.frame_pool import FOLDER
from support.world.system import Listener, System, boxes_and_light, light

NEAR, FAR = "box.stub.sim", "far.stub.sim"
LARGE, SMALL = (96, 64), (24, 16)
COUNT = 12


def large(number: int) -> np.ndarray:
    """A frame whose two objects are grey of other values than the reduced picture is."""
    return np.full((LARGE[1], LARGE[0], 3), 100 + number, np.uint8)


async def serving(world: System, memory: Path, group: dict[str, Any]) -> tuple[Flow, Listener, list[dict[str, Any]]]:
    """Two hosts that serve `group`, and the flow of its stream; what is sent to its root is noted."""
    world.scheduler()
    pipeline = world.pipeline()
    world.agent("sim")
    world.agent("sim", host="far", memory=memory)
    await world.alive(2)
    await world.deploy(group)
    sent: list[dict[str, Any]] = []
    assembler = Assembler()

    async def note(message: Message) -> None:
        data = assembler.take(message.data, world.clock.now())
        if data is not None:
            sent.extend(work for work in codec.unpack(data) if "reduced" in work)

    await world.bus.subscribe("hams.v1.work.>", note)
    results = await world.listen()
    return pipeline.service._groups["grey"].flows["s0"], results, sent


async def play(world: System, flow: Flow, results: Listener, grey: int = 50) -> None:
    """Submit frames with a reduced picture of value `grey`, and wait for all results."""
    for number in range(COUNT):
        await world.until(lambda: flow.core.wants_frame)
        small = np.full((SMALL[1], SMALL[0], 3), grey, np.uint8)
        flow.submit(Picture(large(number), captured=1e9 + number, reduced=small), float(number))
    await world.until(lambda: len(results.received) == COUNT)
    results.check()
    for number, one in enumerate(results.received):
        assert (one.data["captured"], one.data["media_time_s"]) == (1e9 + number, number)
        assert (one.data["width"], one.data["height"]) == LARGE


@pytest.mark.parametrize("root", [NEAR, FAR])
@pytest.mark.parametrize("child", [NEAR, FAR])
async def test_boxes_and_crops_are_those_of_the_large_frame_on_any_host(
    world: System, tmp_path: Path, root: str, child: str
) -> None:
    group = boxes_and_light()
    group["nodes"]["find"]["pin"], group["nodes"]["light"]["pin"] = [root], [child]
    flow, results, sent = await serving(world, tmp_path, group)
    await play(world, flow, results)
    for one in results.received:
        assert [tuple(o["box"]) for o in one.objects] == [(0, 0, 48, 32), (48, 32, 96, 64)]
        assert [o["light"]["value"] for o in one.objects] == pytest.approx([100 + one.frame] * 2, abs=0.5)
    assert len(sent) == COUNT
    for work in sent:
        assert work["node"] == "find"
        assert work["reduced"]["shape"] == [1, SMALL[1], SMALL[0], 3]
        assert work["images"]["shape"] == [1, LARGE[1], LARGE[0], 3]
        assert ("pointer" in work["images"]) == ("pointer" in work["reduced"]) == (root == NEAR)


async def test_the_root_looks_at_the_reduced_picture(world: System, tmp_path: Path) -> None:
    flow, results, _ = await serving(world, tmp_path, boxes_and_light())
    await play(world, flow, results, grey=0)
    assert [one.objects for one in results.received] == [[]] * COUNT  # the stub finds nothing in a black picture


@pytest.mark.parametrize("device", [NEAR, FAR])
async def test_where_nobody_cuts_crops_only_the_reduced_picture_is_sent(
    world: System, tmp_path: Path, device: str
) -> None:
    flow, results, sent = await serving(world, tmp_path, light(node={"pin": [device]}))
    await play(world, flow, results)
    for one in results.received:
        [whole] = one.objects
        assert whole["light"]["value"] == pytest.approx(50, abs=0.5)
        assert tuple(whole["box"]) == (0, 0, *LARGE)
    for work in sent:
        assert (work["images"]["shape"], work["images"].get("pixels", b"")) == ([1, 0, 0, 3], b"")
        assert ("pointer" in work["reduced"]) == (device == NEAR)


async def test_pictures_on_request_are_of_the_large_frame(world: System) -> None:
    flow, results, _ = await serving(world, FOLDER, light(node={"pin": [NEAR]}))
    shown: list[np.ndarray] = []

    async def show(message: Message) -> None:
        picture = codec.unpack(message.data)
        shown.append(cv2.imdecode(np.frombuffer(picture["jpeg"], np.uint8), cv2.IMREAD_COLOR))

    await world.bus.subscribe("hams.v1.picture.>", show)
    flow.taps.show(90)
    await play(world, flow, results)
    await world.until(lambda: len(shown) == COUNT)
    assert {image.shape for image in shown} == {(LARGE[1], LARGE[0], 3)}


async def test_the_memory_of_both_pictures_is_freed(world: System, tmp_path: Path) -> None:
    flow, results, _ = await serving(world, tmp_path, boxes_and_light())
    await play(world, flow, results)
    assert flow._reduced._held == {} == flow.frames._held
    segments = [store._pool._path for store in (flow.frames, flow._reduced) if store._pool is not None]
    assert [segment.exists() for segment in segments] == [True, True]
    await world.control.undeploy("grey")
    await world.until(lambda: not any(segment.exists() for segment in segments))


async def test_the_secrets_of_both_addresses_are_shown_nowhere(world: System, caplog: pytest.LogCaptureFixture) -> None:
    secrets = ["mainPass1", "tok3nMain", "subPass2", "tok3nSub"]
    stream = {
        "mode": "live",
        "source": f"rtsp://admin:{secrets[0]}@127.0.0.1:{check_port('127.0.0.1', 0)}/main?token={secrets[1]}",
        "substream": f"rtsp://admin:{secrets[2]}@127.0.0.1:{check_port('127.0.0.1', 0)}/sub?token={secrets[3]}",
    }
    world.scheduler()
    world.pipeline()
    world.agent("sim")
    await world.alive(1)
    record = await world.deploy(light(stream))

    async def lost() -> bool:
        return (await world.stream()).state == "reconnecting"

    await world.until(lost)
    plan = await world.control.plan([record], ("hfs",), 1.0)
    shown = [await world.view(), await world.control.streams(), await world.group(), plan]
    texts = [one.model_dump_json() for one in shown] + [repr(one) for one in shown] + [caplog.text]
    assert "127.0.0.1" in texts[0]  # the plan with its addresses
    assert "/main" in texts[0]
    assert "/sub" in texts[0]
    for secret in secrets:
        assert not [text for text in texts if secret in text], secret
