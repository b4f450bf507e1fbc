"""Whose turn it is on a device."""

from __future__ import annotations

from collections import Counter

from hams_agents.runtime.fair_queue import MAX_IMAGES, FairQueue, Key, Terms, Turn

HEAVY, LIGHT = ("g", "heavy"), ("g", "light")
OTHER = ("other", "light")


def turn(queue: FairQueue[int], over: Turn[int] | None = None, now: float = 0.0) -> Turn[int]:
    taken = queue.pop(now, over)
    assert taken is not None
    return taken


def served(cost: dict[Key, float], turns: int, pieces: dict[Key, float]) -> Counter[Key]:
    """Pieces of each node that are served while all always have work."""
    queue: FairQueue[int] = FairQueue()
    for key in cost:
        for n in range(turns):
            queue.push(key, "cam", n, 1, Terms(pieces=pieces.get(key, 1.0)), 0.0)
    count: Counter[Key] = Counter()
    for _ in range(turns):
        taken = turn(queue)
        queue.charge(taken.key, len(taken.items), cost[taken.key])
        count[taken.key] += len(taken.items)
    return count


def test_a_heavy_node_does_not_starve_a_light_one_of_its_group() -> None:
    count = served({HEAVY: 0.050, LIGHT: 0.001}, 400, {})
    assert abs(count[HEAVY] * 0.050 - count[LIGHT] * 0.001) <= 0.050


def test_groups_get_the_same_frames_whatever_their_networks_cost() -> None:
    count = served({HEAVY: 0.050, OTHER: 0.001}, 400, {})
    assert abs(count[HEAVY] - count[OTHER]) <= 1
    many: dict[Key, float] = {("many", f"n{i}"): 0.01 for i in range(4)}
    count = served(many | {OTHER: 0.01}, 400, dict.fromkeys(many, 4.0))
    assert abs(sum(count[key] for key in many) / 4 - count[OTHER]) <= 1


def test_a_group_that_weighs_twice_gets_twice_the_frames() -> None:
    count = served({HEAVY: 0.010, OTHER: 0.010}, 300, {HEAVY: 2.0})
    assert abs(count[HEAVY] / count[OTHER] - 2.0) < 0.05


def test_an_idle_node_saves_up_no_turns() -> None:
    for late in (LIGHT, OTHER):
        queue: FairQueue[int] = FairQueue()
        for n in range(100):
            queue.push(HEAVY, "cam", n, 1, Terms(), 0.0)
        for _ in range(50):
            queue.charge(turn(queue).key, 1, 0.01)
        for n in range(10):
            queue.push(late, "cam", n, 1, Terms(), 0.0)
        order = []
        for _ in range(10):
            taken = turn(queue)
            queue.charge(taken.key, 1, 0.01)
            order.append(taken.key)
        assert 4 <= order.count(late) <= 6


def test_within_a_group_the_deepest_nodes_go_first() -> None:
    queue: FairQueue[int] = FairQueue()
    queue.push(HEAVY, "cam", 1, 1, Terms(depth=0), 0.0)
    queue.push(LIGHT, "cam", 0, 1, Terms(depth=1), 0.1)
    assert [turn(queue).key for _ in range(2)] == [LIGHT, HEAVY]


def test_a_group_of_higher_priority_goes_first_however_much_it_had() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(3):
        queue.push(OTHER, "cam", number, 1, Terms(priority=0), 0.0)
        queue.push(HEAVY, "cam", 10 + number, 1, Terms(priority=1), 0.0)
    found = []
    while (turn := queue.pop(0.0)) is not None:
        found += turn.items
        queue.charge(turn.key, len(turn.items), 1.0)
    assert found == [10, 11, 12, 0, 1, 2]


def test_only_what_is_deeper_or_of_higher_priority_overtakes() -> None:
    queue: FairQueue[int] = FairQueue()
    queue.push(HEAVY, "cam", 0, 1, Terms(), 0.0)
    ready = turn(queue)
    queue.push(HEAVY, "cam", 1, 1, Terms(), 0.0)
    queue.push(OTHER, "cam", 0, 1, Terms(depth=1), 0.0)
    assert queue.pop(0.0, ready) is None
    assert queue.wait(0.0, ready) is None
    assert queue.wait(0.0) == 0.0
    queue.push(LIGHT, "cam", 0, 1, Terms(depth=1), 0.0)
    assert turn(queue, ready).key == LIGHT
    queue.push(OTHER, "cam", 1, 1, Terms(priority=1), 0.0)
    assert turn(queue, ready).key == OTHER


def test_streams_of_a_node_take_turns() -> None:
    queue: FairQueue[str] = FairQueue()
    for n in range(3):
        queue.push(HEAVY, "a", f"a{n}", 1, Terms(), 0.0)
    queue.push(HEAVY, "b", "b0", 1, Terms(), 0.0)
    order = [queue.pop(0.0) for _ in range(4)]
    assert [one.items for one in order if one] == [["a0"], ["b0"], ["a1"], ["a2"]]
    assert queue.pop(0.0) is None
    assert queue.size == 0


def test_work_of_several_frames_is_run_together_up_to_the_bound() -> None:
    queue: FairQueue[int] = FairQueue()
    for n in range(5):
        queue.push(LIGHT, "cam", n, 3, Terms(joins=True), 0.0)
    sizes = []
    while (taken := queue.pop(0.0)) is not None:
        sizes.append(len(taken.items))
        assert len(taken.items) * 3 <= MAX_IMAGES
    assert sizes == [2, 2, 1]


def test_a_latency_budget_holds_work_until_it_is_spent_or_the_batch_is_full() -> None:
    queue: FairQueue[int] = FairQueue()
    terms = Terms(joins=True, wait_s=0.010)
    queue.push(LIGHT, "cam", 0, 1, terms, 0.0)
    assert queue.pop(0.005) is None
    assert queue.wait(0.005) == 0.005
    queue.push(LIGHT, "cam", 1, 1, terms, 0.006)
    assert turn(queue, now=0.010).items == [0, 1]
    for n in range(MAX_IMAGES):
        queue.push(LIGHT, "cam", n, 1, terms, 0.020)
    assert len(turn(queue, now=0.020).items) == MAX_IMAGES


def test_work_without_images_waits_for_nothing() -> None:
    queue: FairQueue[int] = FairQueue()
    terms = Terms(joins=True, wait_s=0.2)
    queue.push(LIGHT, "a", 0, 1, terms, 0.0)
    queue.push(LIGHT, "a", 1, 0, terms, 0.0)  # a frame without crops, behind another of its stream
    assert queue.pop(0.1) is None
    for n, stream in ((2, "b"), (3, "c")):
        queue.push(LIGHT, stream, n, 0, terms, 0.1)
    assert queue.wait(0.1) == 0.0
    assert sorted(turn(queue, now=0.1).items + turn(queue, now=0.1).items) == [2, 3]
    assert queue.pop(0.1) is None
    assert queue.wait(0.1) == 0.1
    assert turn(queue, now=0.2).items == [0, 1]


def test_a_held_node_does_not_hold_up_others() -> None:
    queue: FairQueue[int] = FairQueue()
    queue.push(LIGHT, "cam", 0, 1, Terms(joins=True, wait_s=1.0), 0.0)
    queue.push(HEAVY, "cam", 1, 1, Terms(), 0.0)
    assert turn(queue).key == HEAVY


def test_a_group_that_is_gone_is_forgotten_once_nothing_of_it_waits() -> None:
    queue: FairQueue[int] = FairQueue()
    queue.push(HEAVY, "cam", 0, 1, Terms(), 0.0)
    queue.forget("g")
    taken = turn(queue)
    queue.forget("g")
    queue.charge(taken.key, 1, 5.0)  # its last work ends after it
    queue.push(HEAVY, "cam", 1, 1, Terms(), 0.0)
    queue.push(OTHER, "cam", 1, 1, Terms(), 0.1)
    assert turn(queue).key == HEAVY
