"""An agent: the real core in the shell's place, with a loader and an executor that do one thing at a time."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from hams_agents import core
from hams_shared.errors import HamsError, MessageError, ModelError
from hams_shared.wire.messages.agents import DeviceRecord, Heartbeat, NodeLoad
from hams_shared.wire.messages.plan import Plan, PlanRecord
from support.build import output
from support.cores.parts import Link, Part, Work
from support.cores.store import Client, Watch, run

BOX = {"box": [0, 0, 1, 1], "score": 1.0, "label": "face"}
BEAT_S = 0.5
QUEUE = 64
"""Most pieces of work that wait."""


@dataclass(eq=False, repr=False)
class Agent(Part):
    """One device."""

    record: DeviceRecord = field(kw_only=True)
    listeners: list[Part] = field(default_factory=list)
    """Who hears its heartbeats."""
    leaving: bool = False
    """Whether it said goodbye and serves on."""
    refuses: bool = False
    """Whether loading fails in this life."""
    marred: bool = False
    """Whether it refused a plan or a benchmark in this life."""
    faults: int = 0
    """How many of the next inferences break."""
    life: int = 0
    readied: set[tuple[str, int]] = field(default_factory=set)
    """(group, epoch) that it, in some life, said to be ready for."""

    def start(self) -> None:
        """Begin a life with nothing loaded."""
        self.life += 1
        self.alive, self.leaving, self.refuses, self.marred = True, False, False, False
        self.client = Client(connected=self.client.connected)
        self.state = core.AgentState(self.name)
        self.record = self.record.model_copy(update={"incarnation": f"{self.name} {self.life}"})
        self.watches = {"plans": Watch(self.client, self.world.buckets["plans"], PlanRecord)}
        self.loads: deque[core.LoadNode] = deque()
        self.begun: core.LoadNode | None = None
        """What is being loaded."""
        self.loaded: dict[tuple[str, int, str], Plan] = {}
        self.queue: deque[tuple[Plan, Work]] = deque()
        self.over: dict[tuple[str, int], float] = {}
        """When an epoch ceased to be named by the plans, by (group, epoch)."""
        self.frames: Counter[tuple[str, str]] = Counter()
        self.sequence, self.born, self.ticked, self.beaten = 0, self.now, self.now, float("-inf")
        self.announces = True
        self.registered = False

    def die(self) -> None:
        self.alive, self.client.closed = False, True

    def goodbye(self) -> None:
        """Leave, but serve until :meth:`die`."""
        run(self.view("devices").delete(self.name))
        self.leaving = True

    # ── time and news ─────────────────────────────────────────────────────────────────────────────────────────

    def tick(self) -> None:
        self.ticked = self.now
        self.do(core.Tick())
        if self.now - self.beaten >= BEAT_S:
            self.announces = True

    def turn(self, slow: frozenset[str]) -> bool:
        """Do all that can be done now, unless it is slow; whether there was anything."""
        moved = False
        if not self.registered and not self.leaving and self.client.connected:
            self.put("devices", self.name, self.record)
            self.registered = self.announces = moved = True
        while f"kv {self.name}" not in slow and self.take_news("plans"):
            moved = True
        while f"load {self.name}" not in slow and self.can_load:
            self.load(None)
            moved = True
        while f"compute {self.name}" not in slow and self.queue:
            self.compute(None)
            moved = True
        if self.announces and self.client.connected:
            self.beat()
            moved = True
        return moved

    def take_news(self, bucket: str) -> bool:
        news = self.watches[bucket].take()
        if news is None:
            return False
        entry, record = news
        if not entry.lost:
            self.do(core.PlanSeen(entry.key, record))
            named = {plan.epoch for plan in (record.active, record.next) if plan} if record else set()
            for key in self.state.assignments:
                if key[0] == entry.key and key[1] in named:
                    self.over.pop(key, None)
                elif key[0] == entry.key:
                    self.over.setdefault(key, self.now)
        return True

    def beat(self) -> None:
        """Send a heartbeat."""
        self.announces, self.beaten = False, self.now
        self.sequence += 1
        loads = [
            NodeLoad(group=group, node=node, frames=count, inferences=count, busy_s=count / 20)
            for (group, node), count in sorted(self.frames.items())
        ]
        beat = Heartbeat(
            device=self.name,
            incarnation=self.record.incarnation,
            sequence=self.sequence,
            assignments=self.state.view(),
            epoch=self.state.epoch,
            nodes=tuple(loads),
            queue=len(self.queue),
            uptime_s=self.now - self.born,
        )
        self.readied |= {(a.group, a.epoch) for a in beat.assignments if a.state == "ready"}
        for listener in self.listeners:
            self.world.send(Link("beat", self.name, listener.name), beat)

    # ── decisions, carried out ────────────────────────────────────────────────────────────────────────────────

    def do(self, event: core.Event) -> None:
        for command in core.step(self.state, event, self.now):
            match command:
                case core.LoadNode():
                    self.loads.append(command)
                case core.DropNode(group, epoch, node):
                    self.loaded.pop((group, epoch, node), None)
                case core.Announce():
                    self.announces = True
        self.validate()

    @property
    def can_load(self) -> bool:
        return bool(self.loads) or self.begun is not None

    def load(self, error: HamsError | None) -> None:
        """Begin to load the next node, or end it, maybe with an error: its plan may go in between."""
        if self.begun is None:
            command = self.loads.popleft()
            if (command.plan.group.spec.name, command.plan.epoch) in self.state.assignments:
                self.begun = command
            return
        command, self.begun = self.begun, None
        group, epoch = command.plan.group.spec.name, command.plan.epoch
        if self.refuses:
            error = ModelError("there is no memory")
        if error is None:
            self.loaded[(group, epoch, command.node)] = command.plan
        else:
            self.marred = True
        self.do(core.NodeLoaded(group, epoch, command.node, error))
        said = {(a.group, a.epoch): a.state for a in self.state.view()}.get((group, epoch), "refused")
        assert error is None or said == "refused", f"{self.name} cannot load {command.node}, and is {said}"

    def accept(self, work: Work) -> None:
        """Queue work, or answer why not."""
        key = (work.id.group, work.id.epoch)
        refusal = self.state.admit(*key, work.node)
        if refusal is None:
            since = self.over.get(key)
            assert since is None or self.ticked - since < core.RETIRE_S, f"{self.name} takes work of {key}, long over"
            plan = self.loaded[(*key, work.node)]
            assert self.name in plan.shares[work.node]
            if len(self.queue) < QUEUE:
                self.queue.append((plan, work))
                return
        self._answer(work, refusal.code if refusal else "refused")

    def compute(self, error: str | None) -> None:
        """Do the next piece of work, or fail with the error of this code."""
        plan, work = self.queue.popleft()
        if self.faults > 0:
            self.faults -= 1
            error = "bad-model"
        if error is not None:
            self._answer(work, error)
            return
        spec = plan.group.spec
        try:
            places = {child: place(plan, child, work.route) for child in spec.children(work.node)}
        except MessageError as wrong:
            self._answer(work, wrong.code)
            return
        self.frames[(spec.name, work.node)] += 1
        for child, device in places.items():
            crops = Work(work.id, child, work.route)
            if device == self.name:
                self.accept(crops)
            else:
                self.world.send(Link("work", self.name, device), crops)
        self._answer(work, None)

    def _answer(self, work: Work, error: str | None) -> None:
        items = [[dict(BOX)]] if not work.node.startswith("at_") else [{"value": 1}]
        answer = output(work.id, work.node, [] if error else items, [] if error else [0], error)
        self.world.send(Link("output", self.name, "pipeline"), answer)

    def validate(self) -> None:
        self.state.validate()
        named = {(*key, node): a for key, a in self.state.assignments.items() for node in a.networks}
        assert self.loaded.keys() <= named.keys(), f"{self.name}: loaded and named by no plan"
        done = {(*key, node) for key, a in self.state.assignments.items() for node in a.loaded}
        assert done <= self.loaded.keys(), f"{self.name}: counts as loaded and is not"
        for key, plan in self.loaded.items():
            assert plan == named[key].plan, f"{self.name}: {key} is loaded for another plan"


def place(plan: Plan, node: str, route: Mapping[str, str]) -> str:
    """The device that does a frame's part of `node`. Raises MessageError when `route` does not fit."""
    places = plan.shares[node]
    device = next(iter(places)) if len(places) == 1 else route.get(node, "")
    if device not in places:
        raise MessageError(f"the route has no device for node {node}")
    return device
