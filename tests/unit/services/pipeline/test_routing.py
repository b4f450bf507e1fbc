"""Where frames go: the plan that counts, the replica that takes the next frame, and devices that map memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_services.pipeline.routing import Replicas, Reroute, Routes, SharedMemoryPeers, room
from hams_shared.wire.messages.agents import Heartbeat
from hams_shared.wire.messages.plan import Plan, PlanRecord
from support.build import group_spec, heartbeat, plan

ONE, TWO = "h.b.one", "h.b.two"


def shared(first: float, epoch: int = 1) -> object:
    return plan(epoch, {"det": ONE, "age": TWO}).model_copy(
        update={"shares": {"det": {ONE: first, TWO: 1 - first}, "age": {TWO: 1.0}}}
    )


@given(st.floats(0.05, 0.95))
def test_every_run_of_frames_keeps_the_shares(first: float) -> None:
    replicas, of = Replicas(), shared(first)
    taken: Counter[str] = Counter()
    for count in range(1, 200):
        route = replicas.choose(of)  # type: ignore[arg-type]
        taken[route["det"]] += 1
        for node, device in route.items():
            replicas.release(node, device)
        assert abs(taken[ONE] - first * count) <= 1.0 + 1e-6
    assert not replicas.outstanding


def test_a_stalled_replica_is_passed_over_and_taken_again() -> None:
    replicas, of = Replicas(), shared(0.5)
    routes = []
    for _ in range(40):
        device = replicas.choose(of)["det"]  # type: ignore[arg-type]
        routes.append(device)
        if device == TWO:
            replicas.release("det", TWO)
    assert routes[10:].count(ONE) <= 2
    for _ in range(routes.count(ONE)):
        replicas.release("det", ONE)
    routes = []
    for _ in range(20):
        device = replicas.choose(of)["det"]  # type: ignore[arg-type]
        replicas.release("det", device)
        routes.append(device)
    assert 9 <= routes.count(ONE) <= 12  # its turns, and not those it missed


def test_another_attempt_goes_elsewhere() -> None:
    replicas, of = Replicas(), shared(0.9)
    assert [replicas.choose(of, {"det": ONE})["det"] for _ in range(3)] == [TWO] * 3  # type: ignore[arg-type]
    assert replicas.choose(of, {"age": TWO})["age"] == TWO  # type: ignore[arg-type]


@given(st.floats(0.2, 0.8), st.integers(1, 2))
def test_a_replica_that_fails_fast_gets_few_frames_and_its_share_again_when_it_is_well(
    first: float, every: int
) -> None:
    """It answers at once, so that nothing is ever outstanding there, and the other is slow."""
    replicas, of = Replicas(), shared(first)
    busy: list[dict[str, str]] = []
    taken: Counter[str] = Counter()

    def frame(number: int, *, ill: bool) -> None:
        route = replicas.choose(of)  # type: ignore[arg-type]
        device = route["det"]
        taken[device] += 1
        if device == TWO:
            busy.append(route)
            route = busy.pop(0) if len(busy) > 6 else {}
        for node, on in route.items():
            replicas.release(node, on)
        if ill and device == ONE and number % every == 0:
            replicas.failed("det", ONE)
        else:
            replicas.served("det", device)

    for number in range(400):
        frame(number, ill=True)
    assert taken[ONE] <= 60  # of up to 320
    taken.clear()
    replicas.failures[("det", ONE)] = min(replicas.failures.get(("det", ONE), 0.0), 1.0)
    for number in range(400):
        frame(number, ill=False)
    assert taken[ONE] >= 0.8 * 400 * first - 20
    assert not replicas.failures


def test_failures_are_forgotten_with_the_replica() -> None:
    replicas = Replicas()
    for _ in range(20):
        replicas.failed("det", ONE)
    replicas.choose(shared(0.5))  # type: ignore[arg-type]
    assert replicas.failures == {("det", ONE): 6.0}
    replicas.choose(plan(2, {"det": TWO, "age": TWO}))
    assert replicas.failures == {}


# ── which plan counts ─────────────────────────────────────────────────────────────────────────────────────────────────

OLD = plan(1, {"det": ONE, "age": TWO})
NEW = plan(2, {"det": TWO, "age": TWO})
GROUP = OLD.group
BOTH = frozenset({ONE, TWO})


def ready(*epochs: int) -> list[Heartbeat]:
    """Heartbeats of both devices, which have loaded these epochs."""
    return [heartbeat(device, *(("face", epoch) for epoch in epochs)) for device in (ONE, TWO)]


def routes(*epochs: int, active: Plan | None = OLD) -> Routes:
    """The group is deployed, `active` is its plan, and the devices have loaded `epochs`."""
    found = Routes()
    found.deployed(GROUP)
    found.plan_seen("face", PlanRecord(group="face", active=active))
    for one in ready(*epochs):
        found.heartbeat(one, 0.0)
    found.validate()
    return found


def record(active: Plan | None, following: Plan | None = None) -> PlanRecord:
    return PlanRecord(group="face", active=active, next=following)


def silence(found: Routes) -> list[Reroute]:
    """Two seconds without heartbeats."""
    return [command for half in range(1, 5) for command in found.tick(half / 2)]


OTHER_NODES = plan(3, {"det": ONE}, group_spec(nodes=("det",)))

EVENTS: list[tuple[str, Callable[[Routes], list[Reroute]], list[Reroute]]] = [
    ("the same plan again", lambda r: r.plan_seen("face", record(OLD)), []),
    ("a next plan", lambda r: r.plan_seen("face", record(OLD, NEW)), []),
    ("a newer plan that is loaded", lambda r: r.plan_seen("face", record(NEW)), [Reroute("face", NEW, changed=True)]),
    ("the plan is deleted", lambda r: r.plan_seen("face", None), [Reroute("face", None, changed=True)]),
    ("the plan is withdrawn", lambda r: r.plan_seen("face", record(None)), []),  # older than the active one: ignored
    ("another group's plan", lambda r: r.plan_seen("other", record(OLD)), []),
    ("a newer plan that one device has not reported", lambda r: r.plan_seen("face", record(OTHER_NODES)), []),
    ("a change of the group", lambda r: r.deployed(OTHER_NODES.group), []),
    ("a heartbeat", lambda r: r.heartbeat(ready(1, 2)[0], 0.1), []),
    ("the device unloaded it", lambda r: r.heartbeat(ready(2)[0], 0.1), [Reroute("face", None, changed=True)]),
    (
        "the device restarted and has loaded it",
        lambda r: r.heartbeat(heartbeat(ONE, ("face", 1), incarnation="i2"), 0.1),
        [Reroute("face", OLD, frozenset({ONE}))],
    ),
    (
        "the device was cut off from the broker",
        lambda r: r.heartbeat(ready(1)[0].model_copy(update={"connections": 2}), 0.1),
        [Reroute("face", OLD, frozenset({ONE}))],
    ),
    (
        "the device was cut off, and its work comes to its mailbox",
        lambda r: r.heartbeat(ready(1)[0].model_copy(update={"connections": 2}), 0.1, "hams-mailbox-a"),
        [],
    ),
    ("all are heard in time", lambda r: r.tick(0.1), []),
    ("both devices are lost", silence, [Reroute("face", None, BOTH, changed=True)]),
    ("the broker was away", Routes.reconnected, [Reroute("face", None, BOTH, changed=True)]),
    ("the group is deployed again", lambda r: r.deployed(GROUP), []),
]


@pytest.mark.parametrize(("event", "expected"), [row[1:] for row in EVENTS], ids=[row[0] for row in EVENTS])
def test_which_plan_counts_after(event: Callable[[Routes], list[Reroute]], expected: list[Reroute]) -> None:
    found = routes(1, 2)
    found.tick(0.0)
    assert event(found) == expected
    found.validate()


def test_a_plan_counts_once_all_its_devices_have_loaded_it() -> None:
    found = routes()
    first, second = ready(1)
    assert found.heartbeat(first, 0.1) == []
    assert found.heartbeat(second, 0.1) == [Reroute("face", OLD, changed=True)]


def test_a_changed_group_goes_on_under_the_plan_before_until_the_new_one_is_loaded() -> None:
    found = routes(1)
    assert found.deployed(OTHER_NODES.group) == []
    assert found.plan_seen("face", record(OTHER_NODES)) == []
    assert found.plan_of("face") == OLD
    assert found.heartbeat(ready(1, 3)[0], 0.1) == [Reroute("face", OTHER_NODES, changed=True)]
    found.validate()
    assert found.heartbeat(ready(1)[0], 0.2) == [Reroute("face", None, changed=True)]  # never back to the one before


def test_a_group_that_is_undeployed_and_deployed_again_waits_for_a_plan_of_its_own() -> None:
    found = routes(1, 3)
    found.removed("face")
    assert found.deployed(OTHER_NODES.group) == [Reroute("face", None)]
    assert found.plan_seen("face", record(OTHER_NODES)) == [Reroute("face", OTHER_NODES, changed=True)]


def test_an_older_plan_is_of_a_scheduler_that_no_longer_leads() -> None:
    found = routes(1, 2, active=NEW)
    assert not found.believes("face", record(OLD))
    assert found.plan_seen("face", record(OLD)) == []
    assert found.epochs == {"face": 2}
    assert found.plan_seen("face", record(NEW, plan(3, {"det": ONE, "age": ONE}))) == []
    assert found.believes("face", record(NEW))  # a next plan may be taken back


def test_nobody_is_lost_while_the_broker_is_away() -> None:
    found = routes(1)
    found.disconnected()
    assert silence(found) == []
    assert found.reconnected() == [Reroute("face", None, BOTH, changed=True)]
    assert found.heartbeat(ready(1)[0], 60.1) == []
    assert found.heartbeat(ready(1)[1], 60.1) == [Reroute("face", OLD, changed=True)]


def test_a_removed_group_has_no_route() -> None:
    found = routes(1)
    found.removed("face")
    assert silence(found) == []
    assert found.epochs == {}


@pytest.mark.parametrize(
    ("lanes", "streams", "limit"),
    [
        ([1], 1, 2),
        ([1, 1], 1, 4),
        ([1], 2, 1),
        ([1, 1, 1], 2, 3),
        ([1], 9, 1),
        ([1], 0, 2),
        ([2], 1, 3),
        ([2, 4], 2, 4),
    ],
)
def test_a_frame_for_each_lane_and_one_more_for_each_device_may_be_there(
    lanes: list[int], streams: int, limit: int
) -> None:
    devices = [f"h.b.{n}" for n in range(len(lanes))]
    of = {f"h.b.{n}": count for n, count in enumerate(lanes) if count > 1}  # one that is not known has one
    assert room(devices, streams, of) == limit


def test_only_devices_that_see_the_same_memory_get_pointers() -> None:
    def beat(device: str, domain: str, incarnation: str = "i1") -> Heartbeat:
        return heartbeat(device, incarnation=incarnation).model_copy(update={"memory_domain": domain})

    peers = SharedMemoryPeers("boot.7")
    for one in (beat("h.b.same", "boot.7"), beat("i.b.other", "boot.8"), beat("h.b.without", "")):
        peers.heartbeat(one)
    assert [peers.maps(d) for d in ("h.b.same", "i.b.other", "h.b.without", "unknown")] == [True, False, False, False]
    assert peers.cannot_map("h.b.same")
    assert not peers.cannot_map("h.b.same")  # known already
    peers.heartbeat(beat("h.b.same", "boot.7"))
    assert not peers.maps("h.b.same")
    peers.heartbeat(beat("h.b.same", "boot.7", incarnation="i2"))
    assert peers.maps("h.b.same")


def test_only_devices_that_map_our_frames_are_reached_by_mailbox() -> None:
    peers = SharedMemoryPeers("boot.7")
    for device, domain, mailbox in (
        ("h.b.a", "boot.7", "hams-mailbox-a"),
        ("h.b.b", "boot.7", ""),
        ("i.b.c", "boot.8", "m"),
    ):
        peers.heartbeat(heartbeat(device).model_copy(update={"memory_domain": domain, "mailbox": mailbox}))
    everyone = ("h.b.a", "h.b.b", "i.b.c", "unknown")
    assert peers.mailboxes(everyone) == {"h.b.a": "hams-mailbox-a", "h.b.b": ""}
    restarted = heartbeat("h.b.a", incarnation="i2")
    peers.heartbeat(restarted.model_copy(update={"memory_domain": "boot.7", "mailbox": "hams-mailbox-n"}))
    assert peers.mailboxes(["h.b.a"]) == {"h.b.a": "hams-mailbox-n"}
    peers.cannot_map("h.b.a")
    assert peers.mailboxes(everyone) == {"h.b.b": ""}
