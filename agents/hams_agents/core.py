"""The agent's decisions: which networks to load and drop, which plans to accept, which work to take. Pure.

Events go in, commands come out; the shell (:mod:`hams_agents.service`) carries them out and reports back as events.

An agent keeps one :class:`Assignment` per (group, epoch) that gives it nodes. It serves the active plan and, once
loaded, the next one as well, so that a change of plan has no gap. An assignment that no plan names any more is kept for
``RETIRE_S`` so that work already under way can end, then its networks are dropped. A plan record whose epochs lie below
what this agent has seen is refused: one owner decides, and only forwards.

A load that fails by the broker (it is away, its disk is slow) is tried again after a pause, ``LOAD_TRIES`` times while
the broker is there; the plan counts as loading meanwhile. Any other error, and the last of these, refuses the plan.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from hams_shared.errors import BrokerError, DeadlineError, HamsError, RefusedError, StaleEpochError
from hams_shared.runtime.backoff import Backoff
from hams_shared.wire.messages.agents import AssignmentState
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.group import FurtherInput, ModelRef
from hams_shared.wire.messages.plan import Plan, PlanRecord

RETIRE_S = 5.0
"""How long an assignment outlives its plan, s."""
NOTICE_S = 2.0
"""How long a stopping agent serves on and waits for a plan that does without it, s."""
HANDOVER_S = 18.0
"""How long it waits, once there is one, for others to load it, s: all these together stay below `lifecycle.DRAIN_S`."""
LINGER_S = 0.5
"""How long it takes frames after that, s: some were sent before the pipeline knew."""
PASSING = (BrokerError, DeadlineError)
"""Errors of a load that often pass within seconds."""
LOAD_TRIES = 5
"""How often a load is tried that fails by such an error while the broker is there."""
LOAD_AGAIN = Backoff(first=1.0, longest=8.0)
"""Pauses between these tries, s."""


@dataclass(frozen=True, order=True)
class NetworkKey:
    """A network as loaded: the same file with the same input shape is loaded once, for all nodes that use it."""

    digest: str
    input_shape: tuple[int, ...]
    dtype: str
    further: tuple[FurtherInput, ...] = ()


@dataclass(frozen=True)
class FailedLoad:
    """A load that failed by an error that may pass, and is tried again."""

    error: HamsError
    due: float
    """When it is tried again, s."""
    failures: int
    """In a row, while the broker was there."""


@dataclass
class Assignment:
    """The nodes that one plan gives this device."""

    plan: Plan
    networks: dict[str, NetworkKey]
    """By node."""
    loaded: set[str] = field(default_factory=set)
    """Nodes whose network is loaded and whose task is built."""
    failed: dict[str, FailedLoad] = field(default_factory=dict)
    """Nodes whose load is tried again, or was: until it succeeds."""
    error: HamsError | None = None
    at_fault: str = ""
    """Digest of the network that the error is of, where the device may serve the group's other nodes."""
    retire_at: float | None = None

    @property
    def state(self) -> Literal["loading", "ready", "refused"]:
        """Where it stands."""
        if self.error is not None:
            return "refused"
        return "ready" if len(self.loaded) == len(self.networks) else "loading"


# ── events ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class PlanSeen:
    """The plan record of a group as it now stands in KV; None: deleted."""

    group: str
    record: PlanRecord | None


@dataclass(frozen=True)
class NodeLoaded:
    """A node's network is loaded and its task built, or why not."""

    group: str
    epoch: int
    node: str
    error: HamsError | None = None
    digest: str = ""
    """Its network, where that is out on this device."""


@dataclass(frozen=True)
class NodeFailed:
    """The network of a node that is loaded fails, and is out on this device."""

    group: str
    epoch: int
    node: str
    error: HamsError
    digest: str = ""


@dataclass(frozen=True)
class BrokerSeen:
    """The connection to the broker is lost, or `there` again."""

    there: bool


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


Event = PlanSeen | NodeLoaded | NodeFailed | BrokerSeen | Tick

# ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class LoadNode:
    """Pull, load and build one node, then report :class:`NodeLoaded`."""

    plan: Plan
    node: str
    model: ModelRef
    key: NetworkKey


@dataclass(frozen=True)
class DropNode:
    """Forget one node; its network goes when no node uses it."""

    group: str
    epoch: int
    node: str


@dataclass(frozen=True)
class Announce:
    """Send a heartbeat now: the state that others wait for has changed."""


Command = LoadNode | DropNode | Announce


@dataclass
class AgentState:
    """All an agent decides upon."""

    device: str
    assignments: dict[tuple[str, int], Assignment] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    """By group: the epoch of the active plan."""
    epoch: int = 0
    """The highest epoch of all plans seen; a scheduler that has forgotten it learns it from the heartbeats."""
    moving: set[str] = field(default_factory=set)
    """Groups whose next plan does without this device."""
    away: bool = False
    """Whether the broker is: loads that fail meanwhile are not counted."""

    def counted_on(self) -> set[str]:
        """Groups of which a plan in force, or the next one, gives this device nodes."""
        return {group for (group, _), a in self.assignments.items() if a.retire_at is None}

    def view(self) -> tuple[AssignmentState, ...]:
        """The assignments as heartbeats carry them."""
        return tuple(
            AssignmentState(
                group=group,
                epoch=epoch,
                state=a.state,
                loaded=len(a.loaded),
                total=len(a.networks),
                error=WireError(**a.error.to_wire()) if a.error else None,
                digest=a.at_fault,
            )
            for (group, epoch), a in sorted(self.assignments.items())
        )

    def excuses(self, group: str, epoch: int, node: str, error: HamsError) -> bool:
        """Return whether a load that failed by `error` just now is tried again after a pause, or wanted no more."""
        if not isinstance(error, PASSING):
            return False
        assignment = self.assignments.get((group, epoch))
        if assignment is None or assignment.retire_at is not None:
            return True
        known = assignment.failed.get(node)
        return self.away or (known.failures if known is not None else 0) + 1 < LOAD_TRIES

    def remarks(self) -> tuple[str, ...]:
        """Return for people the loads that failed and are tried again."""
        return tuple(
            f"node {node} of group {group} is not loaded yet and tried again: {failed.error.text}"
            for (group, _), a in sorted(self.assignments.items())
            if a.state == "loading"
            for node, failed in a.failed.items()
        )

    def admit(self, group: str, epoch: int, node: str) -> HamsError | None:
        """Return None when work may be taken, else the refusal to answer with."""
        assignment = self.assignments.get((group, epoch))
        if assignment is None:
            newest = self.epochs.get(group, 0)
            if epoch < newest:
                return StaleEpochError(f"epoch {epoch} of group {group} is over, epoch {newest} is served")
            return RefusedError(f"{self.device} has no plan of epoch {epoch} for group {group}")
        if assignment.error is not None:
            return assignment.error
        if node not in assignment.loaded:
            return RefusedError(f"{self.device} does not serve node {node} of group {group} in epoch {epoch}")
        return None

    def validate(self) -> None:
        """Raise AssertionError unless assignments, epochs and groups fit together; for tests."""
        counted: dict[str, list[int]] = {}
        for (group, epoch), a in self.assignments.items():
            at = f"{self.device}: assignment {epoch} of {group}"
            assert (a.plan.group.spec.name, a.plan.epoch) == (group, epoch), f"{at} is of another plan"
            assert tuple(a.networks) == a.plan.nodes_on(self.device) != (), f"{at} is not what the plan gives"
            assert a.loaded <= a.networks.keys(), f"{at} has loaded {a.loaded - a.networks.keys()} unasked"
            assert a.failed.keys() <= a.networks.keys() - a.loaded, f"{at} loads again what is loaded, or not its own"
            if a.retire_at is None:
                counted.setdefault(group, []).append(epoch)
        for group, epochs in counted.items():
            active = self.epochs.get(group, 0)
            assert min(epochs) >= active, f"{self.device}: {group} is at {active}, and {min(epochs)} is to be served"
            assert len(epochs) <= 2, f"{self.device}: more plans of {group} than an active and a next one: {epochs}"
            leaves = group not in self.moving or epochs == [active]
            assert leaves, f"{self.device}: the next plan of {group} does without it, and it serves {epochs}"


class Handover:
    """When a stopping agent may drain its queue: other devices serve its groups, or none begins to."""

    def __init__(self, state: AgentState, now: float) -> None:
        self._state = state
        self._began = now
        self._served = state.counted_on()
        self._drains_at: float | None = None
        self.remaining = self._served
        """Groups that still count on this device."""

    @property
    def taken(self) -> set[str]:
        """Groups that other devices have taken over."""
        return self._served - self.remaining

    def ended(self, now: float) -> bool:
        """Return whether to take no more frames; to be asked several times a second."""
        if self._drains_at is None:
            self.remaining = self._state.counted_on()
            longest = HANDOVER_S if self.remaining <= self._state.moving else NOTICE_S
            if self.remaining and now - self._began <= longest:
                return False
            self._drains_at = now + (LINGER_S if self.taken else 0.0)
        return now >= self._drains_at


def step(state: AgentState, event: Event, now: float) -> list[Command]:
    """Take one event, change `state`, return what to do. `now` is a monotonic time, s."""
    match event:
        case PlanSeen(group, record):
            return _plan_seen(state, group, record, now)
        case NodeLoaded():
            return _node_loaded(state, event, now)
        case NodeFailed():
            return _node_failed(state, event)
        case BrokerSeen(there):
            state.away = not there
            return []
        case Tick():
            return [*_retire(state, now), *_load_again(state, now)]


def _plan_seen(state: AgentState, group: str, record: PlanRecord | None, now: float) -> list[Command]:
    commands: list[Command] = []
    wanted: dict[tuple[str, int], Plan] = {}
    moving = record is not None and record.next is not None and not record.next.nodes_on(state.device)
    if record is not None:
        state.epoch = max(state.epoch, record.newest)
        if record.in_force and record.newest < state.epochs.get(group, 0):
            return []
        for plan in (record.active, record.next):
            if plan is not None and plan.nodes_on(state.device):
                wanted[(group, plan.epoch)] = plan
    if record is not None and record.in_force:
        state.epochs[group] = record.in_force
    else:  # deleted, or deployed anew
        state.epochs.pop(group, None)
    state.moving = state.moving | {group} if moving else state.moving - {group}
    for key, assignment in state.assignments.items():
        if key[0] == group and key not in wanted and assignment.retire_at is None:
            assignment.retire_at = now if record is None else now + RETIRE_S
    for key, plan in wanted.items():
        known = state.assignments.get(key)
        if known is not None:
            known.retire_at = None
            continue
        nodes = plan.nodes_on(state.device)
        networks = {node: _network_key(plan, node, state.device) for node in nodes}
        state.assignments[key] = Assignment(plan, networks)
        commands += [_load(state, plan, node) for node in nodes]
    return [*commands, *_retire(state, now), Announce()]


def _load(state: AgentState, plan: Plan, node: str) -> LoadNode:
    return LoadNode(plan, node, plan.model_on(node, state.device), _network_key(plan, node, state.device))


def _network_key(plan: Plan, node: str, device: str) -> NetworkKey:
    takes = plan.input_on(node, device)
    model = plan.model_on(node, device)
    return NetworkKey(model.digest, takes.shape(), takes.dtype, model.further)


def _node_loaded(state: AgentState, event: NodeLoaded, now: float) -> list[Command]:
    assignment = state.assignments.get((event.group, event.epoch))
    if assignment is None:  # dropped while it was loading
        return [DropNode(event.group, event.epoch, event.node)]
    if event.error is None:
        assignment.loaded.add(event.node)
        assignment.failed.pop(event.node, None)
    elif state.excuses(event.group, event.epoch, event.node, event.error):
        assignment.failed[event.node] = _failed_load(state, assignment.failed.get(event.node), event.error, now)
    elif assignment.error is None:
        assignment.error, assignment.at_fault = event.error, event.digest
    return [Announce()]


def _failed_load(state: AgentState, known: FailedLoad | None, error: HamsError, now: float) -> FailedLoad:
    failures = (known.failures if known is not None else 0) + (not state.away)
    return FailedLoad(error, now + LOAD_AGAIN.pause(failures), failures)


def _load_again(state: AgentState, now: float) -> list[Command]:
    """Try the loads again whose pause is over, unless their plan is refused or over."""
    commands: list[Command] = []
    for a in state.assignments.values():
        if a.state != "loading" or a.retire_at is not None:
            continue
        for node, failed in a.failed.items():
            if now >= failed.due:
                a.failed[node] = replace(failed, due=math.inf)  # until it has ended
                commands.append(_load(state, a.plan, node))
    return commands


def _node_failed(state: AgentState, event: NodeFailed) -> list[Command]:
    """Refuse the plan that was accepted: the scheduler then makes one without this pair."""
    assignment = state.assignments.get((event.group, event.epoch))
    if assignment is None or assignment.error is not None:
        return []
    assignment.error, assignment.at_fault = event.error, event.digest
    return [Announce()]


def _retire(state: AgentState, now: float) -> list[Command]:
    commands: list[Command] = []
    for (group, epoch), assignment in list(state.assignments.items()):
        if assignment.retire_at is not None and now >= assignment.retire_at:
            del state.assignments[(group, epoch)]
            commands += [DropNode(group, epoch, node) for node in assignment.networks]
    return [*commands, Announce()] if commands else []
