"""Groups that leave work out, from deploy to serving: plans, predictions and rates count frames of the group."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hams_scheduler import plan_switching
from hams_scheduler.events import GroupSeen, HeartbeatSeen, PipelineSeen, Solve, Tick
from hams_scheduler.learning import BROKER_PART, FRAME_S, OUTPUT_S
from hams_scheduler.offline import answers
from hams_scheduler.plan_answers import answer
from hams_scheduler.view import scheduler_view
from hams_shared.group.spec import parse_group
from hams_shared.wire.messages.agents import NodeLoad
from hams_shared.wire.messages.pipeline import PipelineLoad, StreamLoad
from hams_shared.wire.messages.plan import Plan
from support.build import device, group_record, group_spec, heartbeat
from unit.scheduler.test_scheduler_core import ONE, TWO, World


def deployed(every: int | None = 5, **child: Any) -> World:
    """The detector takes 100 ms, its child 10 ms, on one device each."""
    world = World(ONE, TWO)
    world.fps = {("det", ONE.device): 10.0, ("det", TWO.device): 1.0, ("age", ONE.device): 1.0}
    world.fps["age", TWO.device] = 100.0
    data = group_spec(strategy="mfs").model_dump(mode="json", exclude_unset=True)
    data["nodes"]["det"] |= {"track": {}, "cadence": every} if every else {}
    data["nodes"]["age"] |= child
    data["streams"] = {"cam": {"source": "rtsp://camera/1"}}
    world.do(GroupSeen("face", group_record(parse_group(data))))
    world.wait(2.0)
    return world


def active(world: World) -> Plan:
    plan = world.state.plans.records["face"].active
    assert plan is not None
    return plan


def serve(world: World, seconds: int, *, frames: float, det: float, age: float, det_s: float = 0.1) -> None:
    """`frames`, and pieces of `det` and `age`, a second; an inference of `det` takes `det_s`."""
    began, epoch = world.now, active(world).epoch
    for second in range(seconds + 1):
        world.now = began + second
        for name, node, count, busy in ((ONE.device, "det", det, det_s), (TWO.device, "age", age, 0.01)):
            done = int(count * second)
            load = NodeLoad(group="face", node=node, frames=done, inferences=done, batches=done, busy_s=busy * done)
            beat = heartbeat(name, ("face", epoch), incarnation=world.incarnation[name])
            world.do(HeartbeatSeen(beat.model_copy(update={"nodes": (load,), "uptime_s": 100.0 + second})))
        stream = StreamLoad(group="face", stream="cam", frames=int(frames * second), completed=int(frames * second))
        world.do(PipelineSeen(PipelineLoad(host="h", incarnation="p", uptime_s=1 + second, cpu_s=0, streams=(stream,))))
        world.do(Tick())


@pytest.mark.parametrize(
    ("every", "child", "fps", "pieces"),
    [
        (None, {}, 10.0, {}),
        (1, {}, 10.0, {}),
        (5, {}, 50.0, {"det": 0.2, "age": 0.2}),
        (20, {"cadence": "track"}, 200.0, {"det": 0.05, "age": 0.1}),
        (None, {"when": "score > 0.6"}, 10.0, {}),
    ],
)
def test_a_plan_counts_frames_of_the_group(every: int | None, child: dict[str, Any], fps: float, pieces: dict) -> None:
    world = deployed(every, **child)
    plan = active(world)
    assert plan.fps == pytest.approx(fps, rel=0.04)  # messages take some time, too
    assert plan.pieces == pieces
    assert ("inferences per frame" in plan.explanation["det"]) == bool(pieces)


def test_serving_as_expected_is_no_drift_and_shown_in_frames() -> None:
    world = deployed()
    world.wait(plan_switching.MIN_DWELL_S)
    before = world.count(Solve)
    serve(world, 60, frames=50, det=10, age=10)
    [view] = scheduler_view(world.state, world.now).groups
    assert view.measured_fps == pytest.approx(50.0, rel=0.02)
    assert view.predicted_fps == pytest.approx(50.0, rel=0.02)
    assert view.expected_fps == pytest.approx(50.0, rel=0.05)
    assert view.weights == pytest.approx({"det": 0.2, "age": 0.2}, rel=0.02)
    assert world.count(Solve) == before


def test_a_quiet_scene_that_needs_less_than_expected_is_learned() -> None:
    """25 frames/s of a camera, of which the detector looks at one in 25: it could do 250."""
    world = deployed()
    serve(world, 200, frames=25, det=1, age=0.5)
    [view] = scheduler_view(world.state, world.now).groups
    assert view.measured_fps == pytest.approx(25.0, rel=0.02)
    assert view.expected_fps == pytest.approx(250.0, rel=0.15)
    assert view.expected_why.endswith("its streams bring no more, or wait elsewhere")
    assert view.weights["det"] == pytest.approx(0.04, rel=0.1)


def test_a_plan_says_what_the_rules_save_and_what_was_measured() -> None:
    world = deployed()
    record = world.state.groups.records["face"]
    found = answer(world.state.snapshot([record], "hfs"))
    assert found.explanation["det"].endswith("runs on every 5th frame: 0.2 of 1.0 inferences per frame, expected")
    serve(world, 60, frames=50, det=10, age=20)
    found = answer(world.state.snapshot([record], "hfs"))
    assert found.explanation["det"].endswith("runs on every 5th frame: 0.2 of 1.0 inferences per frame")
    assert ": 0.39" in found.explanation["age"]


def test_a_saved_matrix_knows_what_is_left_out() -> None:
    """What `matrix --json` prints tells `plan --instance --max-streams` how many streams fit."""
    plain = json.loads(scheduler_view(deployed(None).state, 0.0).matrix.model_dump_json())
    assert plain["weights"] is None
    saved = json.loads(scheduler_view(deployed(5).state, 0.0).matrix.model_dump_json())
    assert saved["weights"] == [0.2, 0.2]
    counts = [answers(data, ("hfs",), 1.0, stream_fps=5.0)[0]["max_streams"] for data in (plain, saved)]
    assert counts == [2, 10]


def test_what_is_left_out_is_not_joined_but_tracked() -> None:
    world = deployed(5)
    [group] = world.state.groups.sorted()
    snapshot = world.state.snapshot([group], "hfs")
    plain = deployed(None)
    [other] = plain.state.groups.sorted()
    before = plain.state.snapshot([other], "hfs").frames["face"]
    assert snapshot.frames["face"] == pytest.approx(before - 2 * 0.8 * OUTPUT_S + 0.0004)
    assert before > FRAME_S * (1 - BROKER_PART)


def test_a_device_that_comes_back_finds_the_same_numbers() -> None:
    """Plans that are kept for losses depend on what is left out as plans do."""
    world = World(ONE, TWO, device("h.ov.cpu2", cores=(2,)))
    assert world.state.devices.alive()
    numbers = deployed(5).state
    table = numbers.learned_numbers(numbers.groups.sorted(), numbers.devices.alive()).table()
    assert table["weight", "face", "det"] == 0.2
