"""From what the pipeline saw of a frame to its spans: each frame has one whole trace, however it ended."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from hams_services.pipeline.flight import Send
from hams_services.pipeline.frame_trace import End, FrameNotes, build
from hams_shared.wire.frames import FrameId, Output, Steps
from hams_shared.wire.messages.trace import FrameTrace
from hams_shared.wire.trace_context import frame_context
from support.build import group_spec, plan

SPEC = group_spec(nodes=("det", "age", "sex"))
PLAN = plan(3, {"det": "a.b.one", "age": "a.b.two", "sex": "c.b.three"}, SPEC)
ROUTE = {"det": "a.b.one", "age": "a.b.two", "sex": "c.b.three"}
WALL, MONO = 1_700_000_000.0, 50.0
"""A frame is submitted then."""


def notes(read_s: float = 0.0) -> FrameNotes:
    context = frame_context("face", "cam", 7, WALL)
    return FrameNotes(SPEC, "cam", 7, WALL, context, "", False, submitted=MONO, wall=WALL, read_s=read_s)


def frame_id(attempt: int = 0) -> FrameId:
    return FrameId("face", "cam", 7, attempt, 3, WALL)


def send(node: str = "det", attempt: int = 0) -> Send:
    return Send(frame_id(attempt), PLAN, ROUTE, node)


def answer(node: str, at_ms: float, *steps: float, attempt: int = 0, error: str = "", skew_ms: float = 0.0) -> Output:
    """An answer of work that came `at_ms` after the frame was submitted, with steps of so many ms."""
    ends = [sum(steps[: n + 1]) for n in range(len(steps))]
    names = ("queue", "prepare", "infer", "decode", "crop")
    found = [(names[n], end - step, end) for n, (step, end) in enumerate(zip(steps, ends, strict=True))]
    trace = {"trace": Steps("", WALL + (at_ms + skew_ms) / 1e3, found)} if steps else {}
    failed = {"code": error, "text": "it failed", "hint": ""} if error else None
    items = [] if error else [[]] if node == "det" else [{"value": 1}]
    return Output(frame_id(attempt), node, ROUTE[node], items, error=failed, **trace)


def at(ms: float) -> float:
    return MONO + ms / 1e3


def delivered(trace: FrameNotes, delivering: float, joined: float, published: float) -> FrameTrace:
    trace.delivering, trace.joined = at(delivering), at(joined)
    return build(trace, End(at(published), "delivered", objects=1))


def table(trace: FrameTrace) -> list[tuple[str, float, float]]:
    """Spans without steps: name, start, end."""
    return [(s.name, s.start_ms, s.end_ms) for s in trace.spans if s.parent == 0]


def check(trace: FrameTrace) -> None:
    """Each span lies in its parent and begins after the one that it follows; the critical path fits into the whole."""
    assert [span.parent for span in trace.spans].count(None) == 1
    for index, span in enumerate(trace.spans):
        assert 0 <= span.start_ms <= span.end_ms <= trace.duration_ms
        if span.parent is not None:
            assert span.parent < index
            parent = trace.spans[span.parent]
            assert parent.start_ms <= span.start_ms
            assert span.end_ms <= parent.end_ms
        if span.follows is not None:
            assert trace.spans[span.follows].end_ms <= span.start_ms
        assert all(math.isfinite(one) for one in (span.start_ms, span.end_ms, span.shifted_ms))
    for index in range(len(trace.spans)):
        steps = [span for span in trace.spans if span.parent == index]
        if index:
            assert sum(step.duration_ms for step in steps) <= trace.spans[index].duration_ms + 1e-2
    path = [trace.spans[index] for index in trace.critical_path()]
    assert sum(span.duration_ms for span in path) <= trace.duration_ms + 1e-2
    FrameTrace.model_validate(trace.model_dump())


def test_a_frame_over_two_devices() -> None:
    trace = notes(read_s=0.004)
    trace.sent(send(), at(1))
    trace.answered(answer("det", 2, 1, 1, 5, 1, 1), at(12))
    trace.answered(answer("age", 13, 2, 1, 3, 1), at(21))
    trace.answered(answer("sex", 13, 0, 1, 1, 1), at(18))
    found = delivered(trace, 22, 23, 24)
    check(found)
    assert table(found) == [
        ("read", 0.0, 4.0),
        ("wait", 4.0, 5.0),
        ("det", 6.0, 15.0),
        ("age", 17.0, 24.0),
        ("sex", 17.0, 20.0),
        ("join", 25.0, 27.0),
        ("publish", 27.0, 28.0),
    ]
    assert [(s.name, s.device) for s in found.spans if s.parent and found.spans[s.parent].name == "age"] == [
        (name, "a.b.two") for name in ("queue", "prepare", "infer", "decode")
    ]
    assert [found.spans[n].name for n in found.critical_path()] == ["read", "wait", "det", "age", "join", "publish"]
    assert (found.outcome, found.attempts, found.epoch, found.sampled) == ("delivered", 1, 3, True)
    assert {s.name: s.images for s in found.spans if s.images is not None} == {"det": 1, "age": 1, "sex": 1}


def test_the_clock_of_another_box_is_believed_as_far_as_it_can_be_right() -> None:
    for skew in (-3_600_000.0, -30.0, -0.5, 0.0, 0.5, 30.0, 3_600_000.0):
        trace = notes()
        trace.sent(send(), at(1))
        trace.answered(answer("det", 2, 0, 1, 5, 1, 1, skew_ms=skew), at(12))
        trace.answered(answer("age", 13, 0, 1, 3, 1), at(21))
        trace.answered(answer("sex", 13, 0, 1, 1, 1), at(18))
        found = delivered(trace, 22, 23, 24)
        check(found)
        [det] = [span for span in found.spans if span.name == "det"]
        assert det.duration_ms == 8.0
        assert 1.0 <= det.start_ms <= 4.0
        assert det.shifted_ms == (0.0 if abs(skew) < 1 else det.start_ms - 2 - skew)


def test_an_answer_of_an_older_agent_has_its_durations_only() -> None:
    trace = notes()
    trace.sent(send(), at(1))
    older = Output(frame_id(), "det", "a.b.one", [[]], timing={"queue": 1.0, "infer": 5.0, "decode": 1.0})
    trace.answered(older, at(12))
    found = delivered(trace, 13, 14, 15)
    check(found)
    assert [(s.name, s.start_ms, s.end_ms) for s in found.spans if s.device and s.parent][:3] == [
        ("queue", 5.0, 6.0),
        ("infer", 6.0, 11.0),
        ("decode", 11.0, 12.0),
    ]


def test_a_frame_that_was_not_sent_waits_and_ends() -> None:
    dropped = build(notes(), End(at(30), "dropped", "newer-frame"))
    check(dropped)
    assert table(dropped) == [("wait", 0.0, 30.0)]
    assert (dropped.outcome, dropped.reason, dropped.spans[0].error) == ("dropped", "newer-frame", "newer-frame")
    trace = notes(read_s=0.002)
    trace.gated_at = at(1)
    gated = build(trace, End(at(1), "gated", "nothing moved"))
    check(gated)
    assert table(gated) == [("read", 0.0, 2.0), ("gate", 2.0, 3.0)]
    assert gated.spans[0].error == ""


def test_a_predicted_frame_only_waits_for_its_turn() -> None:
    found = delivered(notes(), 20, 21, 22)
    check(found)
    assert table(found) == [("wait", 0.0, 20.0), ("join", 20.0, 21.0), ("publish", 21.0, 22.0)]
    assert [found.spans[n].name for n in found.critical_path()] == ["wait", "join", "publish"]


def test_a_held_frame_waits_within_its_join() -> None:
    trace = notes()
    trace.sent(send(), at(0))
    trace.answered(answer("det", 1, 1, 1, 1), at(5))
    found = delivered(trace, 40, 41, 42)
    check(found)
    assert [(s.name, s.start_ms, s.end_ms) for s in found.spans][-3:] == [
        ("join", 5.0, 41.0),
        ("hold", 5.0, 40.0),
        ("publish", 41.0, 42.0),
    ]


def test_attempts_follow_one_another() -> None:
    trace = notes()
    trace.sent(send(), at(0))
    trace.answered(answer("det", 0, error="refused"), at(5))
    trace.sent(send(attempt=1), at(105))
    trace.answered(answer("det", 106, 1, 1, 1, attempt=1), at(110))
    trace.answered(answer("det", 1, 1, 1, 1), at(111))  # late, of the attempt that failed: it is ignored
    found = delivered(trace, 111, 112, 113)
    check(found)
    assert found.attempts == 2
    assert [(s.name, s.error) for s in found.spans if s.parent == 0] == [
        ("det", "refused: it failed"),
        ("wait", ""),
        ("det", ""),
        ("join", ""),
        ("publish", ""),
    ]


def test_nodes_that_did_not_answer_are_named() -> None:
    trace = notes()
    trace.sent(send(), at(0))
    trace.answered(answer("det", 1, 1, 1, 5), at(9))
    trace.answered(answer("sex", 11, 1, 1, 1), at(15))
    found = build(trace, End(at(1000), "dropped", "deadline"))
    check(found)
    assert [(s.name, s.device, s.end_ms, s.error) for s in found.spans if s.parent == 0][1:] == [
        ("sex", "c.b.three", 14.0, ""),
        ("age", "a.b.two", 1000.0, "no answer"),
    ]
    lost = notes()
    lost.sent(send(), at(0))
    gone = build(lost, End(at(500), "dropped", "device-lost"))
    check(gone)
    assert [(s.name, s.error) for s in gone.spans] == [("frame", "device-lost"), ("det", "no answer")]


def test_the_pipeline_chooses_what_a_child_looks_at() -> None:
    trace = notes()
    trace.sent(send(), at(0))
    trace.answered(answer("det", 1, 1, 1, 5), at(10))
    trace.sent(send("age"), at(14))
    trace.answered(answer("age", 15, 1, 1, 1), at(20))
    found = delivered(trace, 20, 21, 22)
    check(found)
    assert [found.spans[n].name for n in found.critical_path()] == ["det", "choose", "age", "join", "publish"]
    [choose] = [span for span in found.spans if span.name == "choose"]
    assert (choose.start_ms, choose.end_ms, choose.node) == (10.0, 14.0, "age")


NUMBERS = st.one_of(st.floats(0, 40), st.sampled_from([math.nan, math.inf, -math.inf, -5.0, 1e300]))
STEPS = st.lists(st.tuples(st.sampled_from(["queue", "infer", "x" * 100]), NUMBERS, NUMBERS), max_size=20)


@st.composite
def stories(draw: st.DrawFn) -> FrameTrace:
    """What agents may send, in any order, and however the frame ends."""
    trace = notes(read_s=draw(st.floats(0, 0.01)))
    now = draw(st.floats(0, 5))
    for attempt in range(draw(st.integers(0, 3))):
        trace.sent(send(attempt=attempt), at(now))
        for _ in range(draw(st.integers(0, 5))):
            now += draw(st.floats(0, 20))
            if draw(st.booleans()) and attempt:
                trace.sent(send(draw(st.sampled_from(["age", "sex"])), attempt), at(now))
            node = draw(st.sampled_from(["det", "age", "sex"]))
            failed = {"code": "refused", "text": "", "hint": ""} if draw(st.integers(0, 4)) == 0 else None
            arrived = draw(st.one_of(st.floats(WALL - 1, WALL + 1), NUMBERS))
            steps = {"trace": Steps("junk", arrived, draw(STEPS))} if draw(st.booleans()) else {}
            answered = Output(frame_id(draw(st.integers(0, attempt))), node, ROUTE[node], [[]], error=failed, **steps)
            trace.answered(answered, at(now))
        now += draw(st.floats(0, 20))
    if draw(st.booleans()):
        return delivered(trace, now, now + 1, now + draw(st.floats(1, 5)))
    return build(trace, End(at(now), draw(st.sampled_from(["dropped", "failed"])), "deadline"))


@given(stories())
@settings(max_examples=100, deadline=None)
def test_every_story_gives_a_whole_trace(found: FrameTrace) -> None:
    check(found)
