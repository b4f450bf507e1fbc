"""Trace contexts: what is understood, what is ignored, which frames are traced."""

from __future__ import annotations

import numpy as np
import pytest

from hams_shared.errors import BadInputError
from hams_shared.wire.frames import FrameId, Output, Steps, Work, pack_outputs, pack_works, unpack_outputs, unpack_works
from hams_shared.wire.trace_context import Context, Sampling, frame_context, own, parse, sampling_of, span_id

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01"
HOSTILE = (
    "",
    "0",
    GOOD[:-1],
    GOOD + "0",
    GOOD + "\n",
    GOOD.upper(),
    GOOD.replace("-", "_"),
    f"ff-{TRACE}-{SPAN}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE[:-1]}g-{SPAN}-01",
    f"00-{TRACE[:-1]}٣-{SPAN}-01",
    "-" * 55,
    "\0" * 55,
    "x" * 1_000_000,
    None,
    7,
    GOOD.encode(),
)


def test_a_context_is_read_and_written() -> None:
    assert parse(GOOD) == Context(TRACE, SPAN, True)
    assert parse(GOOD[:-1] + "0") == Context(TRACE, SPAN, False)
    assert parse(f"cc-{TRACE}-{SPAN}-03") == Context(TRACE, SPAN, True)  # a later version, with further flags
    assert Context(TRACE, SPAN).traceparent == GOOD


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_anything_else_is_ignored(text: object) -> None:
    assert parse(text) is None
    if isinstance(text, str):
        assert own(text) == ""


def test_the_same_frame_has_the_same_ids_and_no_other() -> None:
    one = frame_context("face", "cam", 7, 12.5)
    assert one == frame_context("face", "cam", 7, 12.5)
    others = [
        frame_context(*args) for args in (("face", "cam", 8, 12.5), ("face", "cam", 7, 12.6), ("f", "x", 7, 12.5))
    ]
    assert len({one.trace, *(other.trace for other in others)}) == 4
    child = frame_context("face", "cam", 7, 12.5, parse(GOOD))
    assert child.trace == TRACE
    assert child.span not in (SPAN, one.span)
    assert parse(child.traceparent) == child
    assert len({span_id(str(n), TRACE) for n in range(1000)}) == 1000


def test_as_many_frames_are_traced_as_asked_for() -> None:
    traces = [frame_context("face", "cam", n, 1e9 + n / 25).trace for n in range(20_000)]
    for ratio in (0.0, 0.01, 0.25, 1.0):
        taken = sum(Sampling(ratio).takes(trace) for trace in traces)
        assert taken == pytest.approx(ratio * 20_000, abs=4 * (20_000 * ratio * (1 - ratio)) ** 0.5)
    few = {trace for trace in traces if Sampling(0.01).takes(trace)}
    assert few < {trace for trace in traces if Sampling(0.1).takes(trace)}  # as TraceIdRatioBased has it


def test_a_frame_follows_the_context_that_it_comes_with() -> None:
    sampled, not_sampled = Context(TRACE, SPAN, True), Context(TRACE, SPAN, False)
    assert Sampling(0.0).takes(TRACE, sampled)
    assert not Sampling(1.0).takes(TRACE, not_sampled)
    assert Sampling(1.0, follows=False).takes(TRACE, not_sampled)


SETTINGS = [
    ({}, None),
    ({"HAMS_TRACE": ""}, None),
    ({"HAMS_TRACE": "off"}, None),
    ({"HAMS_TRACE": "0"}, None),
    ({"OTEL_TRACES_SAMPLER_ARG": "0.5"}, None),  # off unless HAMS_TRACE turns it on
    ({"HAMS_TRACE": "on"}, Sampling(0.01)),
    ({"HAMS_TRACE": "ON "}, Sampling(0.01)),
    ({"HAMS_TRACE": "0.2"}, Sampling(0.2)),
    ({"HAMS_TRACE": "1"}, Sampling(1.0)),
    ({"HAMS_TRACE": "on", "OTEL_TRACES_SAMPLER_ARG": "0.5"}, Sampling(0.5)),
    ({"HAMS_TRACE": "0.2", "OTEL_TRACES_SAMPLER_ARG": "0.5"}, Sampling(0.2)),
    ({"HAMS_TRACE": "on", "OTEL_TRACES_SAMPLER": "always_on"}, Sampling(1.0, follows=False)),
    ({"HAMS_TRACE": "on", "OTEL_TRACES_SAMPLER": "parentbased_always_off"}, Sampling(0.0)),
    ({"HAMS_TRACE": "on", "OTEL_TRACES_SAMPLER": "traceidratio"}, Sampling(0.01, follows=False)),
    ({"HAMS_TRACE": "on", "OTEL_SDK_DISABLED": "true"}, None),
]


@pytest.mark.parametrize(("environ", "expected"), SETTINGS)
def test_the_environment_turns_it_on(environ: dict[str, str], expected: Sampling | None) -> None:
    assert sampling_of(environ) == expected


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"HAMS_TRACE": "often"}, "HAMS_TRACE is 'often'"),
        ({"HAMS_TRACE": "-0.1"}, "HAMS_TRACE"),
        ({"HAMS_TRACE": "2"}, "HAMS_TRACE"),
        ({"HAMS_TRACE": "nan"}, "HAMS_TRACE"),
        ({"HAMS_TRACE": "on", "OTEL_TRACES_SAMPLER_ARG": "1 %"}, "OTEL_TRACES_SAMPLER_ARG"),
        ({"HAMS_TRACE": "on", "OTEL_TRACES_SAMPLER": "jaeger_remote"}, "OTEL_TRACES_SAMPLER"),
    ],
)
def test_what_is_not_understood_is_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(BadInputError, match=named):
        sampling_of(environ)


# ── in messages ───────────────────────────────────────────────────────────────────────────────────────────────────────

ID = FrameId("face", "cam", 7, 0, 1, 12.5)


def work(traceparent: str) -> Work:
    return Work(ID, "det", np.zeros((1, 2, 2, 3), np.uint8), np.zeros((1, 2, 3)), [0], (2, 2), traceparent=traceparent)


def test_messages_of_other_frames_are_as_long_as_before() -> None:
    assert b"trace" not in pack_works([work("")])
    assert b"trace" not in pack_outputs([Output(ID, "det", "h.b.u", [])])
    assert len(pack_works([work(GOOD)])) - len(pack_works([work("")])) == 55 + 2 + 12


def test_it_travels_with_work_and_with_outputs() -> None:
    [one] = unpack_works(pack_works([work(GOOD)]))
    assert one.traceparent == GOOD
    steps = Steps(GOOD, 12.0, [("queue", 0.0, 1.5), ("infer", 1.5, 3.0)])
    [output] = unpack_outputs(pack_outputs([Output(ID, "det", "h.b.u", [], trace=steps)]))
    assert output.trace == steps


@pytest.mark.parametrize("text", [one for one in HOSTILE if isinstance(one, str)], ids=lambda text: text[:8])
def test_work_with_a_hostile_context_is_work_without_one(text: str) -> None:
    [one] = unpack_works(pack_works([work(text)]))
    assert (one.traceparent, one.node, one.count) == ("", "det", 1)
