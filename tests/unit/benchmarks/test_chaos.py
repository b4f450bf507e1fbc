"""The pure parts of the benchmarks chaos and soak: plans of faults, checks, shrinking, trends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from benchmarks.chaos.checks import (
    LATE_S,
    Account,
    Frames,
    Part,
    Seen,
    epochs_of,
    frames_of,
    growth,
    ledger_of,
    quantile,
    recovery,
)
from benchmarks.chaos.faults import KINDS, Fault, from_json, plan, to_json
from benchmarks.chaos.shrink import shrink
from benchmarks.soak.slopes import trend
from hypothesis import given
from hypothesis import strategies as st


def test_a_plan_is_the_same_for_a_seed_and_a_prefix_of_a_longer_one() -> None:
    assert plan(7, 50, KINDS) == plan(7, 80, KINDS)[:50]
    assert plan(7, 50, KINDS) != plan(8, 50, KINDS)
    assert {one.kind for one in plan(1, 500, KINDS)} == set(KINDS)
    assert {one.kind for one in plan(1, 20, ["hang", "cut"])} == {"hang", "cut"}


@given(st.integers(0, 2**32), st.integers(0, 20))
def test_a_plan_survives_its_file(seed: int, count: int) -> None:
    faults = plan(seed, count, KINDS)
    assert from_json(to_json(faults)) == faults
    for one in faults:
        low, high = KINDS[one.kind].seconds
        assert low <= one.seconds <= high
        assert one.target in KINDS[one.kind].targets


@pytest.mark.parametrize(
    "text", ['[{"kind": "cut"}]', '[{"kind":"flood","target":"a","seconds":1,"value":0}]', '[{"kind":"hang","target":'
             '"broker","seconds":1,"value":0}]', "no list"]
)  # fmt: skip
def test_a_file_that_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        from_json(text)


def at(step: float, *spans: tuple[float, float]) -> list[float]:
    """Results every `step` s within the spans."""
    return [a + n * step for a, b in spans for n in range(int((b - a) / step))]


@pytest.mark.parametrize(
    ("times", "took"),
    [
        (at(0.05, (0, 10)), 0.0),  # never disturbed
        (at(0.05, (0, 4), (6, 10)), 2.0),  # since = 4: silent for 2 s
        (at(0.05, (0, 4), (5, 6), (7.5, 10)), 3.5),  # it flowed, and stopped again
        (at(0.05, (0, 5)), None),  # it stopped and does not flow at the end
        (at(0.09, (0, 10)), 0.0),  # a little more than half as many is enough
        (at(0.2, (0, 10)), None),  # a quarter is not
    ],
)
def test_recovery(times: Sequence[float], took: float | None) -> None:
    found = recovery(times, 4.0, 9.5, per_s=20)
    assert found == (None if took is None else pytest.approx(took, abs=0.1))


def seen(*frames: int, stream: str = "kept") -> list[Seen]:
    return [Seen(0.0, stream, frame, 1, "a") for frame in frames]


@pytest.mark.parametrize(
    ("frames", "wrong"),
    [
        ((3, 4, 5), []),
        ((0, 1, 4, 5), ["lost"]),
        ((0, 1, 1, 2), ["doubled"]),
        ((0, 2, 1, 3), ["lost", "order"]),
        ((5, 6, 0, 1), ["restarted"]),
        ((5, 6, 0, 1, 1), ["restarted", "doubled"]),
        ((0, 3, 1, 1), ["lost", "order", "doubled"]),
    ],
)
def test_frames_of_a_lossless_stream_come_once_each(frames: tuple[int, ...], wrong: list[str]) -> None:
    assert [one.what for one in frames_of(seen(*frames), {"kept": Frames()})] == wrong
    assert frames_of(seen(*frames, stream="live"), {"kept": Frames()}) == []


def test_epochs_grow_and_have_one_owner() -> None:
    def one(epoch: int, device: str, stream: str = "kept", at: float = 0.0) -> Seen:
        return Seen(at, stream, 0, epoch, device)

    owners: dict[int, str] = {}
    newest: dict[str, tuple[int, float]] = {}
    assert epochs_of([one(1, "a"), one(2, "b"), one(1, "a", "live")], newest, owners) == []
    assert newest == {"kept": (2, 0.0), "live": (1, 0.0)}
    assert [v.what for v in epochs_of([one(2, "b"), one(2, "a")], newest, owners)] == ["owner"]
    assert epochs_of([one(1, "a", at=LATE_S)], newest, owners) == []  # it was done before the change
    assert [v.what for v in epochs_of([one(1, "a", at=LATE_S + 0.1)], newest, owners)] == ["epoch"]


def test_ledgers() -> None:
    assert ledger_of([Account("kept", 10, 8, 2, 0, True), Account("live", 10, 10, 0, 3, False)]) == []
    assert [v.what for v in ledger_of([Account("kept", 10, 8, 1, 0, True)])] == ["ledger"]
    assert [v.what for v in ledger_of([Account("kept", 10, 10, 0, 1, True)])] == ["lost"]


def test_growth_is_what_the_smallest_of_several_looks_shows() -> None:
    early = {"pipeline": [Part(100, 20, 8), Part(140, 30, 9)]}
    assert growth(early, {"pipeline": [Part(900, 90, 90), Part(110, 21, 8)]}) == []
    late = {"pipeline": [Part(250, 60, 30), Part(260, 61, 30)]}
    assert [v.text.split()[1] for v in growth(early, late)] == ["rss_mib", "fds", "threads"]
    assert growth(early, {}) == []


def run(failing: Sequence[int], fails: Callable[[Sequence[int]], bool], tries: int) -> tuple[tuple[int, ...], int]:
    search, count, answer = shrink(failing, tries), 0, None
    try:
        while True:
            tried = search.send(answer)  # type: ignore[arg-type]  # None starts it
            count += 1
            answer = fails(tried)
    except StopIteration as done:
        return done.value, count


@given(st.sets(st.integers(0, 15), min_size=1, max_size=4), st.integers(16, 40))
def test_shrinking_finds_what_is_needed_and_no_more(needed: set[int], length: int) -> None:
    best, _ = run(range(length), lambda tried: needed <= set(tried), 10_000)
    assert set(best) == needed
    assert list(best) == sorted(best)


@given(st.sets(st.integers(0, 15), min_size=1, max_size=4), st.integers(0, 12))
def test_shrinking_keeps_to_its_tries_and_to_what_failed(needed: set[int], tries: int) -> None:
    best, count = run(range(16), lambda tried: needed <= set(tried), tries)
    assert needed <= set(best)
    assert count <= tries


def test_the_last_alone_is_tried_first() -> None:
    assert run(range(16), lambda tried: 15 in tried, 100) == ((15,), 1)
    assert run([1], lambda tried: True, 100) == ((1,), 0)


def test_quantile() -> None:
    assert quantile([], 0.5) == 0
    assert [quantile([3, 1, 2], part) for part in (0.0, 0.5, 0.99, 1.0)] == [1, 2, 3, 3]


def test_trends() -> None:
    times = [10.0 * n for n in range(400)]
    flat = trend(times, [100 + n % 7 for n in range(400)])
    assert not flat.grows(4)
    assert abs(flat.per_hour) < 1
    climbing = trend(times, [100 + n / 10 for n in range(400)])
    assert climbing.per_hour == pytest.approx(36, abs=0.5)
    assert climbing.grows(20)
    assert not climbing.grows(100)
    warm = trend(times, [min(n, 90) for n in range(400)])  # it fills, and stays
    assert (warm.per_hour, warm.grows(0)) == (0, False)
    jumpy = trend(times, [1000 if n % 50 == 0 else 100 for n in range(400)])
    assert not jumpy.grows(0)
    with pytest.raises(ValueError, match="8 or more"):
        trend([1.0], [1.0])


def test_a_fault_reads_well() -> None:
    assert str(Fault("cut", "pipeline", 1.5, 0.25)) == "cut pipeline for 1.5 s (0.25)"
