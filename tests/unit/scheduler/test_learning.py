from __future__ import annotations

import pytest

from hams_scheduler.heartbeat_counts import resident_nodes
from hams_scheduler.learning import BROKER_PART, FRAME_S, MESSAGE_S, OUTPUT_S, READ_S, Learned, shared
from hams_scheduler.ratio import Ratio
from hams_shared.wire.messages.agents import AssignmentState, Heartbeat, NodeLoad
from hams_shared.wire.messages.pipeline import PipelineLoad, StreamLoad
from hams_shared.wire.messages.plan import Plan
from support.build import heartbeat, plan

ONE, TWO = "h.ov.cpu0", "h.ort.cpu1"
FPS = {"det": 10.0, "age": 100.0}


def fps_of(group: str, node: str, device: str) -> float:
    return FPS[node]


def beat(device: str, seconds: float, incarnation: str = "i1", **loads: tuple[int, int, float]) -> Heartbeat:
    nodes = tuple(
        NodeLoad(group="face", node=n, frames=f, inferences=i, batches=i, busy_s=b) for n, (f, i, b) in loads.items()
    )
    return heartbeat(device, ("face", 1), incarnation=incarnation).model_copy(
        update={"nodes": nodes, "uptime_s": seconds}
    )


def teach(learned: Learned, of: Plan, *beats: Heartbeat) -> None:
    for one in beats:
        learned.observe(one, {"face": of}, fps_of)


def test_weights_are_objects_per_frame_and_grow_in_confidence() -> None:
    learned = Learned()
    both = plan(1, {"det": ONE, "age": ONE})
    assert learned.weight("face", "age", 1.0) == 1.0
    teach(learned, both, beat(ONE, 0), beat(ONE, 10, det=(300, 300, 1), age=(300, 900, 1)))
    assert learned.weight("face", "age", 1.0) == pytest.approx((900 + 100) / 400)
    assert learned.weight("face", "det", 1.0) == pytest.approx(1.0)
    assert learned.confidence("face", "age") == pytest.approx(0.75)


def test_a_few_frames_move_a_prediction_little() -> None:
    """The first second of serving: cold caches, and a crowd in the first pictures."""
    learned = Learned()
    teach(learned, plan(1, {"det": ONE, "age": ONE}), beat(ONE, 0), beat(ONE, 1, det=(8, 8, 0.8), age=(8, 24, 0.2)))
    assert learned.weight("face", "age", 1.0) == pytest.approx(1.0, abs=0.2)
    assert learned.kappa(ONE, 2) == pytest.approx(1.0, abs=0.1)


def test_an_empty_scene_makes_heads_cheap() -> None:
    learned = Learned()
    teach(learned, plan(1, {"det": ONE, "age": ONE}), beat(ONE, 0), beat(ONE, 10, age=(3000, 0, 0.1)))
    assert learned.weight("face", "age", 1.0) < 0.04


def test_weights_follow_the_scene() -> None:
    learned = Learned()
    both = plan(1, {"det": ONE, "age": ONE})
    teach(learned, both, beat(ONE, 0), beat(ONE, 10, age=(1000, 1000, 1)))
    frames, inferences = 1000, 1000
    for step in range(20):
        frames, inferences = frames + 500, inferences + 2500
        teach(learned, both, beat(ONE, 20 + step, age=(frames, inferences, 1)))
    assert learned.weight("face", "age", 1.0) == pytest.approx(5, rel=0.05)


def test_kappa_is_busy_time_over_time_alone() -> None:
    learned = Learned()
    assert learned.kappa(ONE, 2) == 1.0
    both = plan(1, {"det": ONE, "age": ONE})
    # 100 inferences of det (0.1 s alone each) took 12.65 s, 0.15 s of it overhead: eta 0.8
    teach(learned, both, beat(ONE, 0), beat(ONE, 30, det=(100, 100, 12.65)))
    assert learned.kappa(ONE, 1) == pytest.approx(1 / 0.8, rel=0.05)
    assert 1.0 < learned.kappa(ONE, 5) < 1 / 0.75  # unseen: shrunk to the device's mean
    assert learned.kappa(TWO, 1) == 1.0


def test_what_small_networks_cost_beside_computing_does_not_slow_large_ones() -> None:
    learned = Learned()
    both = plan(1, {"det": TWO, "age": ONE})
    # 2000 inferences of age (10 ms alone each) took 22 s: 1 ms more each
    teach(learned, both, beat(ONE, 0), beat(ONE, 30, age=(2000, 2000, 22.0)))
    assert learned.overhead_s(ONE) == pytest.approx(0.001, rel=0.1)
    assert learned.kappa(ONE, 1) == pytest.approx(1.0, abs=0.01)
    # 2000 more took 60 s: that is no overhead
    teach(learned, both, beat(ONE, 90, age=(4000, 4000, 82.0)))
    assert learned.overhead_s(ONE) <= 0.0015
    assert learned.kappa(ONE, 1) > 2.0
    assert learned.overhead_s(TWO) == 0.0


def test_absurd_measurements_are_not_believed() -> None:
    learned = Learned()
    teach(learned, plan(1, {"det": ONE, "age": ONE}), beat(ONE, 0), beat(ONE, 30, det=(100, 100, 1000.0)))
    assert learned.kappa(ONE, 1) == 1.0


def spent(learned: Learned, device: str) -> float:
    return learned.spent_s("face", device, 0.0, 0.0)


def test_what_a_frame_takes_of_each_device() -> None:
    learned = Learned()
    split = plan(1, {"det": ONE, "age": TWO})
    teach(learned, split, beat(ONE, 0), beat(ONE, 10, det=(50, 50, 5.0)))
    teach(learned, split, beat(TWO, 0), beat(TWO, 10, age=(50, 50, 0.5)))
    assert (spent(learned, ONE), spent(learned, TWO)) == pytest.approx((0.1, 0.01))
    assert learned.measured_fps("face", {ONE, TWO}) == pytest.approx(5.0)


def test_the_share_of_a_replica_counts() -> None:
    learned = Learned()
    shared = plan(1, {"det": ONE, "age": TWO}).model_copy(
        update={"shares": {"det": {ONE: 0.5, TWO: 0.5}, "age": {TWO: 1.0}}}
    )
    teach(learned, shared, beat(ONE, 0), beat(ONE, 10, det=(50, 50, 5.0)))
    teach(learned, shared, beat(TWO, 0), beat(TWO, 10, det=(50, 50, 5.0), age=(100, 100, 1.0)))
    assert (spent(learned, ONE), spent(learned, TWO)) == pytest.approx((0.05, 0.06))
    assert learned.measured_fps("face", {ONE, TWO}) == pytest.approx(10.0)


def test_a_restarted_agent_starts_counting_anew() -> None:
    learned = Learned()
    both = plan(1, {"det": ONE, "age": ONE})
    teach(learned, both, beat(ONE, 0), beat(ONE, 10, det=(100, 100, 10.0)))
    before = spent(learned, ONE)
    teach(learned, both, beat(ONE, 1, incarnation="i2", det=(1, 1, 5.0)))
    assert spent(learned, ONE) == before


def test_another_placement_starts_measuring_anew() -> None:
    learned = Learned()
    teach(learned, plan(1, {"det": ONE, "age": ONE}), beat(ONE, 0), beat(ONE, 10, det=(100, 100, 10.0)))
    learned.forget_placement("face")
    assert spent(learned, ONE) == learned.measured_fps("face", {ONE, TWO}) == 0.0


def test_full_cores_say_nothing_of_a_device() -> None:
    """Busy time that holds waiting for cores: neither interference nor overhead is learned from it."""
    learned = Learned()
    both = plan(1, {"det": ONE, "age": ONE})
    for one in (beat(ONE, 0), beat(ONE, 30, det=(100, 100, 25.0))):
        learned.observe(one, {"face": both}, fps_of, crowded=True)
    assert learned.kappa(ONE, 1) == learned.kappa(ONE, 2) == 1.0
    assert learned.overhead_s(ONE) == 0.0
    assert spent(learned, ONE) == pytest.approx(0.25)  # as it is at present


def loading(of: Heartbeat, loaded: int) -> Heartbeat:
    """The same while the next plan is being loaded, `loaded` nodes of it so far."""
    state = AssignmentState(group="face", epoch=2, state="loading", loaded=loaded, total=2)
    return of.model_copy(update={"assignments": (*of.assignments, state)})


def test_interference_is_not_learned_while_networks_are_loaded_nor_just_after() -> None:
    learned = Learned()
    both = {"face": plan(1, {"det": ONE, "age": ONE})}
    learned.observe(beat(ONE, 0), both, fps_of)
    learned.observe(loading(beat(ONE, 30, det=(100, 100, 25.0)), 0), both, fps_of, disturbed=True)
    learned.observe(beat(ONE, 60, det=(200, 200, 50.0)), both, fps_of)
    assert learned.eta == {}
    assert learned.kappa(ONE, 1) == learned.kappa(ONE, 2) == 1.0
    learned.observe(beat(ONE, 90, det=(300, 300, 75.0)), both, fps_of)
    assert learned.kappa(ONE, 1) > 1.5


def test_nodes_that_are_being_loaded_share_the_device_with_nobody_yet() -> None:
    """The plan that serves has one node there; the next one has two, of which none is loaded."""
    one = beat(ONE, 0)
    assert [resident_nodes(seen) for seen in (one, loading(one, 0), loading(one, 2))] == [1, 1, 1]
    ready = [AssignmentState(group="face", epoch=n, state="ready", loaded=n, total=n) for n in (3, 5)]
    both = one.model_copy(update={"assignments": tuple(ready)})
    assert resident_nodes(both) == 5
    assert resident_nodes(loading(both.model_copy(update={"assignments": tuple(ready[:1])}), 0)) == 3


def cpu_beats(learned: Learned, cpu_s: float, frames: int = 1000, *, disturbed: bool = False) -> None:
    """Ten seconds in which `det` and `age` ran, 2 ms of CPU time each."""
    both = plan(1, {"det": ONE, "age": ONE})
    last = beat(ONE, 10, det=(frames, frames, 1), age=(frames, 3 * frames, 1)).model_copy(update={"cpu_s": cpu_s})
    for one in (beat(ONE, 0), last):
        learned.observe(one, {"face": both}, fps_of, lambda group, node, device: 0.002, disturbed=disturbed)


def test_what_messages_cost_is_the_cpu_time_that_networks_do_not_explain() -> None:
    learned = Learned()
    assert learned.message_s(ONE) == MESSAGE_S
    cpu_beats(learned, 8.0 + 2000 * 0.001)  # 4000 inferences, 2000 messages: as much as 3400 of one image
    assert learned.cpu_load(ONE) == pytest.approx(1.0)
    assert learned.message_s(ONE) == pytest.approx((2.0 + 300 * MESSAGE_S) / 3700)
    assert learned.message_s(TWO) == MESSAGE_S
    assert learned.cpu_factor(TWO, 2) == shared(2)
    assert 1.0 < learned.cpu_factor(ONE, 2) < shared(2)


def test_networks_may_take_more_or_less_cpu_time_than_alone() -> None:
    slower, faster = Learned(), Learned()
    cpu_beats(slower, 8.0 + 3400 * 0.0015 + 4.0)  # messages take 1.5 ms at most
    assert slower.cpu_factor(ONE, 2) == pytest.approx((12.0 + 10 * shared(2)) / 18)
    cpu_beats(faster, 6.0)
    assert faster.cpu_factor(ONE, 2) == pytest.approx((6.0 + 10 * shared(2)) / 18)
    assert faster.message_s(ONE) < MESSAGE_S


def test_a_few_messages_move_their_cost_little() -> None:
    learned = Learned()
    cpu_beats(learned, 1.0 + 0.08 + 0.1, frames=10)
    assert learned.message_s(ONE) < 1.5 * MESSAGE_S
    assert learned.cpu_factor(ONE, 2) < 1.1 * shared(2) + 0.01


@pytest.mark.parametrize(("cpu_s", "disturbed"), [(60.0, True), (0.5, False)])
def test_loading_and_idle_work_are_not_messages(cpu_s: float, disturbed: bool) -> None:
    learned = Learned()
    cpu_beats(learned, cpu_s, frames=10, disturbed=disturbed)
    assert learned.message_s(ONE) == MESSAGE_S


def load(seconds: float, frames: int, read: float, cpu: float, incarnation: str = "p1") -> PipelineLoad:
    stream = StreamLoad(group="face", stream="cam", frames=frames, read_cpu_s=read)
    return PipelineLoad(
        host="h",
        incarnation=incarnation,
        uptime_s=seconds,
        cpu_s=cpu,
        streams=(stream,),
        results=frames,
        outputs=2 * frames,
    )


def test_what_a_frame_costs_the_host_of_its_pipeline() -> None:
    learned = Learned()
    assert learned.frame_s("face", {"cam": READ_S}, 2) == pytest.approx(READ_S + FRAME_S + 2 * OUTPUT_S)
    for one in (load(1, 0, 0, 0), load(101, 30_000, 30_000 * 0.004, 30_000 * 0.005)):
        learned.piped(one)
    assert learned.pipeline_host == "h"
    assert learned.cpu_load("h") == pytest.approx(1.5)
    # 4 ms of reading, and 1 ms beside it; what the broker takes comes on top
    assert learned.frame_s("face", {"cam": READ_S}, 2) == pytest.approx(0.004 + 0.001 / (1 - BROKER_PART), rel=0.03)
    assert learned.frame_s("face", {"cam": READ_S}, 4) > learned.frame_s("face", {"cam": READ_S}, 2)
    assert learned.frame_s("face", {"cam": 0.008}, 2) > learned.frame_s("face", {"cam": READ_S}, 2)  # it was measured
    assert learned.frame_s("other", {}, 2) == pytest.approx(0.001 / (1 - BROKER_PART), rel=0.03)


def test_a_restarted_pipeline_starts_counting_anew() -> None:
    learned = Learned()
    for one in (load(1, 0, 0, 0), load(11, 1000, 4.0, 5.0), load(1, 10, 1.0, 9.0, "p2")):
        learned.piped(one)
    assert learned.cpu_load("h") == 0.0
    assert learned.frame_s("face", {"cam": READ_S}, 2) < 0.006


def test_a_pipeline_that_moved_costs_its_former_host_nothing() -> None:
    learned = Learned()
    for at in (1, 11):
        learned.piped(load(at, 100 * at, at, 3.0 * at), now=at)
    moved = load(1, 0, 0, 0, "p2").model_copy(update={"host": "g"})
    learned.piped(moved, now=13)
    learned.expire(13)
    assert learned.cpu_load("h") == pytest.approx(3.0)  # a report may come late
    learned.piped(moved.model_copy(update={"uptime_s": 3.0, "cpu_s": 1.0}), now=15)
    learned.expire(15)
    assert (learned.cpu_load("h"), learned.cpu_load("g"), learned.pipeline_host) == (0.0, 0.5, "g")
    learned.piped(load(16, 1600, 16, 48), now=16)
    assert learned.cpu_load("h") == pytest.approx(3.0)  # it is heard again: its link was down


def test_a_stream_that_is_opened_again_costs_what_it_did() -> None:
    """Its reader counts anew in a pipeline of an older version; its frames go on."""
    learned = Learned()
    for one in (load(1, 0, 0, 0), load(101, 30_000, 120.0, 150.0)):
        learned.piped(one)
    before = learned.frame_s("face", {"cam": READ_S}, 2)
    learned.piped(load(102, 30_025, 0.1, 150.125))
    assert learned.frame_s("face", {"cam": READ_S}, 2) == pytest.approx(before, rel=0.05)


def test_networks_that_share_a_cpu_are_taken_to_slow_each_other_down_until_it_is_measured() -> None:
    learned = Learned()
    assert learned.kappas([ONE, TWO], 3, [ONE]) == {(ONE, 2): 1.011, (ONE, 3): 1.022}
    learned.device_eta[ONE] = Ratio(60.0, 50.0, 50.0)
    assert learned.kappas([ONE, TWO], 2, [ONE]) == {(ONE, 1): 1.0, (ONE, 2): 1.0}


def test_all_kappas_at_once_are_those_of_each_pair() -> None:
    learned = Learned()
    for device, resident, alone, busy in (
        (ONE, 1, 5.0, 6.0),
        (ONE, 3, 5.0, 9.0),
        (TWO, 2, 4.0, 4.5),
        (TWO, 9, 1.0, 2.0),
    ):
        for ratios, key in ((learned.eta, (device, resident)), (learned.device_eta, device)):
            ratios.setdefault(key, Ratio(60.0)).add(alone, busy)  # type: ignore[attr-defined]
    pairs = [(device, nodes) for device in (ONE, TWO) for nodes in range(1, 6)]
    assert learned.kappas([ONE, TWO], 5) == {pair: learned.kappa(*pair) for pair in pairs}
