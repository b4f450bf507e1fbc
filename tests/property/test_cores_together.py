"""The cores of scheduler, agents and pipeline together, whatever is lost, refused or begun anew, in whatever order.

Every core's state is validated after every event. At the end nothing is lost any more, and then every group serves, and
every frame of a lossless stream has been delivered, or has failed for a reason that has a name.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from hams_shared.errors import ModelError
from hams_shared.wire import codec
from hams_shared.wire.messages.agents import DeviceHealth
from hams_shared.wire.messages.scheduler import PlanRequest
from support.build import group_record, group_spec
from support.cores.store import BUCKETS
from support.cores.world import DEVICES, GROUPS, World
from support.examples import examples

STEPS = 50
T = TypeVar("T")
AGENTS = st.sampled_from(DEVICES)
NAMES = st.sampled_from(sorted(GROUPS))
SCHEDULERS = st.sampled_from(["s0", "s1"])
PARTS = st.sampled_from(["s0", "s1", *DEVICES, "pipeline"])
BUCKET = st.sampled_from(BUCKETS)
PICK = st.integers(0, 11)
STREAMS = st.sampled_from(["cam", "file", "infer"])
SLOW = st.sampled_from(
    [
        *DEVICES,
        *(f"{kind} {name}" for kind in ("kv", "load", "compute", "beat", "work", "output") for name in DEVICES),
        *(f"{kind} {name}" for kind in ("kv", "writes", "jobs") for name in ("s0", "s1")),
        *("kv pipeline", "work pipeline", "pipeline", "s0", "s1"),
    ]
)
"""What does not get on for a while; see :attr:`World.slow`."""
LOST = st.sampled_from(
    [*(f"{kind} {name}" for kind in ("beat", "work", "output") for name in DEVICES), "work pipeline"]
)
DELAY = st.sampled_from([0.5, 1.0, 4.0, 10.0])
"""How long something is away, s."""
THEN = st.sampled_from([0.0, 0.5, 0.5, 2.0, 4.0])
"""How long the world goes on afterwards, s."""


def picked(among: Sequence[T], which: int) -> T:
    return among[which % len(among)]


class Cores(RuleBasedStateMachine):
    @initialize(
        schedulers=st.integers(1, 2),
        style=st.integers(0, 5),
        fps=st.lists(st.sampled_from([0, 2, 5, 30]), min_size=3, max_size=3),
        skews=st.lists(st.floats(0, 1e6), min_size=3, max_size=3),
        warm=st.sampled_from([8.0, 8.0, 8.0, 0.0]),
    )
    def start(self, schedulers: int, style: int, fps: list[int], skews: list[float], warm: float) -> None:
        self.world = World(schedulers, style, fps, skews)
        self.world.deploy("face", 0)
        self.world.deploy("car", 0)
        self.world.flow(warm, until=lambda: not self.world.unrest())

    # ── the ordinary course ───────────────────────────────────────────────────────────────────────────────────

    @rule(seconds=st.sampled_from([0.5, 2.0, 6.0]), feed=st.booleans())
    def go_on(self, seconds: float, feed: bool) -> None:
        self.world.flow(seconds, feed=feed)

    @rule(seconds=st.sampled_from([0.1, 1.0, 20.0]), then=THEN)
    def stall(self, seconds: float, then: float) -> None:
        """Time passes, and nobody runs."""
        self.world.now += seconds
        self.world.flow(then)

    @precondition(lambda self: self.world.pipeline.groups)
    @rule(name=NAMES, stream=STREAMS, count=st.integers(1, 4))
    def submit(self, name: str, stream: str, count: int) -> None:
        group = self.world.pipeline.groups.get(name)
        for _ in range(count if group else 0):
            if group.streams[stream].core.wants_frame or stream == "infer":
                self.world.pipeline.submit(name, stream)

    @precondition(lambda self: self.world.under_way())
    @rule(which=PICK)
    def give_up(self, which: int) -> None:
        """Who asked about an image waits no longer."""
        self.world.pipeline.give_up(*picked(self.world.under_way(), which))

    @rule(name=NAMES, version=st.integers(0, 1), style=st.integers(0, 5), priority=st.integers(0, 1), then=THEN)
    def deploy(self, name: str, version: int, style: int, priority: int, then: float) -> None:
        for one in self.world.schedulers:
            one.style = style
        self.world.deploy(name, version, priority=priority)
        self.world.flow(then)

    @precondition(lambda self: self.world.buckets["groups"].present())
    @rule(name=NAMES, again=st.booleans(), delay=DELAY, then=THEN)
    def undeploy(self, name: str, again: bool, delay: float, then: float) -> None:
        self.world.undeploy(name)
        if again:
            self.world.later(delay, lambda: self.world.deploy(name, 0))
        self.world.flow(then)

    @precondition(lambda self: self.world.leader is not None)
    @rule(name=NAMES)
    def ask(self, name: str) -> None:
        self.world.asks += 1
        request = PlanRequest(group=group_record(group_spec(name, GROUPS[name][0])), strategies=("mfs",))
        self.world.leader.ask(f"q{self.world.asks}", request)

    @precondition(lambda self: any(one.alive and one.asked for one in self.world.schedulers))
    @rule()
    def withdraw(self) -> None:
        next(one for one in self.world.schedulers if one.alive and one.asked).withdraw()

    # ── one step at a time ────────────────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: self.world.waiting())
    @rule(which=PICK, lost=st.booleans())
    def message(self, which: int, lost: bool) -> None:
        """One message comes, or is lost."""
        link = picked(self.world.waiting(), which)
        if lost:
            self.world.links[link].popleft()
        else:
            self.world.deliver(link)

    @rule(name=PARTS, bucket=BUCKET)
    def news(self, name: str, bucket: str) -> None:
        """One part reads one entry of the store."""
        part = self.world.part(name)
        if part is not None and part.alive and bucket in part.watches:
            part.take_news(bucket)

    @precondition(lambda self: self.world.loading())
    @rule(which=PICK, fails=st.booleans())
    def load(self, which: int, fails: bool) -> None:
        picked(self.world.loading(), which).load(ModelError("it cannot be read") if fails else None)

    @precondition(lambda self: self.world.computing())
    @rule(which=PICK, fails=st.booleans())
    def compute(self, which: int, fails: bool) -> None:
        picked(self.world.computing(), which).compute("bad-model" if fails else None)

    @precondition(lambda self: self.world.jobs())
    @rule(which=PICK, fails=st.booleans())
    def job(self, which: int, fails: bool) -> None:
        """A benchmark, solution or adoption ends."""
        one, job = picked(self.world.jobs(), which)
        one.finish(job, fails=fails)

    @precondition(lambda self: self.world.writing())
    @rule(which=PICK)
    def write(self, which: int) -> None:
        picked(self.world.writing(), which).write()

    # ── losses ────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(what=SLOW, seconds=DELAY, then=THEN)
    def slow_down(self, what: str, seconds: float, then: float) -> None:
        self.world.slow[what] = self.world.now + seconds
        self.world.flow(then)

    @rule(what=LOST, count=st.sampled_from([1, 2, 8]), then=THEN)
    def lose(self, what: str, count: int, then: float) -> None:
        self.world.losses[what] = count
        self.world.flow(then)

    @rule(name=AGENTS, count=st.integers(1, 2), then=THEN)
    def break_down(self, name: str, count: int, then: float) -> None:
        """The next inferences fail."""
        self.world.agents[name].faults = count
        self.world.flow(then)

    @rule(name=AGENTS, delay=DELAY, then=THEN)
    def kill_agent(self, name: str, delay: float, then: float) -> None:
        agent = self.world.agents[name]
        if agent.alive:
            self.world.kill(agent)
            self.world.later(delay, lambda: self.world.revive(agent))
        self.world.flow(then)

    @rule(name=AGENTS, delay=DELAY, then=THEN)
    def stop_agent(self, name: str, delay: float, then: float) -> None:
        """It says goodbye, serves on for a while, ends, and is started again."""
        agent = self.world.agents[name]
        if agent.reachable and agent.registered:
            agent.goodbye()
            self.world.later(delay, lambda: self.world.kill(agent) if agent.leaving else None)
            self.world.later(delay + 2.0, lambda: self.world.revive(agent))
        self.world.flow(then)

    @rule(name=AGENTS, delay=DELAY, then=THEN)
    def refuse(self, name: str, delay: float, then: float) -> None:
        """It loads nothing until somebody restarts it."""
        agent = self.world.agents[name]
        agent.refuses = True
        self.world.later(4.0 + delay, lambda: self.world.kill(agent) if agent.refuses else None)
        self.world.later(6.0 + delay, lambda: self.world.revive(agent))
        self.world.flow(then)

    @rule(name=AGENTS, delay=DELAY, then=THEN)
    def cut(self, name: str, delay: float, then: float) -> None:
        agent = self.world.agents[name]
        self.world.cut(agent)
        self.world.later(delay, lambda: self.world.heal(agent))
        self.world.flow(then)

    @rule(name=AGENTS, delay=DELAY, then=THEN)
    def quarantine(self, name: str, delay: float, then: float) -> None:
        health = self.world.buckets["health"]
        health.store(name, codec.encode(DeviceHealth(device=name, quarantined=True, reason="it hung")))
        self.world.later(delay, lambda: health.store(name, None) and None)
        self.world.flow(then)

    @rule(name=SCHEDULERS, delay=DELAY, then=THEN)
    def kill_scheduler(self, name: str, delay: float, then: float) -> None:
        one = self.world.part(name)
        if one is not None and one.alive:
            self.world.kill(one)
            self.world.later(delay, lambda: self.world.revive(one))
        self.world.flow(then)

    @rule(delay=DELAY, then=THEN)
    def kill_schedulers(self, delay: float, then: float) -> None:
        """All of them end, and begin anew with what is in the store."""
        for one in self.world.schedulers:
            if one.alive:
                self.world.kill(one)
                self.world.later(delay, lambda one=one: self.world.revive(one))
        self.world.flow(then)

    @rule(name=SCHEDULERS, then=THEN)
    def lead(self, name: str, then: float) -> None:
        one = self.world.part(name)
        if one is not None and one.reachable:
            self.world.lead(one)
        self.world.flow(then)

    @precondition(lambda self: self.world.leader is not None)
    @rule(then=THEN)
    def follow(self, then: float) -> None:
        """The lease has run out."""
        self.world.leader.follow()
        self.world.flow(then)

    @rule(then=THEN)
    def restart_pipeline(self, then: float) -> None:
        self.world.kill(self.world.pipeline)
        self.world.pipeline.start()
        self.world.flow(then)

    @rule(name=PARTS)
    def renew(self, name: str) -> None:
        """A part's watches begin anew and read all again."""
        part = self.world.part(name)
        for watch in part.watches.values() if part is not None else ():
            watch.renew()

    @precondition(lambda self: not self.world.away)
    @rule(lost=st.frozensets(st.sampled_from(BUCKETS)), delay=DELAY, then=THEN)
    def broker(self, lost: frozenset[str], delay: float, then: float) -> None:
        """The broker goes and comes back, maybe with less than it had."""
        self.world.broker_goes()
        self.world.later(delay, lambda: self.world.broker_comes(lost))
        self.world.flow(then)

    def teardown(self) -> None:
        if hasattr(self, "world") and sys.exc_info()[0] is None:
            self.world.settle()


TestCores = Cores.TestCase
TestCores.settings = examples(30, stateful_step_count=STEPS, deadline=None)
