from __future__ import annotations

import pytest

from hams_scheduler.learning import Learned
from hams_shared.wire.messages.agents import Heartbeat, NodeLoad
from hams_shared.wire.messages.plan import Plan
from support.build import heartbeat, plan

ONE, TWO = "h.ov.cpu0", "h.ort.cpu1"
FPS = {"det": 10.0, "age": 100.0}


def fps_of(group: str, node: str, device: str) -> float:
    return FPS[node]


def beat(device: str, seconds: float, incarnation: str = "i1", **loads: tuple[int, int, float]) -> Heartbeat:
    nodes = tuple(NodeLoad(group="face", node=n, frames=f, inferences=i, busy_s=b) for n, (f, i, b) in loads.items())
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


def test_capacity_is_what_the_busiest_device_could_do() -> None:
    learned = Learned()
    split = plan(1, {"det": ONE, "age": TWO})
    teach(learned, split, beat(ONE, 0), beat(ONE, 10, det=(50, 50, 5.0)))
    teach(learned, split, beat(TWO, 0), beat(TWO, 10, age=(50, 50, 0.5)))
    assert learned.capacity_fps("face") == pytest.approx(10.0)
    assert learned.measured_fps("face") == pytest.approx(5.0)


def test_capacity_counts_a_replicas_share() -> None:
    learned = Learned()
    shared = plan(1, {"det": ONE, "age": TWO}).model_copy(
        update={"shares": {"det": {ONE: 0.5, TWO: 0.5}, "age": {TWO: 1.0}}}
    )
    teach(learned, shared, beat(ONE, 0), beat(ONE, 10, det=(50, 50, 5.0)))
    teach(learned, shared, beat(TWO, 0), beat(TWO, 10, det=(50, 50, 5.0), age=(100, 100, 1.0)))
    assert learned.capacity_fps("face") == pytest.approx(1 / 0.06)
    assert learned.measured_fps("face") == pytest.approx(10.0)


def test_a_restarted_agent_starts_counting_anew() -> None:
    learned = Learned()
    both = plan(1, {"det": ONE, "age": ONE})
    teach(learned, both, beat(ONE, 0), beat(ONE, 10, det=(100, 100, 10.0)))
    before = learned.capacity_fps("face")
    teach(learned, both, beat(ONE, 1, incarnation="i2", det=(1, 1, 5.0)))
    assert learned.capacity_fps("face") == before


def test_another_placement_starts_measuring_anew() -> None:
    learned = Learned()
    teach(learned, plan(1, {"det": ONE, "age": ONE}), beat(ONE, 0), beat(ONE, 10, det=(100, 100, 10.0)))
    learned.forget_placement("face")
    assert learned.capacity_fps("face") == learned.measured_fps("face") == 0.0
