"""Candidates for a group that serves: compared with it, serving part of its frames, promoted and dropped."""

from __future__ import annotations

from typing import Any

import pytest

from hams_shared.bus import candidates
from hams_shared.errors import BadInputError, ConflictError, GroupSpecError, NotFoundError
from hams_shared.wire.messages.candidate import CandidateView
from hams_shared.wire.messages.group import GroupRecord
from support.world.stub import StubDevice
from support.world.system import Listener, System, boxes_and_light, light, values


async def serving(world: System, group: dict[str, Any], fps: float = 20, **devices: StubDevice) -> Listener:
    """A group that serves, is fed and is listened to."""
    await world.box(**(devices or {"sim": StubDevice(fps=200.0)}))
    await world.deploy(group)
    results = await world.listen()
    world.play(fps=fps)
    await world.until(lambda: len(results.received) >= 3)
    return results


async def tried(world: System, spec: dict[str, Any], *, placed: bool = True, **trial: Any) -> GroupRecord:
    """Deploy `spec` as a candidate, as `hams-ctl deploy --shadow` does, and wait until it is placed."""
    record, files = world.record(spec)
    await world.control.upload(files, lambda *_: None)
    of = await candidates.serving_record(world.control, spec["name"])
    record = candidates.as_candidate(record, of, candidates.Trial(**{"mode": "shadow", "share": 0.5, **trial}))
    await world.control.deploy(record)
    if placed:
        async for _ in world.control.follow(record):
            pass
    return record


async def seen(world: System) -> CandidateView:
    """What the pipeline says of the only candidate."""
    found = (await world.control.streams()).candidates
    assert found is not None
    [one] = found
    return one


async def compared(world: System, frames: int = 40) -> CandidateView:
    """Wait until the candidate was compared on so many frames."""

    async def enough() -> CandidateView | None:
        one = await seen(world)
        return one if one.frames >= frames and one.agreement is not None else None

    found: CandidateView = await world.until(enough, every=0.2)
    return found


@pytest.mark.parametrize("group", [light(), boxes_and_light()], ids=["light", "boxes"])
async def test_a_shadow_equal_to_what_serves_agrees_wholly_and_publishes_nothing(
    world: System, group: dict[str, Any]
) -> None:
    results = await serving(world, group)
    heard = await world.listen("grey--candidate")
    await tried(world, group)
    one = await compared(world)
    assert (one.agreement, set(one.nodes.values()), one.state) == (1.0, {1.0}, "running")
    assert (one.streams[0].failed, one.streams[0].dropped, one.streams[0].unpaired) == ({}, {}, 0)
    assert one.candidate.latency.p95_ms > 0
    assert not heard.received
    assert not any("candidate" in r.data for r in results.received)
    results.check()
    assert [one.name for one in await world.hams.groups()] == ["grey"]


async def test_a_shadow_with_another_network_agrees_less(world: System) -> None:
    results = await serving(world, light())
    await tried(world, light(node={"model": "brightness +40"}))
    one = await compared(world)
    assert one.agreement is not None
    assert 0.0 <= one.agreement < 0.9
    assert max(values(results.received)) < 256  # nothing of it is published
    results.check()


async def test_a_shadow_that_finds_less_agrees_less(world: System) -> None:
    await serving(world, boxes_and_light())
    stricter = boxes_and_light()
    stricter["nodes"]["find"]["task"]["threshold"] = 0.95  # the stub is sure to 0.9
    await tried(world, stricter)
    one = await compared(world)
    assert one.nodes == {"find": pytest.approx(0.0, abs=0.2)}  # nothing was found, so there is nothing to describe


async def test_a_shadow_that_fails_or_is_slow_costs_what_serves_nothing(world: System) -> None:
    bad = StubDevice(fps=200.0)
    results = await serving(world, light({"mode": "live"}, node={"pin": ["box.stub.sim"]}), sim=StubDevice(), bad=bad)
    there = {"pin": ["box.stub.bad"]}
    await tried(world, light(node=there), share=1.0)
    await compared(world, 20)
    bad.fails_from = 0
    await world.until(lambda: _failures(world), every=0.2)
    bad.fails_from, bad.fps = None, 2.0  # it does two of twenty frames a second
    skipped = (await seen(world)).streams[0].skipped
    await world.later(20)
    one = await seen(world)
    assert one.streams[0].skipped - skipped > 300
    stream = await world.stream()
    assert (stream.dropped, stream.failed, stream.resent) == ({}, {}, 0)
    assert stream.fps == pytest.approx(20, abs=1)
    results.check()


async def _failures(world: System) -> int:
    [stream] = (await seen(world)).streams
    return sum(stream.failed.values()) + sum(stream.dropped.values())


def followed(model: str = "brightness") -> dict[str, Any]:
    """A group whose objects are followed."""
    group = boxes_and_light(node={"model": model})
    group["nodes"]["find"]["track"] = {}
    return group


async def test_a_shadow_of_a_group_with_tracks_gets_runs_of_frames(world: System) -> None:
    results = await serving(world, followed(), fps=25)
    await tried(world, followed(), share=0.5)
    one = await compared(world, 40)
    assert one.nodes == {"find": 1.0, "light": 1.0}
    assert results.frames == list(range(len(results.frames)))
    assert {o["track"] for r in results.received[-20:] for o in r.objects} == {1, 2}


async def test_tracks_go_on_through_a_canarys_frames(world: System) -> None:
    results = await serving(world, followed())
    await tried(world, followed("brightness +300"), mode="canary", share=0.3)
    await world.until(lambda: sum(bool(r.data.get("candidate")) for r in results.received) >= 20)
    assert results.frames == list(range(len(results.frames)))
    later = [r for r in results.received if r.objects][5:]
    assert {o["track"] for r in later for o in r.objects} == {1, 2}
    assert {bool(r.data.get("candidate")) == (r.objects[0]["light"]["value"] >= OURS) for r in later} == {True}


async def test_a_canary_goes_by_the_rules_that_frames_are_computed_by(world: System) -> None:
    """What is deployed may be ahead of that: its networks are loaded first."""
    device = StubDevice(fps=200.0)
    results = await serving(world, followed(), sim=device)
    await tried(world, followed("brightness +300"), mode="canary", share=0.5)
    await world.until(lambda: any(r.data.get("candidate") for r in results.received))
    more = followed()
    more["nodes"]["again"] = {**more["nodes"]["light"], "model": "brightness +7"}
    await world.deploy(more)
    await world.until(lambda: bool(results.received[-1].objects and "again" in results.received[-1].objects[0]))
    assert "not the same rules as what serves at node again" in (await seen(world)).text
    assert not results.received[-1].data.get("candidate")
    await world.deploy(followed())
    count = sum(bool(r.data.get("candidate")) for r in results.received)
    await world.until(lambda: sum(bool(r.data.get("candidate")) for r in results.received) > count + 5)
    assert results.frames == list(range(len(results.frames)))


async def test_a_rule_takes_the_place_of_what_it_was_compared_with_only(world: System) -> None:
    await serving(world, light())
    await tried(world, light())
    before = (await world.control.running("grey")).record
    itself = (await world.control.running("grey--candidate")).record
    assert itself is not None
    await world.deploy(light(priority=7))
    with pytest.raises(ConflictError, match="group grey was changed"):
        await candidates.end_by_rule(world.control.deployments, itself, before, keep=True)
    now = (await world.control.running("grey")).record
    assert now is not None
    assert now.spec.priority == 7


async def test_a_rule_that_this_pipeline_does_not_know_is_said_and_ends_nothing(world: System) -> None:
    results = await serving(world, light())
    record, files = world.record(light())
    await world.control.upload(files, lambda *_: None)
    of = await candidates.serving_record(world.control, "grey")
    record = candidates.as_candidate(record, of, candidates.Trial("shadow", 0.5))
    assert record.candidate is not None
    later = record.candidate.model_copy(update={"rule": "joules < 3", "after": 5})
    await world.control.deploy(record.model_copy(update={"candidate": later}))

    async def said() -> bool:
        return "its rule could not be carried out: rule: column 1" in (await seen(world)).text

    await world.until(said)
    count = len(results.received)
    await world.until(lambda: len(results.received) > count + 20)


OURS = 300
"""What the canary adds to each brightness."""
CANARY = {"model": f"brightness +{OURS}"}


def check_canary(results: Listener) -> tuple[int, int]:
    """Each frame once, in order, with its marks right; return frames of the canary, and of all since its first."""
    assert results.frames == list(range(len(results.frames)))
    marked = [bool(one.data.get("candidate")) for one in results.received]
    assert marked == [value >= OURS for value in values(results.received)]
    first = marked.index(True)
    return sum(marked), len(marked) - first


@pytest.mark.parametrize("mode", ["lossless", "live"])
async def test_a_canary_serves_its_share_every_frame_once_and_in_order(world: System, mode: str) -> None:
    results = await serving(world, light({"mode": mode}))
    await tried(world, light(node=CANARY), mode="canary", share=0.25)
    await world.until(lambda: any(r.data.get("candidate") for r in results.received))
    await world.later(20)
    ours, frames = check_canary(results)
    assert ours == pytest.approx(frames / 4, abs=1.5)
    one = await seen(world)
    assert (one.agreement, one.streams[0].failed, one.streams[0].frames) == (None, {}, pytest.approx(ours, abs=2))
    assert one.candidate.latency.p95_ms > 0
    assert one.serving.latency.p95_ms > 0
    assert {r.group for r in results.received} == {"grey"}


async def test_frames_that_a_canary_fails_at_or_loses_are_served_all_the_same(world: System) -> None:
    bad = StubDevice(fps=200.0)
    results = await serving(world, light(node={"pin": ["box.stub.sim"]}), sim=StubDevice(fps=200.0), bad=bad)
    await tried(world, light(node={**CANARY, "pin": ["box.stub.bad"]}), mode="canary", share=0.5)
    await world.until(lambda: any(r.data.get("candidate") for r in results.received))
    bad.fails_from = 0
    await world.until(lambda: _failures(world), every=0.1)
    bad.fails_from = None
    before = sum(bool(r.data.get("candidate")) for r in results.received)
    await world.until(lambda: sum(bool(r.data.get("candidate")) for r in results.received) > before)  # it has rested
    await world.parts["box.stub.bad"].kill()
    await world.later(20)
    check_canary(results)
    stream = await world.stream()
    assert (stream.dropped, stream.failed) == ({}, {})
    assert stream.fps == pytest.approx(20, abs=2)
    world.parts["box.stub.bad"].start()
    before = sum(bool(r.data.get("candidate")) for r in results.received)
    await world.until(lambda: sum(bool(r.data.get("candidate")) for r in results.received) > before)
    await candidates.drop(world.control, "grey")
    await world.later(5)
    check_canary(results)
    assert not any(r.data.get("candidate") for r in results.received[-20:])


async def test_a_canary_that_hangs_delays_few_frames_and_loses_none(world: System) -> None:
    bad = StubDevice(fps=200.0)
    results = await serving(world, light(node={"pin": ["box.stub.sim"]}), sim=StubDevice(fps=200.0), bad=bad)
    await tried(world, light(node={**CANARY, "pin": ["box.stub.bad"]}), mode="canary", share=0.5)
    await world.until(lambda: any(r.data.get("candidate") for r in results.received))
    bad.hangs = True
    await world.until(lambda: _failures(world), every=0.1)
    bad.hangs = False
    for backend in world.backends.values():
        backend.release()
    await world.later(5)
    check_canary(results)
    assert max(r.data["latency_ms"] for r in results.received) < 5000


async def test_a_promoted_candidate_serves_and_keeps_the_streams(world: System) -> None:
    group = light(priority=3)
    results = await serving(world, group)
    await tried(world, {**light(node=CANARY, priority=5, target_fps=7.0), "streams": {}})
    await compared(world)
    await candidates.promote(world.control, "grey")
    await world.until(lambda: values(results.received)[-1] >= OURS)
    assert results.frames == list(range(len(results.frames)))  # no gap, no frame twice
    now = (await world.control.running("grey")).record
    assert now is not None
    assert (now.spec.priority, now.spec.target_fps, now.candidate) == (5, 7.0, None)
    assert now.spec.streams == world.record(group)[0].spec.streams
    assert not (await world.control.running("grey--candidate")).revision
    assert not any(r.data.get("candidate") for r in results.received)
    await world.until(lambda: _none(world))


async def _none(world: System) -> bool:
    return (await world.control.streams()).candidates == ()


@pytest.mark.parametrize(
    ("rule", "promote", "end"),
    [
        ("agreement >= 0.95 and failed == 0 and frames >= 60", True, "promoted"),
        ("agreement >= 0.95 and frames >= 60", False, "running"),
        ("agreement > 1", True, "dropped"),
        ("latency_p95 < 0.5", False, "dropped"),
    ],
)
async def test_a_rule_promotes_or_drops(world: System, rule: str, promote: bool, end: str) -> None:
    results = await serving(world, light())
    await tried(world, light(), rule=rule, after=30, promote=promote)

    async def state() -> str:
        one = await seen(world)
        return one.state if one.frames >= 30 and (end != "running" or one.frames > 100) else ""

    await world.until(lambda: _is(state, end), every=0.2)
    gone = not (await world.control.running("grey--candidate")).revision
    assert gone == (end != "running")
    by = (await world.control.running("grey")).record
    assert by is not None
    assert by.by.startswith("the rule of ") == (end == "promoted")
    one = await seen(world)
    assert (f"frames: {rule}" in one.text) == (end != "running")
    assert one.frames >= (60 if end == "promoted" else 30)
    count = len(results.received)
    await world.until(lambda: len(results.received) > count + 20)


async def _is(state: Any, end: str) -> bool:
    return bool(await state() == end)


async def test_with_a_group_its_candidate_goes(world: System) -> None:
    await serving(world, light())
    await tried(world, light())
    await world.control.undeploy("grey")
    await world.until(lambda: _none(world))
    assert not (await world.control.running("grey--candidate")).revision


async def test_a_candidate_that_cannot_be_is_refused_by_name(world: System) -> None:
    await world.box(sim=StubDevice(fps=200.0))
    with pytest.raises(NotFoundError, match="nothing serves that a candidate could be compared with"):
        await tried(world, light())
    with pytest.raises(GroupSpecError, match="names the candidate for a group"):
        await world.deploy(light(name="grey--candidate"))
    await world.deploy(light())
    for trial, text in (
        ({"rule": "agreement > high"}, "rule: column 13"),
        ({"rule": "agreement > 0.5", "mode": "canary"}, "no agreement is measured of a canary"),
        ({"promote": True}, "needs a rule"),
    ):
        with pytest.raises(BadInputError, match=text):
            await tried(world, light(), **trial)


async def test_a_canary_must_not_bring_other_vectors_into_a_gallery(world: System) -> None:
    """They would be strangers there, and be kept."""
    task = {"type": "embedding", "gallery": {"threshold": 0.9}}
    await serving(world, light(node={"model": "person", "task": task}))
    other = light(node={"model": "person +3", "task": task})
    with pytest.raises(BadInputError, match="node light has a gallery, and another network .*use --shadow"):
        await tried(world, other, mode="canary")
    await tried(world, light(node={"model": "person", "task": task}), mode="canary")
    await tried(world, other)
