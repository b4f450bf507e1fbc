"""A group is deployed anew while frames flow: only what changed is touched, and it counts from one frame on."""

from __future__ import annotations

import json
import threading
from functools import partial
from typing import Any

import cv2
import pytest

from hams_services.pipeline import stream
from hams_shared.bus.protocol import Message
from hams_shared.errors import InfeasibleError, RefusedError
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.pipeline import PipelineLoad
from support.world.stub import StubDevice
from support.world.system import Listener, System, boxes_and_light, light, picture, pictures, values

SOON_S = 1.0
"""A change that loads nothing is in force within this time, s."""


def tracked(**more: Any) -> dict[str, Any]:
    """A group whose detector has tracks, and whose child looks at them."""
    group = boxes_and_light(**more)
    group["nodes"]["find"] |= {"track": {"confirm_hits": 1}}
    group["nodes"]["find"]["task"]["threshold"] = 0.5
    return group


def changed(group: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The group with another value at a path such as ``nodes.find.task.threshold``."""
    found: dict[str, Any] = json.loads(json.dumps(group))
    *keys, last = path.split(".")
    place: Any = found
    for key in keys:
        place = place.setdefault(key, {})
    place[last] = value
    return found


CORNER = [[0.0, 0.0], [0.6, 0.0], [0.6, 0.6], [0.0, 0.6]]
CHANGES: list[tuple[str, Any]] = [
    ("nodes.find.task.threshold", 0.6),
    ("nodes.light.when", "score > 0.1"),
    ("nodes.light.cadence", 3),
    ("nodes.light.cadence", "track"),
    ("nodes.light.crop.enlarge", 1.2),
    ("nodes.find.cadence", 2),
    ("nodes.find.track.max_lost_s", 3.0),
    ("nodes.find.track.max_objects", 64),
    ("streams.s0.zones", {"corner": CORNER}),
    ("events.rules", {"stays": {"zones": ["corner"], "min_age_s": 0.2}}),
    ("streams.s0.zones", {"corner": CORNER, "all": [[0, 0], [1, 0], [1, 1], [0, 1]]}),
    ("streams.s0.lines", {"across": [[0.0, 0.5], [1.0, 0.5]]}),
    ("streams.s0.mask", [[[0.9, 0.0], [1.0, 0.0], [1.0, 0.1]]]),
    ("streams.s0.roi", [0.0, 0.0, 1.0, 1.0]),
    ("streams.s0.tiles", {"grid": [1, 1]}),
    ("target_fps", 10.0),
    ("priority", 3),
    ("share", 2.0),
    ("in_flight", 6),
    ("deadline_s", 7.0),
    ("nodes.light.max_wait_ms", 5.0),
    ("nodes.light.min_agreement", 0.9),
]
"""One after another, each kept."""


async def serving(world: System, group: dict[str, Any], *, fps: float = 0.0) -> Listener:
    """Deploy a group on a box, and feed it."""
    await world.deploy(group)
    results = await world.listen(group["name"])
    world.play(group["name"], fps=fps)
    await world.until(lambda: len(results.received) >= 5)
    return results


async def more(world: System, results: Listener, count: int = 10) -> None:
    seen = len(results.received)
    await world.until(lambda: len(results.received) >= seen + count)


async def in_force(world: System, results: Listener) -> int:
    """Wait until frames come under the newest plan; return how many there are by then."""
    active = (await world.group(results.group)).active
    assert active is not None
    await world.until(lambda: results.received[-1].data["epoch"] >= active.epoch)
    return len(results.received)


async def test_what_needs_no_other_network_changes_between_two_frames(world: System) -> None:
    device = StubDevice(fps=200, load_s=0.5)
    await world.box(a=device)
    group = tracked()
    results = await serving(world, group)
    loads = len(device.lanes)
    for path, value in CHANGES:
        group = changed(group, path, value)
        began = world.clock.now()
        await world.deploy(group)
        assert world.clock.now() - began <= SOON_S, path
        await in_force(world, results)
        await more(world, results, 3)
    results.check(one_owner=False)  # every frame once and in order
    assert [int(r.data["epoch"]) for r in results.received] == sorted(int(r.data["epoch"]) for r in results.received)
    assert len(device.lanes) == loads, "something was loaded or measured anew"
    assert len({r.data["run"] for r in results.received}) == 1
    tracks = [tuple(one["track"] for one in r.data["objects"]) for r in results.received]
    assert set(filter(None, tracks)) == {(1, 2)}
    view = await world.stream()
    assert not view.dropped
    assert not view.failed


async def test_a_live_stream_drops_no_frame_for_another_threshold(world: System) -> None:
    device = StubDevice(fps=200)
    await world.box(a=device)
    group = boxes_and_light({"mode": "live"})
    results = await serving(world, group, fps=25)
    loads = len(device.lanes)
    for threshold in (0.95, 0.5):  # the stub's objects have a score of 0.9
        began = world.clock.now()
        await world.deploy(changed(group, "nodes.find.task.threshold", threshold))
        await world.until(partial(_found, results, 0 if threshold > 0.9 else 2), within=2)
        assert world.clock.now() - began <= SOON_S
        await more(world, results, 25)
    assert len(device.lanes) == loads
    assert not (await world.stream()).dropped
    results.check()


async def test_the_rules_of_a_frame_are_those_of_its_plan(world: System) -> None:
    await world.box(a=StubDevice(fps=100))
    group = tracked()
    await world.deploy(group)
    results = await world.listen()
    world.play()
    await world.until(lambda: len(results.received) >= 5)
    await world.deploy(changed(group, "streams.s0.zones", {"corner": CORNER}))
    await in_force(world, results)
    await more(world, results)
    seen = {("zones" in o, r.data["group_version"]) for r in results.received for o in r.data["objects"]}
    assert seen == {(False, 1), (True, 2)}


def _found(results: Listener, count: int) -> bool:
    return len(results.received[-1].data["objects"]) == count


# ── networks and graphs ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", ["lossless", "live"])
async def test_another_network_is_loaded_beside_the_one_that_serves(world: System, mode: str) -> None:
    await world.box(a=StubDevice(fps=100, load_s=3))
    group = light({"mode": mode})
    results = await serving(world, group, fps=20)
    began, seen = world.clock.now(), len(results.received)
    await world.deploy(light({"mode": mode}, node={"model": "brightness +300"}))
    took = world.clock.now() - began
    assert took > 3
    assert len(results.received) - seen > 0.9 * 20 * (took - 3)  # frames are served; a benchmark may disturb
    await world.until(lambda: values(results.received)[-1] >= 300)
    await more(world, results)
    added = [int(value) // 300 for value in values(results.received)]
    assert added == sorted(added)
    results.check(whole=mode == "lossless")
    assert not (await world.stream()).failed


async def test_nodes_are_added_and_removed_while_frames_flow(world: System) -> None:
    device = StubDevice(fps=200)
    await world.box(a=device)
    group = tracked()
    results = await serving(world, group)
    two = changed(group, "nodes.more", {**group["nodes"]["light"], "cadence": "track"})
    await world.deploy(two)
    seen = await in_force(world, results)
    await more(world, results)
    assert all("more" in one for one in results.received[-1].data["objects"])
    await world.deploy(changed(group, "streams.s0.zones", {"corner": CORNER}))
    await in_force(world, results)
    await more(world, results)
    assert not any("more" in one for one in results.received[-1].data["objects"])
    results.check(one_owner=False)
    tracks = {tuple(one["track"] for one in r.data["objects"]) for r in results.received}
    assert tracks - {()} == {(1, 2)}
    assert seen


async def test_what_cannot_be_carried_out_leaves_the_group_as_it_was(world: System) -> None:
    await world.box(a=StubDevice(fps={"brightness": 50.0}))
    results = await serving(world, light())
    epoch = results.received[-1].data["epoch"]
    with pytest.raises(InfeasibleError, match="does not run boxes"):
        await world.deploy(light(node={"model": "boxes"}))
    await more(world, results)
    with pytest.raises(InfeasibleError, match="there is no such device"):
        await world.deploy(light(node={"pin": ["nowhere"]}))
    await more(world, results)
    assert results.received[-1].data["epoch"] == epoch
    await world.deploy(light(node={"task": {"type": "regression", "scale": 2.0}}))
    await in_force(world, results)
    results.check()


# ── streams ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_stream_comes_and_goes_and_the_others_notice_nothing(world: System) -> None:
    await world.box(a=StubDevice(fps=200))
    results = await serving(world, light())
    await world.deploy(light(streams=2))
    other = world.play(stream="s1")
    await world.until(lambda: {"s0", "s1"} <= {r.stream for r in results.received})
    await world.deploy(light())
    await world.until(lambda: other.refused)
    await more(world, results)
    await world.deploy(light(streams=2))
    before = len(results.received)
    await world.until(lambda: "s1" in {r.stream for r in results.received[before:]})
    frames = [r.frame for r in results.received if r.stream == "s0"]
    assert frames == list(range(len(frames)))
    assert not (await world.stream()).dropped


async def test_a_paused_stream_takes_no_frame_and_goes_on_with_its_numbers(world: System) -> None:
    await world.box(a=StubDevice(fps=100))
    group = light(streams=2)
    results = await serving(world, group)
    await world.deploy(changed(group, "streams.s0.paused", True))
    await world.until(lambda: _state(world, "paused"))
    with pytest.raises(RefusedError, match=r"stream grey/s0 is paused"):
        await world.hams.push("grey", "s0", picture(1))
    await world.until(lambda: _idle(world))
    before = await world.stream()
    await world.hams.push("grey", "s1", picture(1))
    await world.later(3)
    assert (await world.stream()).submitted == before.submitted
    await world.deploy(group)
    await world.until(lambda: results.received[-1].stream == "s0")
    await more(world, results)
    frames = [r.frame for r in results.received if r.stream == "s0"]
    assert frames == list(range(len(frames)))


async def _state(world: System, state: str) -> bool:
    return (await world.stream()).state == state


async def _idle(world: System) -> bool:
    view = await world.stream()
    return view.in_flight == 0


async def test_a_paused_file_goes_on_where_it_was(world: System) -> None:
    folder = pictures(world.folder / "pictures", range(60))
    await world.box(a=StubDevice(fps=40))
    group = light({"source": str(folder), "pace": "max"}, in_flight=2)
    await world.deploy(changed(group, "streams.s0.paused", True))
    results = await world.listen()
    read_s: list[float] = []

    async def on_load(message: Message) -> None:
        read_s.append(codec.decode(PipelineLoad, message.data).streams[0].read_cpu_s)

    await world.bus.subscribe(subjects.pipeline_load(), on_load)
    for _ in range(3):
        await world.deploy(group)
        await more(world, results, 5)
        await world.deploy(changed(group, "streams.s0.paused", True))
        await world.until(lambda: _state(world, "paused"))
        count = len(read_s)
        await world.until(lambda least=count + 2: len(read_s) >= least)
    await world.deploy(group)
    await world.until(lambda: len(results.received) == 60)
    await world.until(lambda: _state(world, "ended"))
    results.check()
    assert values(results.received) == [float(picture(n)[0, 0, 0]) for n in range(60)]
    assert read_s == sorted(read_s)
    assert read_s[-1] > 0


async def test_a_folder_that_is_another_one_after_a_pause_begins_anew(world: System) -> None:
    folder = pictures(world.folder / "pictures", range(30))
    await world.box(a=StubDevice(fps=40))
    group = light({"source": str(folder), "pace": "max"}, in_flight=2)
    await world.deploy(group)
    results = await world.listen()
    await more(world, results, 5)
    await world.deploy(changed(group, "streams.s0.paused", True))
    await world.until(lambda: _state(world, "paused"))
    await world.until(lambda: _idle(world))
    await world.later(0.5)
    before = len(results.received)
    for path in folder.iterdir():
        path.unlink()
    pictures(folder, range(50, 53))
    await world.deploy(group)
    await world.until(lambda: _state(world, "ended"))
    await world.until(lambda: len(results.received) == before + 3)
    results.check()
    assert values(results.received[before:]) == [float(picture(n)[0, 0, 0]) for n in (50, 51, 52)]


class Hanging:
    """A source whose reads return nothing until it is released."""

    def __init__(self, source: Any) -> None:
        self.reads, self.released = threading.Event(), threading.Event()
        self._source = source

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def read(self, _into: Any = None) -> None:
        """Hang."""
        self.reads.set()
        self.released.wait(60)


async def test_of_two_changes_while_a_source_is_closed_the_newer_one_counts(
    world: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, opened, really = world.folder / "pictures", [], stream.open_source
    folder.mkdir()
    cv2.imwrite(str(folder / "1.png"), picture(1))

    def open_source(*args: Any) -> Any:
        source = really(*args)
        opened.append(source if opened else Hanging(source))
        return opened[-1]

    monkeypatch.setattr(stream, "open_source", open_source)
    await world.box(a=StubDevice(fps=100))
    group = light({"source": str(folder), "loop": True})
    await world.deploy(group)
    await world.until(lambda: opened and opened[0].reads.is_set())
    for paused in (True, False):
        record, _ = world.record(changed(group, "streams.s0.paused", paused))
        await world.control.deploy(record)
        await world.until(partial(_is_of, world, record.deployed_at))
    assert len(opened) == 1  # it is still being closed
    await world.until(lambda: _delivers(world))  # the first source gives no frame
    assert (await world.stream()).state == "playing"
    opened[0].released.set()


async def _is_of(world: System, deployed_at: float) -> bool:
    return (await world.stream()).deployed_at == deployed_at


async def _delivers(world: System) -> bool:
    return (await world.stream()).delivered > 0


@pytest.mark.parametrize("mode", ["live", "lossless"])
async def test_a_stream_becomes_live_or_lossless_and_its_frame_numbers_go_on(world: System, mode: str) -> None:
    await world.box(a=StubDevice(fps=20))
    other = {"live": "lossless", "lossless": "live"}[mode]
    results = await serving(world, light({"mode": mode}), fps=25)
    await world.deploy(light({"mode": other}))
    before = await world.stream()
    await more(world, results, 30)
    after = await world.stream()
    results.check(whole=False)
    assert after.submitted > before.submitted
    assert not after.failed
    if other == "lossless":
        last = results.frames[-20:]
        assert last == list(range(last[0], last[0] + 20))


async def test_another_source_is_opened_and_frame_numbers_go_on(world: System) -> None:
    folders = [world.folder / name for name in ("first", "second")]
    for add, folder in enumerate(folders):
        folder.mkdir()
        for number in range(30):
            cv2.imwrite(str(folder / f"{number:03}.png"), picture(number + 30 * add))
    await world.box(a=StubDevice(fps=40))
    results = None
    for folder in folders:
        await world.deploy(light({"source": str(folder), "pace": "max"}))
        results = results or await world.listen()
        await world.until(lambda: _state(world, "ended"))
    assert results is not None
    frames = results.frames
    assert frames == list(range(frames[0], 60))
    assert values(results.received)[-30:] == [float(picture(n)[0, 0, 0]) for n in range(30, 60)]


async def test_a_group_that_is_undeployed_meanwhile_is_deployed_anew(world: System) -> None:
    await world.box(a=StubDevice(fps=100))
    results = await serving(world, light())
    await world.control.undeploy("grey")
    await world.deploy(light(node={"model": "brightness +300"}))
    await world.until(lambda: values(results.received)[-1] >= 300)
    starts = [n for n, frame in enumerate(results.frames) if frame == 0]
    assert len(starts) == 2
