"""Whose turn it is on a device."""

from __future__ import annotations

from collections import Counter

from hams_agents.fair_queue import MAX_IMAGES, FairQueue, Terms

HEAVY, LIGHT = ("g", "heavy"), ("g", "light")


def served(cost: dict[tuple[str, str], float], turns: int, weights: dict[tuple[str, str], float]) -> Counter[object]:
    """Device time of each node when all always have work."""
    queue: FairQueue[int] = FairQueue()
    for key in cost:
        for n in range(turns):
            queue.push(key, "cam", n, 1, Terms(weight=weights.get(key, 1.0)), 0.0)
    time: Counter[object] = Counter()
    for _ in range(turns):
        popped = queue.pop(0.0)
        assert popped is not None
        key, items = popped
        queue.charge(key, len(items), cost[key])
        time[key] += cost[key]
    return time


def test_a_heavy_node_does_not_starve_a_light_one() -> None:
    time = served({HEAVY: 0.050, LIGHT: 0.001}, 400, {})
    assert abs(time[HEAVY] - time[LIGHT]) <= 0.050


def test_time_goes_by_weight() -> None:
    time = served({HEAVY: 0.010, LIGHT: 0.010}, 300, {HEAVY: 2.0})
    assert abs(time[HEAVY] / time[LIGHT] - 2.0) < 0.05


def test_an_idle_node_saves_up_no_turns() -> None:
    queue: FairQueue[int] = FairQueue()
    for n in range(100):
        queue.push(HEAVY, "cam", n, 1, Terms(), 0.0)
    for _ in range(50):
        popped = queue.pop(0.0)
        assert popped is not None
        queue.charge(popped[0], 1, 0.01)
    for n in range(10):
        queue.push(LIGHT, "cam", n, 1, Terms(), 0.0)
    order = []
    for _ in range(10):
        popped = queue.pop(0.0)
        assert popped is not None
        queue.charge(popped[0], 1, 0.01)
        order.append(popped[0])
    assert 4 <= order.count(LIGHT) <= 6


def test_streams_of_a_node_take_turns() -> None:
    queue: FairQueue[str] = FairQueue()
    for n in range(3):
        queue.push(HEAVY, "a", f"a{n}", 1, Terms(), 0.0)
    queue.push(HEAVY, "b", "b0", 1, Terms(), 0.0)
    order = [queue.pop(0.0) for _ in range(4)]
    assert [one[1] for one in order if one] == [["a0"], ["b0"], ["a1"], ["a2"]]
    assert queue.pop(0.0) is None
    assert queue.size == 0


def test_work_of_several_frames_is_run_together_up_to_the_bound() -> None:
    queue: FairQueue[int] = FairQueue()
    for n in range(5):
        queue.push(LIGHT, "cam", n, 3, Terms(joins=True), 0.0)
    sizes = []
    while (popped := queue.pop(0.0)) is not None:
        sizes.append(len(popped[1]))
        assert len(popped[1]) * 3 <= MAX_IMAGES
    assert sizes == [2, 2, 1]


def test_a_latency_budget_holds_work_until_it_is_spent_or_the_batch_is_full() -> None:
    queue: FairQueue[int] = FairQueue()
    terms = Terms(joins=True, wait_s=0.010)
    queue.push(LIGHT, "cam", 0, 1, terms, 0.0)
    assert queue.pop(0.005) is None
    assert queue.wait(0.005) == 0.005
    queue.push(LIGHT, "cam", 1, 1, terms, 0.006)
    assert queue.pop(0.010) == (LIGHT, [0, 1])
    for n in range(MAX_IMAGES):
        queue.push(LIGHT, "cam", n, 1, terms, 0.020)
    popped = queue.pop(0.020)
    assert popped is not None
    assert len(popped[1]) == MAX_IMAGES


def test_a_held_node_does_not_hold_up_others() -> None:
    queue: FairQueue[int] = FairQueue()
    queue.push(LIGHT, "cam", 0, 1, Terms(joins=True, wait_s=1.0), 0.0)
    queue.push(HEAVY, "cam", 1, 1, Terms(), 0.0)
    assert queue.pop(0.0) == (HEAVY, [1])
