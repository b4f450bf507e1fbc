"""Frames of groups that leave some work out: counted by the pipeline, while agents count what they did."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_scheduler.expected_work import follow_s
from hams_scheduler.frame_counts import SILENT_S, FrameCounts, GroupFrames, new_frames
from hams_scheduler.known_work import known_work
from hams_scheduler.learning import BROKER_PART, CPU_PRIOR, FRAME_S, OUTPUT_S, Learned
from hams_scheduler.ratio import Ratio
from hams_shared.group.spec import GroupSpec, parse_group
from hams_shared.wire import codec
from hams_shared.wire.messages.agents import Heartbeat, NodeLoad
from hams_shared.wire.messages.pipeline import PipelineLoad, StreamLoad
from hams_shared.wire.messages.plan import Plan
from support.build import group_record, heartbeat, plan

ONE = "h.ov.cpu0"


def spec(every: Any = 5, **child: Any) -> GroupSpec:
    node = {"input": {"size": [64, 64]}, "task": {"type": "raw"}}
    return parse_group(
        {
            "name": "face",
            "nodes": {
                "det": {**node, "model": "/det.onnx", "track": {}, "cadence": every},
                "age": {**node, "model": "/age.onnx", "parent": "det", **child},
            },
            "streams": {"cam": {"source": "/a.mp4"}},
        }
    )


def serving(of: GroupSpec) -> Plan:
    return plan(1, {"det": ONE, "age": ONE}, of)


def beat(seconds: float, det: tuple[int, int, float], age: tuple[int, int, float]) -> Heartbeat:
    """`det` and `age`: pieces, inferences, busy seconds."""
    nodes = tuple(
        NodeLoad(group="face", node=n, frames=f, inferences=i, batches=i, busy_s=b)
        for n, (f, i, b) in {"det": det, "age": age}.items()
    )
    return heartbeat(ONE, ("face", 1)).model_copy(update={"nodes": nodes, "uptime_s": seconds})


def report(seconds: float, completed: int | None, lost: int = 0, *, frames: int = 0, **extra: Any) -> PipelineLoad:
    stream = StreamLoad(group="face", stream="cam", frames=frames or completed or 0, completed=completed, lost=lost)
    return PipelineLoad(
        host="h", incarnation=extra.pop("incarnation", "p1"), uptime_s=seconds, cpu_s=0.0, streams=(stream,), **extra
    )


def serve(
    learned: Learned,
    of: Plan,
    seconds: int,
    *,
    done: float,
    det: float,
    age: float,
    lost: float = 0.0,
    images: float = 1.0,
    busy: float = 0.01,
) -> None:
    """Let the group run: frames completed and lost a second, pieces of both nodes a second, images per piece of age."""
    for t in range(seconds + 1):
        for half in (0.0, 0.5):  # heartbeats come twice a second, reports between them
            d, a = int(det * (t + half)), int(age * (t + half))
            one = beat(t + half, (d, d, busy * d), (a, int(images * a), 0.0))
            if not learned.rested(one, {"face": of}, disturbed=False):
                learned.observe(one, {"face": of}, lambda group, node, device: 100.0)
            if half == 0.0:
                learned.piped(report(t + 0.2, int(done * t), int(lost * t)), now=t + 0.2)


def test_a_root_that_runs_on_every_fifth_frame() -> None:
    learned, of = Learned(), serving(spec())
    serve(learned, of, 100, done=25, det=5, age=5, images=3)
    det, age = known_work(learned, of.group, "det"), known_work(learned, of.group, "age")
    assert (det.weight, det.pieces, det.measured) == (pytest.approx(0.2, rel=0.02), pytest.approx(0.2, rel=0.02), True)
    assert age.weight == pytest.approx(0.6, rel=0.15)  # of 500 pieces, to which 100 with one image each are added
    assert age.images == pytest.approx(3.0, rel=0.15)
    assert det.saved == f"runs on every 5th frame: {det.weight:.3g} of 1.0 inferences per frame"
    assert learned.frames.fps("face", of.group.deployed_at) == pytest.approx(25.0, rel=0.05)
    assert learned.spent_s("face", ONE, 0.0, 0.0) == pytest.approx(0.05 / 25, rel=0.05)


def test_children_may_run_on_frames_on_which_the_root_did_not() -> None:
    learned, of = Learned(), serving(spec(25, cadence={"frames": 5}))
    serve(learned, of, 100, done=25, det=1, age=5)
    assert known_work(learned, of.group, "det").weight == pytest.approx(0.04, rel=0.03)
    assert known_work(learned, of.group, "age").weight == pytest.approx(0.2, rel=0.1)


def test_a_quiet_scene_and_a_device_that_mostly_rests() -> None:
    """Gated frames count, and so do those in whose time the device did nothing: one piece in five seconds."""
    learned, of = Learned(), serving(spec("auto"))
    serve(learned, of, 200, done=25, det=0.2, age=0.2, busy=0.1)
    assert known_work(learned, of.group, "det").weight == pytest.approx(0.2 / 25, abs=0.003)
    assert learned.spent_s("face", ONE, 0.0, 0.0) == pytest.approx(0.1 * 0.2 / 25, rel=0.15)


@pytest.mark.parametrize(
    ("cadence", "done", "lost", "det", "wanted"),
    [
        (5, 22, 3, 2, 0.2),  # a device does two of the five pieces that are wanted
        (1, 10, 15, 10, 1.0),  # all frames are looked at, but those for which there was no time
        (5, 25, 0, 5, 0.2),
        (5, 5, 20, 1, 0.2),  # predicted frames are lost, too: not more than is expected
    ],
)
def test_frames_that_are_lost_want_work(cadence: int, done: float, lost: float, det: float, wanted: float) -> None:
    learned, of = Learned(), serving(spec(cadence, when="score > 0.6"))
    serve(learned, of, 120, done=done, lost=lost, det=det, age=det)
    work = known_work(learned, of.group, "det")
    assert work.weight == pytest.approx(wanted, rel=0.05)
    assert known_work(learned, of.group, "age").pieces == pytest.approx(wanted, rel=0.05)


def test_a_root_has_one_inference_per_frame_where_nothing_is_left_out() -> None:
    learned, of = Learned(), serving(spec(1))
    serve(learned, of, 100, done=24, det=25, age=25)  # as if frames were missed by the count
    assert known_work(learned, of.group, "det").weight == 1.0
    assert learned.frames.groups == {}
    assert learned.measured_fps("face", {ONE}) == pytest.approx(25.0, rel=0.05)


def test_pieces_of_single_images_are_not_more_than_one_per_frame() -> None:
    learned, of = Learned(), serving(spec(1, when="score > 0.6"))
    serve(learned, of, 100, done=20, det=25, age=25)
    assert known_work(learned, of.group, "det").pieces == pytest.approx(1.0)


def test_another_deployment_begins_with_what_is_expected() -> None:
    learned, of = Learned(), serving(spec())
    serve(learned, of, 100, done=25, det=5, age=5)
    again = group_record(spec(2), deployed_at=2.0)
    assert known_work(learned, again, "det").weight == 0.5
    assert learned.frames.fps("face", 2.0) == 0.0


def test_a_pipeline_that_is_silent_tells_no_frame_rate() -> None:
    learned, of = Learned(), serving(spec())
    serve(learned, of, 10, done=25, det=5, age=5)
    learned.frames.expire(10.2 + SILENT_S)
    assert learned.frames.fps("face", of.group.deployed_at) == pytest.approx(25.0, rel=0.1)
    learned.frames.expire(10.3 + SILENT_S)
    assert learned.frames.fps("face", of.group.deployed_at) == 0.0
    assert known_work(learned, of.group, "det").weight == pytest.approx(0.2, rel=0.1)


def test_a_restarted_pipeline_counts_anew() -> None:
    learned, of = Learned(), serving(spec())
    serve(learned, of, 50, done=25, det=5, age=5)
    before = known_work(learned, of.group, "det")
    learned.observe(beat(60, (900, 900, 9.0), (900, 900, 0.0)), {"face": of}, lambda group, node, device: 100.0)
    learned.piped(report(1.0, 25, incarnation="p2"), now=61.0)  # of the 650 pieces before it no frames are known
    learned.piped(report(2.0, 50, incarnation="p2"), now=62.0)
    after = known_work(learned, of.group, "det")
    assert after.weight <= before.weight
    assert learned.spent_s("face", ONE, 0.0, 0.0) <= 0.05 / 25 * 1.05


def test_what_is_new_between_two_reports() -> None:
    first = report(1.0, 10, 2)
    assert new_frames(report(2.0, 35, 4), first) == {"face": (25, 2)}
    assert new_frames(report(2.0, 5, 0), first) == {"face": (5, 0)}  # deployed anew: its counts begin at 0
    old = report(1.0, None, frames=10)
    assert new_frames(report(2.0, None, frames=40), old) == {"face": (30, 0)}  # a pipeline that counts frames read only
    assert new_frames(report(2.0, 7), first.model_copy(update={"streams": ()})) == {"face": (7, 0)}


def test_measured_agreements_reach_what_is_expected() -> None:
    learned, record = Learned(), group_record(spec({"max": 10, "min_agreement": 0.9}))
    assert known_work(learned, record, "det").weight == pytest.approx(0.1)
    load = report(1.0, 10)
    found = load.streams[0].model_copy(update={"agreement": ((2, 0.97), (5, 0.91), (10, 0.8))})
    learned.piped(codec.decode(PipelineLoad, codec.encode(load.model_copy(update={"streams": (found,)}))))
    assert known_work(learned, record, "det").weight == pytest.approx(0.2)
    learned.piped(load.model_copy(update={"uptime_s": 2.0}))
    assert known_work(learned, record, "det").weight == pytest.approx(0.1)


def test_tracking_is_part_of_what_joining_is_taken_to_cost() -> None:
    """A pipeline that takes exactly the expected time changes nothing."""
    learned, of = Learned(), spec()
    per_frame = (FRAME_S + OUTPUT_S) * (1.0 - BROKER_PART) + follow_s(of)
    first = report(1.0, 0)
    last = report(11.0, 3000, results=3000, outputs=3000).model_copy(update={"cpu_s": 3000 * per_frame})
    for one in (first, last):
        learned.piped(one, follow_s=lambda group: follow_s(of))
    assert learned.joining.value(1.0, CPU_PRIOR) == pytest.approx(1.0)
    assert learned.frame_s("face", {}, 0.4, follow_s(of)) == pytest.approx(FRAME_S + 0.4 * OUTPUT_S + follow_s(of))


ratios = st.floats(0.001, 3.0)


@given(
    pieces=ratios, root=ratios, lost=st.floats(0.0, 5.0), prior=st.floats(0.01, 1.0), root_prior=st.floats(0.01, 1.0)
)
def test_pieces_are_positive_and_the_root_has_one_per_frame_at_most(
    pieces: float, root: float, lost: float, prior: float, root_prior: float
) -> None:
    known = GroupFrames("det", 0.0, lost=Ratio(2000.0, lost * 1e6, 1e6))
    known.pieces = {"det": Ratio(2000.0, root * 1e6, 1e6), "age": Ratio(2000.0, pieces * 1e6, 1e6)}
    found = known.per_frame("det", root_prior, root_prior)
    assert 1e-3 <= found <= 1.0
    assert found >= min(root, 1.0) * 0.99  # what is lost raises it only
    # the others keep their proportion to the root
    assert known.per_frame("age", prior, root_prior) == pytest.approx(max(found * pieces / root, 1e-3), rel=0.2)


def test_unknown_groups_are_not_counted() -> None:
    counts = FrameCounts()
    assert not counts.add_frames("face", 10, 0, 1.0, 1.0)
    counts.begin({"face"})
    assert counts.groups == {}
