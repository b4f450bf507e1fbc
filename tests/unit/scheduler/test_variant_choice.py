"""Which variant serves where: the floor always holds, the fastest admitted one serves, and changes are worth it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_scheduler import plan_switching, profiling
from hams_scheduler.events import (
    AnswerPlan,
    GroupSeen,
    HeartbeatSeen,
    PlanAsked,
    Profile,
    ProfileDone,
    ProfileSeen,
    StorePlan,
    Tick,
    VariantSeen,
)
from hams_scheduler.learning import MESSAGE_CPU, MESSAGE_S
from hams_scheduler.network import Network
from hams_scheduler.plan_answers import answer
from hams_scheduler.planning import decide
from hams_scheduler.variant_choice import PlanningSnapshot, choose_networks, networks_for
from hams_scheduler.view import scheduler_view
from hams_shared.bus.variant_registry import excluded
from hams_shared.group.node_spec import InputSpec
from hams_shared.wire.messages.agents import DeviceRecord, ProfileRecord
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.plan import Plan
from hams_shared.wire.messages.scheduler import PlanRequest
from hams_shared.wire.variants import VariantRecord, embedded_input
from support.build import device, group_record, heartbeat, model_ref, variant
from support.examples import examples
from unit.scheduler.test_scheduler_core import ONE, TWO, World

RECORD = group_record()
AGE = RECORD.spec.nodes["age"]


def with_floor(floor: float, deployed_at: float = 2.0, **age: object) -> GroupRecord:
    spec = RECORD.spec
    node = spec.nodes["age"].model_copy(update={"min_agreement": floor, **age})
    return group_record(spec.model_copy(update={"nodes": {**spec.nodes, "age": node}}), deployed_at)


def measured(network: Network, on: DeviceRecord, fps: float, memory_mib: float = 10.0) -> ProfileRecord:
    return ProfileRecord(
        digest=network.model.digest,
        model_name=network.model.name,
        input_shape=network.input.shape(),
        fingerprint=on.fingerprint,
        runtime=on.runtime,
        precision=on.precisions[0],
        fps=fps,
        memory_mib=memory_mib,
        load_ms=100.0,
        reason=None if fps > 0 else "it does not read this format",
    )


def snapshot(record: GroupRecord, variants: list[VariantRecord], fps: dict[tuple[str, str], float]) -> PlanningSnapshot:
    """`fps` by (model, device); what is not there is 10, 0 is unsupported."""
    known = {record.models["age"].digest: {v.model.digest: v for v in variants}}
    profiles = {}
    for node in record.spec.nodes:
        unmeasured = [Network(v.model, v.made.input or AGE.input) for v in variants] if node == "age" else []
        for network in (*networks_for(record, node, {}), *unmeasured):
            for on in (ONE, TWO):
                found = measured(network, on, fps.get((network.model.name, on.device), 10.0))
                profiles[found.key] = found
    return PlanningSnapshot((record,), (ONE, TWO), profiles, {}, {}, "mfs", variants=known)


Speed = st.floats(1, 1000)


@examples(200)
@given(
    st.lists(st.tuples(st.floats(0, 1) | st.none(), st.just(0.0) | Speed, st.just(0.0) | Speed), max_size=6),
    st.tuples(Speed, st.just(0.0) | Speed),
    st.floats(0, 1),
)
def test_the_fastest_of_those_at_or_above_the_floor_serves(
    made: list[tuple[float | None, float, float]], source: tuple[float, float], floor: float
) -> None:
    record = with_floor(floor)
    variants = [variant(record.models["age"], AGE, agrees, f"v{i}") for i, (agrees, _, _) in enumerate(made)]
    fps = {("age", on.device): source[k] for k, on in enumerate((ONE, TWO))}
    for one, (_, *speeds) in zip(variants, made, strict=True):
        fps |= {(one.model.name, on.device): speeds[k] for k, on in enumerate((ONE, TWO))}
    found = snapshot(record, variants, fps)
    chosen = choose_networks(found)
    admitted = [v for v, (agrees, _, _) in zip(variants, made, strict=True) if agrees is not None and agrees >= floor]
    for on in (ONE, TWO):
        names = ["age", *(v.model.name for v in admitted)]
        best = max(fps[name, on.device] for name in names)
        choice = chosen.get(("face/age", on.device))
        if best == 0:
            assert choice is None
            continue
        assert choice is not None
        assert choice.profile.fps == best
        assert choice.network.model.name in names
        assert choice.network.label == "" or choice.network.agreement >= floor
        assert (choice.network.label == "") == (fps["age", on.device] == best)  # of equals the source
    solution = decide(found, 0.0).plans["face"]
    for node, places in solution.shares.items():
        for where in places:
            served = solution.model_on(node, where).digest
            assert served == chosen[f"face/{node}", where].network.model.digest


def test_a_network_that_does_not_fit_gives_way_to_one_that_does() -> None:
    small = device("h.ov.cpu0", memory_mib=50)
    quick = variant(RECORD.models["age"], AGE, 1.0)
    found = snapshot(RECORD, [quick], {(quick.model.name, small.device): 90.0})
    large = measured(Network(quick.model, AGE.input), small, 90.0, memory_mib=60.0)
    found = replace(found, devices=(small,), profiles={**found.profiles, large.key: large})
    assert choose_networks(found)["face/age", small.device].network.label == ""


def test_where_the_fastest_do_not_fit_together_the_smallest_serve() -> None:
    only = device("h.ov.cpu0", memory_mib=100)
    quick = variant(RECORD.models["age"], AGE, 1.0)
    found = snapshot(RECORD, [quick], {})
    sizes = {"det": 50.0, "age": 40.0, quick.model.name: 70.0}
    speeds = {quick.model.name: 90.0}
    profiles = {
        key: p.model_copy(update={"memory_mib": sizes[p.model_name], "fps": speeds.get(p.model_name, 10.0)})
        for key, p in found.profiles.items()
    }
    assert choose_networks(replace(found, devices=(only,), profiles=profiles))["face/age", only.device].network.label
    plan = decide(replace(found, devices=(only,), profiles=profiles), 0.0).plans["face"]
    assert plan.variants == {}
    assert plan.shares == {"det": {only.device: 1.0}, "age": {only.device: 1.0}}


@pytest.mark.parametrize(
    ("node", "why"),
    [
        ({"variants": False}, "no variants"),
        ({"variants": ("fp16", "fp32")}, "fp16, fp32, not int8"),
        ({"min_agreement": 0.99}, "agrees to 0.9850, 0.0050 below the floor of 0.99"),
        ({"task": {"type": "raw", "other": 1}}, "was not compared"),
        ({"input": InputSpec(size=(64, 64))}, "was not compared"),
        ({"variants": ("int8",)}, ""),
        ({}, ""),
    ],
)
def test_a_variant_that_may_not_serve_says_why(node: dict[str, object], why: str) -> None:
    data = AGE.model_dump() | node
    spec = type(AGE).model_validate(data)
    said = excluded(variant(RECORD.models["age"], AGE, 0.985), spec)
    assert (why in said) if why else not said


def test_a_variant_that_wants_another_picture_may_not_serve() -> None:
    one = variant(RECORD.models["age"], AGE, 1.0)
    takes = embedded_input(AGE.input)
    assert not excluded(one.model_copy(update={"made": one.made.model_copy(update={"input": takes})}), AGE)
    wide = takes.model_copy(update={"size": (64, 32)})
    assert "64×32" in excluded(one.model_copy(update={"made": one.made.model_copy(update={"input": wide})}), AGE)


@pytest.mark.parametrize(
    ("given", "takes", "may"),
    [
        ({"fit": "letterbox", "pad": 3}, {"size": (32, 16)}, True),
        ({"fit": "letterbox", "pad": 3}, {"size": (32, 48)}, False),
        ({"fit": "letterbox", "pad": 3}, {"size": (32, 16), "pad": 4}, False),
        ({"fit": "stretch"}, {"size": (32, 16)}, False),
    ],
)
def test_a_variant_for_a_part_of_the_image_may_serve_where_the_rest_is_padding(
    given: dict[str, Any], takes: dict[str, Any], may: bool
) -> None:
    node = AGE.model_copy(update={"input": AGE.input.model_validate({**AGE.input.model_dump(), **given})})
    one = variant(RECORD.models["age"], node, 1.0)
    made = one.made.model_copy(update={"input": node.input.model_copy(update=takes)})
    assert (not excluded(one.model_copy(update={"made": made}), node)) == may


def test_the_answer_says_which_variant_was_chosen_and_what_it_bought() -> None:
    quick = variant(RECORD.models["age"], AGE, 0.991)
    slow = {("det", ONE.device): 100.0, ("det", TWO.device): 1.0, ("age", ONE.device): 10.0, ("age", TWO.device): 26.3}
    found = answer(snapshot(RECORD, [quick], slow | {(quick.model.name, TWO.device): 48.2}))
    assert "int8 (agreement 0.991): 48.2 instead of 26.3 FPS" in found.explanation["age"]
    assert found.variants["age"][TWO.device].label == "int8"
    assert (found.fps, found.source_fps) == (pytest.approx(48.2), pytest.approx(26.3))
    plain = answer(snapshot(RECORD, [], slow))
    assert (plain.variants, plain.source_fps) == ({}, None)
    assert "agreement" not in str(plain.explanation)


class VariantWorld(World):
    """Benchmarks give `fps` by (model name, device) too, times `pace`: how fast the processors are just now."""

    pace = 1.0

    def _profile(self, command: Profile) -> None:
        cell = command.cell
        on = self.devices[command.device]
        fps = self.fps.get((command.model.name, command.device), 10.0) * self.pace
        size = (cell.input_shape[3], cell.input_shape[2])
        found = measured(Network(command.model, InputSpec(size=size)), on, fps)
        if command.baseline is not None:
            source, there = command.baseline
            assert there.digest == source.digest
            baseline = self.fps.get((source.name, command.device), 10.0) * self.pace
            found = found.model_copy(update={"baseline": source.digest, "baseline_fps": baseline})
        self.do(ProfileDone(command.device, cell, found if found.key == cell.key else None))

    def see(self, *variants: VariantRecord) -> None:
        for one in variants:
            self.do(VariantSeen(RECORD.models["age"].digest, one.model.digest, one))

    def plan(self) -> Plan:
        active = self.state.plans.records["face"].active
        assert active is not None
        return active

    def served(self) -> str:
        """Name of the network that serves `age`."""
        [on] = self.plan().shares["age"]
        return self.plan().model_on("age", on).name

    def profiled(self) -> list[str]:
        return [c.model.name for c in self.log if isinstance(c, Profile)]


def serving(**fps: float) -> VariantWorld:
    world = VariantWorld(ONE, TWO)
    world.fps = {
        ("det", ONE.device): 100.0,
        ("det", TWO.device): 1.0,
        ("age", ONE.device): 1.0,
        ("age", TWO.device): 20.0,
    }
    for name, speed in fps.items():
        world.fps |= {(f"age-{name}", ONE.device): 0.0, (f"age-{name}", TWO.device): speed}
    world.do(GroupSeen("face", RECORD))
    world.wait(2.0)
    assert world.served() == "age"
    return world


GOOD = variant(RECORD.models["age"], AGE, 0.99, "good")
ROUGH = variant(RECORD.models["age"], AGE, 0.90, "rough")


def test_variants_that_appear_are_measured_and_the_fastest_admitted_one_serves() -> None:
    world = serving(good=40.0, rough=80.0)
    epoch = world.epoch()
    world.see(GOOD, ROUGH)
    world.wait(plan_switching.MIN_DWELL_S + 2)
    assert world.served() == "age-good"
    assert world.epoch() == epoch + 1
    assert "age-rough" not in world.profiled()  # below the floor: not even measured
    rows = {row.model: row for row in scheduler_view(world.state, world.now).matrix.variants}
    assert (set(rows), next(iter(rows))) == ({"age", "age-good", "age-rough"}, "age")
    assert (rows["age-good"].fps, rows["age-good"].serves) == ((40.0, None), (TWO.device,))
    assert rows["age-good"].reasons == {ONE.device: "it does not read this format"}
    assert "0.0800 below the floor of 0.98" in rows["age-rough"].excluded
    assert rows["age"].serves == ()
    world.do(GroupSeen("face", with_floor(0.85)))
    world.wait(plan_switching.MIN_DWELL_S + 2)
    assert world.served() == "age-rough"
    world.do(GroupSeen("face", with_floor(0.995, 3.0)))
    world.wait(1.0)
    assert world.served() == "age"


@pytest.mark.parametrize("pace", [0.25, 4.0])
def test_a_variant_is_compared_with_its_source_as_both_are_in_the_same_moment(pace: float) -> None:
    world = serving(good=40.0, little=21.0)
    world.pace = pace
    world.see(GOOD, variant(RECORD.models["age"], AGE, 0.99, "little"))
    world.wait(plan_switching.MIN_DWELL_S + 2)
    assert world.served() == "age-good"
    assert world.plan().variants["age"][TWO.device].fps == pytest.approx(40.0)
    assert world.plan().variants["age"][TWO.device].source_fps == pytest.approx(20.0)
    # its one core also does what the message takes
    assert world.state.fps_of("face", "age", TWO.device) == pytest.approx(1 / (1 / 40.0 + MESSAGE_S * MESSAGE_CPU))
    rows = {row.model: row.fps[0] for row in scheduler_view(world.state, world.now).matrix.variants}
    assert rows == pytest.approx({"age": 20.0, "age-good": 40.0, "age-little": 21.0})


def test_a_variant_is_measured_alone_where_its_source_does_not_run() -> None:
    world = serving(good=40.0)
    for p in list(world.state.profiles.records.values()):
        if p.model_name == "age" and p.fingerprint == TWO.fingerprint:
            world.do(ProfileSeen(p.model_copy(update={"fps": 0.0, "reason": "not read"})))
    world.see(GOOD)
    world.wait(2.0)
    [asked] = [c for c in world.log if isinstance(c, Profile) and c.model.name == "age-good" and c.device == TWO.device]
    assert asked.baseline is None


def test_a_variant_that_gains_little_does_not_move_what_serves() -> None:
    world = serving(good=21.0)
    epoch = world.epoch()
    world.see(GOOD)
    world.wait(plan_switching.MIN_DWELL_S + 2)
    assert "age-good" in world.profiled()
    assert world.epoch() == epoch


def test_a_new_group_begins_with_the_best_variants() -> None:
    world = VariantWorld(ONE, TWO)
    world.fps = {("age-good", ONE.device): 0.0, ("age-good", TWO.device): 40.0}
    world.see(GOOD)
    world.do(GroupSeen("face", RECORD))
    world.wait(2.0)
    assert world.served() == "age-good"
    assert world.epoch() == 1


def test_a_variant_judged_anew_below_the_floor_is_left_at_once() -> None:
    world = serving(good=40.0)
    world.see(GOOD)
    world.wait(plan_switching.MIN_DWELL_S + 2)
    assert world.served() == "age-good"
    world.see(variant(RECORD.models["age"], AGE, 0.97, "good"))
    world.wait(1.0)
    assert world.served() == "age"


def test_a_variant_that_an_agent_cannot_load_gives_way_to_the_source() -> None:
    world = serving(good=40.0)
    world.see(GOOD)
    world.wait(plan_switching.MIN_DWELL_S - 4)
    world.loads = False
    world.wait(6.0)
    following = world.state.plans.records["face"].next
    assert following is not None
    assert following.variants_on(TWO.device)
    beat = heartbeat(TWO.device, incarnation=world.incarnation[TWO.device], refused=("face", following.epoch, "bad"))
    world.loads = True
    world.do(HeartbeatSeen(beat))
    world.wait(2.0)
    assert world.served() == "age"
    assert world.state.groups.refused == {}
    assert world.shares() == {"det": ONE.device, "age": TWO.device}


def test_while_a_device_is_busy_its_variants_wait_but_not_for_ever() -> None:
    world = serving(good=40.0)
    start = world.now

    def beat(seconds: float) -> None:
        end = world.now + seconds
        while world.now < end:
            world.now += 0.5
            for name in sorted(world.devices):
                known = heartbeat(name, ("face", world.epoch()), incarnation=world.incarnation[name])
                spent = {"uptime_s": world.now - start, "busy_s": 0.9 * (world.now - start)}
                world.do(HeartbeatSeen(known.model_copy(update=spent)))
            world.do(Tick())

    beat(5.0)
    world.see(GOOD)
    beat(profiling.IDLE_WAIT_S - 1)
    assert "age-good" not in world.profiled()
    beat(2.0)
    assert world.profiled().count("age-good") == 2


def test_a_question_waits_for_the_variants_too() -> None:
    world = VariantWorld(ONE, TWO)
    world.fps = {("age-good", TWO.device): 400.0, ("det", TWO.device): 1.0}
    world.see(GOOD)
    world.do(PlanAsked("q", PlanRequest(group=RECORD, strategies=("mfs",))))
    [asked] = [c for c in world.log if isinstance(c, AnswerPlan)]
    assert answer(asked.snapshot).variants["age"]
    assert not world.count(StorePlan)


def test_variants_of_networks_that_nobody_uses_ask_for_nothing() -> None:
    world = serving()
    before = len(world.profiled())
    world.do(VariantSeen(model_ref("other").digest, GOOD.model.digest, GOOD))
    world.wait(2.0)
    assert len(world.profiled()) == before
