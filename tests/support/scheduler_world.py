"""A scheduler's core, driven as the shell drives it: commands are carried out by a tiny world."""

from __future__ import annotations

from dataclasses import replace

from hams_scheduler import core, profiling
from hams_scheduler.events import (
    Command,
    DeviceSeen,
    Event,
    Follow,
    GroupSeen,
    HeartbeatSeen,
    HistoryRead,
    Lead,
    Profile,
    ProfileDone,
    Solve,
    Solved,
    Tell,
    Tick,
)
from hams_scheduler.leader.lease import Lease
from hams_scheduler.planning import decide
from hams_scheduler.state import SchedulerState
from hams_shared.errors import DeadlineError, HamsError
from hams_shared.wire.messages.agents import DeviceRecord
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.history import HistoryEntry
from hams_shared.wire.messages.plan import PlanRecord
from support.build import device, group_record, group_spec, heartbeat, profile

ONE = device("h.ov.cpu0", cores=(0,))
TWO = device("h.ort.cpu1", cores=(1,))


def leader() -> SchedulerState:
    """The state of a scheduler that leads and knows nothing yet."""
    return SchedulerState(started=0.0, lease=Lease("me", term=1, led=1))


class World:
    """Carries out commands: benchmarks give `fps`, agents load at once unless set otherwise."""

    def __init__(self, *devices: DeviceRecord, state: SchedulerState | None = None) -> None:
        self.state = state or leader()
        self.now = 0.0
        self.fps: dict[tuple[str, str], float] = {}
        self.devices = {d.device: d for d in devices}
        self.incarnation = {name: f"{name} 1" for name in self.devices}
        self.dead: set[str] = set()
        self.refusing: dict[str, str] = {}
        self.log: list[Command] = []
        self.loads = True
        self.answers = True
        self.do(HistoryRead())
        for d in devices:
            self.do(DeviceSeen(d.device, d))
        self.beat()
        self.wait(3.0)

    def do(self, event: Event) -> None:
        for command in core.step(self.state, event, self.now):
            self.log.append(command)
            match command:
                case Profile():
                    self._profile(command)
                case Solve():
                    self._solve(command)
        self.state.validate()
        profiling.validate(self.state)

    def _profile(self, command: Profile) -> None:
        if not self.answers:
            self.do(ProfileDone(command.device, command.cell, None, DeadlineError("no answer")))
            return
        group = next(g for g in self.groups() if command.model in g.models.values())
        node = next(n for n, m in group.models.items() if m == command.model)
        fps = self.fps.get((node, command.device), 10.0)
        self.do(ProfileDone(command.device, command.cell, profile(group, node, self.devices[command.device], fps)))

    def _solve(self, command: Solve) -> None:
        try:
            solution = decide(replace(command.snapshot, time_limit_s=60.0), 0.0)
        except HamsError as error:
            self.do(Solved(command.generation, None, error))
        else:
            self.do(Solved(command.generation, solution))

    def lead(self, *plans: PlanRecord) -> None:
        """Begin to lead, with `plans` in KV."""
        self.state.lease.term += 1
        self.state.lease.begin()
        self.do(Lead(plans, frozenset(record.group for record in plans)))

    def follow(self) -> None:
        """Another leads."""
        self.state.lease.led = 0
        self.do(Follow())

    def told(self) -> list[HistoryEntry]:
        """What the history tells of so far."""
        return [command.entry for command in self.log if isinstance(command, Tell)]

    def groups(self) -> list[GroupRecord]:
        return [*self.state.groups.records.values(), *(r.group for r in self.state.questions.values())]

    def beat(self) -> None:
        for name in sorted(self.devices):
            if name in self.dead:
                continue
            epochs = [
                (group, plan.epoch)
                for group, record in self.state.plans.records.items()
                for plan in (record.active, record.next)
                if plan is not None and name in plan.devices and self.loads and name not in self.refusing
            ]
            refused = None
            for group, record in self.state.plans.records.items():
                if record.next and name in record.next.devices and name in self.refusing:
                    refused = (group, record.next.epoch, self.refusing[name])
            self.do(HeartbeatSeen(heartbeat(name, *epochs, incarnation=self.incarnation[name], refused=refused)))

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 0.5
            self.beat()
            self.do(Tick())

    def shares(self, group: str = "face") -> dict[str, str]:
        active = self.state.plans.records[group].active
        assert active is not None
        return {node: next(iter(places)) for node, places in active.shares.items()}

    def epoch(self, group: str = "face") -> int:
        active = self.state.plans.records[group].active
        assert active is not None
        return active.epoch

    def count(self, kind: type) -> int:
        return sum(isinstance(c, kind) for c in self.log)


def deployed(strategy: str = "mfs", **fps: float) -> World:
    world = World(ONE, TWO)
    for key, value in fps.items():
        node, unit = key.split("_")
        world.fps[(node, ONE.device if unit == "one" else TWO.device)] = value
    world.do(GroupSeen("face", group_record(group_spec(strategy=strategy))))
    world.wait(2.0)
    return world
