"""Frames of a stream that go to a canary, and back to what serves."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_services.pipeline.canary import FAILURES, Canary, takes
from hams_services.pipeline.core import StreamCore
from hams_services.pipeline.flight import CANARY_S, Close, Command, Outcome, Send
from support.build import group_spec, output, plan

SERVING = plan(1, {"det": "h.b.one", "age": "h.b.one"})
TRIED = plan(7, {"det": "h.b.two", "mood": "h.b.two"}, group_spec("face--candidate", ("det", "mood")))
BOX = [[{"box": [0, 0, 1, 1], "score": 1.0, "label": "face"}]]


@given(
    stream=st.text(min_size=1, max_size=8),
    share=st.floats(0.001, 1),
    run=st.integers(1, 200),
    first=st.integers(0, 10**9),
    runs=st.integers(1, 300),
)
def test_of_successive_runs_a_candidate_gets_its_share(
    stream: str, share: float, run: int, first: int, runs: int
) -> None:
    begin = first // run
    got = sum(takes(stream, (begin + n) * run, share, run) for n in range(runs))
    assert math.floor(share * runs) - 1e-6 <= got <= math.ceil(share * runs) + 1e-6
    assert takes(stream, begin * run, share, run) == takes(stream, begin * run + run - 1, share, run)


def test_streams_choose_other_frames() -> None:
    chosen = {name: [n for n in range(100) if takes(name, n, 0.1)] for name in ("door", "yard", "gate")}
    assert len({tuple(frames) for frames in chosen.values()}) == 3
    assert all(len(frames) == 10 for frames in chosen.values())


def core(*, lossless: bool = True, share: float = 1.0, window: int = 2) -> StreamCore:
    stream = StreamCore("cam", lossless, window, deadline_s=10.0)
    stream.route(SERVING, (), 0.0)
    stream.set_canary(Canary("cam", share, TRIED), 0.0)
    return stream


def sent(commands: list[Command]) -> list[tuple[str, int, str]]:
    return [(one.id.group, one.id.frame, one.device) for one in commands if isinstance(one, Send)]


def answer(stream: StreamCore, send: Command, now: float = 0.0, error: str | None = None) -> list[Command]:
    assert isinstance(send, Send)
    if error:
        return stream.output(output(send.id, "det", [], error=error), now)
    found = [stream.output(output(send.id, node, BOX if node == "det" else [], [0]), now) for node in send.route]
    return [one for commands in found for one in commands]


def test_a_frame_is_sent_under_the_candidates_plan_and_delivered_as_the_streams() -> None:
    stream = core()
    [send] = stream.submit(0.0, 0.0)[1]
    assert sent([send]) == [("face--candidate", 0, "h.b.two")]
    [close] = answer(stream, send)
    assert isinstance(close, Close)
    assert (close.outcome, close.id and close.id.group) == (Outcome.DELIVERED, "face--candidate")
    assert stream.canary is not None
    assert (stream.canary.served, stream.canary.failed) == (1, {})
    stream.validate()


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("code", ["bad-model", "refused", "inference-failed", "internal"])
def test_a_frame_that_it_fails_at_goes_to_what_serves_at_once(lossless: bool, code: str) -> None:
    stream = core(lossless=lossless)
    [send] = stream.submit(0.0, 0.0)[1]
    [again] = answer(stream, send, 0.1, error=code)
    assert sent([again]) == [("face", 0, "h.b.one")]
    assert answer(stream, send, 0.2) == []  # its answer comes late
    [close] = answer(stream, again, 0.3)
    assert isinstance(close, Close)
    assert close.outcome is Outcome.DELIVERED
    assert stream.canary is not None
    assert stream.canary.failed == {code: 1}
    stream.validate()


@pytest.mark.parametrize("lossless", [True, False])
def test_it_has_less_time_than_what_serves(lossless: bool) -> None:
    stream = core(lossless=lossless)
    stream.submit(0.0, 0.0)
    assert stream.tick(CANARY_S - 0.01) == []
    assert sent(stream.tick(CANARY_S)) == [("face", 0, "h.b.one")]
    assert stream.tick(CANARY_S + 9.9) == []


@pytest.mark.parametrize("how", ["device", "plan", "ended", "both"])
@pytest.mark.parametrize("lossless", [True, False])
def test_what_it_had_goes_to_what_serves_when_it_goes(lossless: bool, how: str) -> None:
    stream = core(lossless=lossless)
    stream.submit(0.0, 0.0)
    match how:
        case "device":
            commands = stream.route_canary(TRIED, {"h.b.two"}, 1.0)
        case "plan":
            commands = stream.route_canary(None, (), 1.0)
        case "both":
            commands = stream.route(SERVING, {"h.b.two"}, 1.0)
        case _:
            commands = stream.set_canary(None, 1.0)
    assert sent(commands) == [("face", 0, "h.b.one")]
    [close] = answer(stream, commands[0], 1.1)
    assert isinstance(close, Close)
    assert close.outcome is Outcome.DELIVERED
    stream.validate()


def test_after_failures_in_a_row_it_rests_longer_each_time() -> None:
    stream = core(window=20)
    canary = stream.canary
    assert canary is not None
    now, rests = 0.0, []
    for _ in range(3):
        while now >= canary.rests_until:
            send = next(one for one in stream.submit(now, now)[1] if isinstance(one, Send))
            assert send.id.group == "face--candidate"
            answer(stream, answer(stream, send, now, error="internal")[0], now)
            stream.published(now)
        rests.append(canary.rests_until - now)
        now = canary.rests_until
    assert canary.row == FAILURES + 2
    assert rests == [10.0, 20.0, 40.0]
    [send] = stream.submit(now, now)[1]
    answer(stream, send, now)
    assert (canary.row, canary.served) == (0, 1)


def test_results_leave_in_order_whoever_made_them() -> None:
    stream = core(share=0.5, window=8)
    sends = [command for _ in range(4) for command in stream.submit(0.0, 0.0)[1]]
    groups = [group for group, *_ in sent(sends)]
    assert sorted(groups) == ["face", "face", "face--candidate", "face--candidate"]
    closes: list[Command] = []
    for send in reversed(sends):
        closes += answer(stream, send)
    assert [one.frame for one in closes if isinstance(one, Close)] == [0, 1, 2, 3]
    stream.validate()


def test_what_it_sat_out_is_counted() -> None:
    stream = core(share=1.0, window=100)
    for number in range(FAILURES):
        [send] = stream.submit(0.0, float(number))[1]
        answer(stream, send, float(number), error="inference-failed")
    assert stream.canary is not None
    for _ in range(7):
        stream.submit(0.0, 5.0)
    assert (stream.canary.rested, stream.canary.skipped) == (7, 7)
