"""Traces of frames: whole, of the frames that were asked for, across devices, and nothing where nobody asks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import UNSET

from hams_services.pipeline.service import PipelineService
from hams_services.pipeline.traces import Tracing
from hams_shared.wire import codec, subjects
from hams_shared.wire.frames import Steps
from hams_shared.wire.messages.pipeline import InferRequest
from hams_shared.wire.messages.trace import FrameTrace
from hams_shared.wire.trace_context import Sampling, frame_context, parse
from support.world.parts import Part
from support.world.stub import StubDevice
from support.world.system import System, boxes_and_light, light, picture

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def traced(world: System, ratio: float = 1.0) -> list[FrameTrace]:
    """Start a pipeline that traces; return what it exports."""
    found: list[FrameTrace] = []
    tracing = Tracing(Sampling(ratio), found.append)

    def make(bus: Any) -> PipelineService:
        return PipelineService(bus, world.folder, world.clock, "box", None, tracing)

    world._started(Part("pipeline", world.server, make))
    return found


async def two_boxes(world: System, group: dict[str, Any]) -> None:
    """A detector on one box, what looks at its objects on another."""
    world.scheduler()
    world.agent("one", StubDevice(fps=40), host="near")
    world.agent("two", StubDevice(fps=40), host="far")
    await world.alive(2)
    for node, device in (("find", "near.stub.one"), ("light", "far.stub.two")):
        group["nodes"][node]["pin"] = [device]
    await world.deploy(group)


def nodes(trace: FrameTrace) -> dict[str, str]:
    return {span.name: span.device for span in trace.spans if span.parent == 0 and span.device}


async def test_a_frame_over_two_boxes_is_one_trace(world: System) -> None:
    found = traced(world)
    await two_boxes(world, boxes_and_light())
    results = await world.listen()
    tap = world.hams.tap("grey", "light")
    async with tap:
        await world.later(0.5)  # the request has arrived
        world.play(count=20)
        await world.until(lambda: len(found) == 20 == len(results.received))
        output = await anext(tap)
    assert [trace.frame for trace in found] == list(range(20))
    for trace, result in zip(found, results.received, strict=True):
        assert nodes(trace) == {"find": "near.stub.one", "light": "far.stub.two"}
        assert (trace.outcome, trace.sampled, trace.attempts) == ("delivered", True, 1)
        assert result.traceparent == trace.traceparent
        own = parse(trace.traceparent)
        assert own == frame_context("grey", "s0", trace.frame, trace.captured)
        steps = [span for span in trace.spans if span.parent]
        assert {trace.spans[s.parent].node for s in steps if s.node} == {"find", "light"}  # type: ignore[index]
        assert {"queue", "prepare", "infer", "decode"} <= {span.name for span in steps}
        assert [trace.spans[n].name for n in trace.critical_path()][-3:] == ["light", "join", "publish"]
    assert isinstance(output.trace, Steps)
    assert output.trace.traceparent in [trace.traceparent for trace in found]


async def test_spans_have_the_right_parents_in_opentelemetry(world: System) -> None:
    pytest.importorskip("opentelemetry.sdk.trace", reason="needs hams[otel]")
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from hams_services.pipeline.span_export import SpanExport

    found = traced(world)
    await two_boxes(world, boxes_and_light())
    world.play(count=3)
    await world.until(lambda: len(found) == 3)
    memory = InMemorySpanExporter()
    export = SpanExport(memory)
    for trace in found:
        export.export(trace)
    export.close()
    spans = memory.get_finished_spans()
    by_trace = {span.context.trace_id: [] for span in spans}
    for span in spans:
        by_trace[span.context.trace_id].append(span)
    assert len(by_trace) == 3
    for of_frame in by_trace.values():
        by_id = {span.context.span_id: span for span in of_frame}
        assert len(by_id) == len(of_frame)
        [root] = [span for span in of_frame if span.parent is None]
        assert (root.name, root.resource.attributes["service.name"]) == ("frame", "hams-pipeline")
        for span in of_frame:
            assert span.start_time <= span.end_time
            if span is root:
                continue
            parent = by_id[span.parent.span_id]
            assert parent.start_time <= span.start_time <= span.end_time <= parent.end_time
            node = span.attributes.get("hams.node")
            assert parent is root or parent.attributes["hams.node"] == node
        [child] = [span for span in of_frame if span.name == "light"]
        assert [by_id[link.context.span_id].name for link in child.links] == ["find"]
        about = child.resource.attributes
        assert (about["service.name"], about["host.name"], about["hams.device"]) == (
            "hams-agent",
            "far",
            "far.stub.two",
        )


async def test_as_many_frames_are_traced_as_asked_for_and_no_message_of_others_tells(world: System) -> None:
    found = traced(world, 0.1)
    await two_boxes(world, boxes_and_light())
    results = await world.listen()
    world.play(count=200)
    await world.until(lambda: len(results.received) == 200)
    sampled = {result.frame for result in results.received if result.traceparent is not None}
    assert sampled == {trace.frame for trace in found}
    assert 5 <= len(sampled) <= 45
    expected = [
        r for r in results.received if Sampling(0.1).takes(frame_context("grey", "s0", r.frame, r.captured).trace)
    ]
    assert sampled == {result.frame for result in expected}


async def test_nothing_is_traced_unless_asked_for(world: System) -> None:
    world.pipeline()
    await two_boxes(world, boxes_and_light())
    results = await world.listen()
    async with world.hams.tap("grey", "find") as tap:
        await world.later(0.5)
        world.play(count=10)
        await world.until(lambda: len(results.received) == 10)
        assert (await anext(tap)).trace is UNSET
    assert all(result.traceparent is None for result in results.received)
    assert (await world.hams.infer("grey", picture(3), traceparent=PARENT)).traceparent is None
    for flow in world.parts["pipeline"].service._groups["grey"].flows.values():
        assert not flow.traces.active
        assert not flow.traces.open


async def test_a_client_gets_the_traces_that_it_requests(world: System) -> None:
    world.pipeline()
    await two_boxes(world, boxes_and_light())
    results = await world.listen()
    async with world.hams.traces("grey", count=3) as traces, world.hams.tap("grey", "light") as tap:
        await world.later(0.5)
        world.play(count=30)
        got = [await anext(traces) for _ in range(3)]
        outputs = [await anext(tap) for _ in range(5)]
        await world.until(lambda: len(results.received) == 30)
    assert [trace.frame for trace in got] == [0, 1, 2]
    assert not any(trace.sampled for trace in got)
    assert [isinstance(output.trace, Steps) for output in outputs] == [True] * 3 + [False] * 2
    assert all(nodes(trace) == {"find": "near.stub.one", "light": "far.stub.two"} for trace in got)
    assert all(result.traceparent is None for result in results.received)  # no collector has them
    assert not world.parts["pipeline"].service._groups["grey"].flows["s0"].traces.open


async def test_an_application_sees_its_own_trace_go_on(world: System) -> None:
    found = traced(world, 0.0)  # parentbased_always_off
    await two_boxes(world, boxes_and_light())
    result = await world.hams.infer("grey", picture(3), traceparent=PARENT)
    assert result.traceparent is not None
    assert result.traceparent[:35] == PARENT[:35]
    assert result.traceparent != PARENT
    assert [(trace.parent, trace.traceparent) for trace in found] == [(PARENT, result.traceparent)]
    not_sampled = await world.hams.infer("grey", picture(3), traceparent=PARENT[:-1] + "0")
    assert not_sampled.traceparent is None


@pytest.mark.parametrize("text", ["", "0", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "x" * 100_000, "00-🦊-01"])
async def test_a_hostile_context_is_ignored(world: System, text: str) -> None:
    found = traced(world)
    await two_boxes(world, boxes_and_light())
    result = await world.hams.infer("grey", picture(3), traceparent=text)
    assert result.traceparent == found[0].traceparent
    assert found[0].parent == ""
    request = codec.pack({**InferRequest(image=b"").model_dump(), "traceparent": ["no", "text"]})
    answer = await world.bus.request(subjects.infer("grey"), request, timeout=5)  # malformed: an error, as ever
    assert b"bad-message" in answer.data
    world.check_books()


async def test_frames_that_are_not_delivered_end_their_trace_with_the_reason(world: System) -> None:
    found = traced(world)
    world.scheduler()
    device = StubDevice(fps=20)
    world.agent("sim", device)
    await world.alive(1)
    await world.deploy(light({"mode": "live"}))
    world.play(fps=100)
    await world.until(lambda: [t.outcome for t in found].count("delivered") >= 5)
    device.fails_from = 0
    await world.until(lambda: any(trace.reason == "inference-failed" for trace in found))
    by_reason = {trace.reason: trace for trace in found if trace.outcome != "delivered"}
    assert by_reason["newer-frame"].attempts == 0
    failed = by_reason["inference-failed"]
    assert failed.outcome == "dropped"
    [error] = [span.error for span in failed.spans if span.name == "light"]
    assert "the stub was told to" in error
    stream = await world.stream()
    ended = stream.delivered + sum(stream.dropped.values()) + sum(stream.failed.values())
    assert abs(len(found) - ended) <= 3  # one root for each frame that has ended; some ended since


async def test_a_lost_device_ends_the_trace_of_what_it_had(world: System) -> None:
    found = traced(world)
    await two_boxes(world, boxes_and_light({"mode": "live"}))
    world.play(fps=20)
    await world.until(lambda: len(found) >= 5)
    world.devices["far.stub.two"].hangs = True
    await world.until(lambda: any(t.reason in ("device-lost", "deadline") for t in found))
    lost = next(t for t in found if t.reason in ("device-lost", "deadline"))
    assert [(span.name, span.error) for span in lost.spans if span.device and span.parent == 0] == [
        ("find", ""),
        ("light", "no answer"),
    ]
    world.backends["far.stub.two"].release()


async def test_gated_and_predicted_frames_have_traces_too(world: System) -> None:
    found = traced(world)
    world.scheduler()
    world.agent("sim", StubDevice(fps=100))
    await world.alive(1)
    stream = {"mode": "lossless", "gate": {"hold_s": 0.1, "min_fps": 1}}
    group = boxes_and_light(stream)
    group["nodes"]["find"] |= {"track": {"confirm_hits": 1}, "cadence": 4}
    await world.deploy(group)
    for number in (3, 3, 3, 3, 9, 15, 21, 27, 33, 39):
        await world.hams.push("grey", "s0", picture(number))
        await asyncio.sleep(0.1)
    await world.until(lambda: len(found) == 10)
    gated = [trace for trace in found if trace.outcome == "gated"]
    predicted = [trace for trace in found if trace.predicted]
    assert gated
    assert predicted
    for trace in gated:
        assert [span.name for span in trace.spans][-1] == "gate"
        assert trace.spans[0].error == ""
    for trace in predicted:
        assert "find" not in nodes(trace)
        assert [trace.spans[n].name for n in trace.critical_path()][-2:] == ["join", "publish"]


async def test_events_of_a_traced_frame_carry_its_context(world: System) -> None:
    found = traced(world, 0.5)
    group = boxes_and_light()
    group["nodes"]["find"] |= {"track": {"confirm_hits": 1}}
    await two_boxes(world, group)
    world.play(count=30)
    await world.until(lambda: (len(found) and found[-1].frame) >= 20)
    events = [event async for event in world.hams.events("grey", since=600, follow=False)]
    assert events
    by_frame = {trace.frame: trace.traceparent for trace in found}
    assert {event.frame: event.traceparent for event in events} == {e.frame: by_frame.get(e.frame, "") for e in events}
