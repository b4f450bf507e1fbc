"""Where frames go: the plan they are sent under, the replica for each node, and by pointer or with their pixels. Pure.

:class:`Routes` decides which plan counts for each group. Its rules:

- A plan counts while all its devices are alive and have loaded it. A group that is changed goes on under the plan of
  the record before, until the one of the new record counts; one that is undeployed and deployed again does not.
- Until a new plan's devices have all reported that they have loaded it, the plan before counts, while theirs have it.
- A record whose active plan is older than the known one comes from a scheduler that no longer leads: it is ignored.
- A deleted record, or a device that is not ready, means: frames wait for the next plan.
- A device that is lost or has restarted has lost its work, as has one that was cut off from the broker for less time
  than that takes, unless it is on this host. After an outage of the broker all devices have.
- While the broker is away no heartbeat arrives, so no device counts as lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hams_shared.runtime.liveness import Liveness
from hams_shared.wire.messages.agents import Heartbeat
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.plan import Plan, PlanRecord

FLOOR = 6.0
"""Failures that lower a replica's share, at most: each halves it. With 6 it gets 1 of 64 of its frames: to be tried."""
RELEASED = 0.25
"""Failures that a success releases: what fails more often than every fifth time goes down to the floor."""
SLACK = 2.0
"""Frames a replica may have outstanding beyond its share before others take its turn."""

NONE: frozenset[str] = frozenset()


def room(devices: Iterable[str], streams: int, lanes: Mapping[str, int]) -> int:
    """Return how many frames each of so many streams may have at `devices`, so that they always have work.

    In all that is one per lane, which works on it, and one per device, which is ready to follow. `lanes` by device; an
    unknown one has one.
    """
    most = sum(lanes.get(device, 1) + 1 for device in devices)
    return max(1, -(-most // max(streams, 1)))


@dataclass(frozen=True)
class Reroute:
    """Send the group's frames under `plan` from now on (None: let them wait); the work of `broken` devices is lost."""

    group: str
    plan: Plan | None
    broken: frozenset[str] = NONE
    changed: bool = False
    """Whether this is another epoch than before."""
    lanes: Mapping[str, int] = field(default_factory=dict, compare=False)
    """Of the plan's devices."""


@dataclass
class Routes:
    """The plan that counts for each deployed group. `now` is a monotonic time in s."""

    live: Liveness = field(default_factory=Liveness)
    plans: dict[str, PlanRecord] = field(default_factory=dict)
    groups: dict[str, GroupRecord] = field(default_factory=dict)
    """The groups as deployed here."""
    epochs: dict[str, int | None] = field(default_factory=dict)
    """By group: the epoch that its frames are sent under; None while they wait."""
    over: dict[str, int] = field(default_factory=dict)
    """By group that was undeployed: the newest epoch of that time."""
    used: dict[str, Plan] = field(default_factory=dict)
    """By group: the plan that frames were sent under last."""
    away: bool = False
    """Whether the broker is away."""

    def believes(self, group: str, record: PlanRecord) -> bool:
        """Whether `record` is no older than the known one. A `next` plan may be taken back, an active one may not."""
        known = self.plans.get(group)
        return known is None or record.in_force >= known.in_force

    def plan_seen(self, group: str, record: PlanRecord | None) -> list[Reroute]:
        """Take the group's plan record, None for a deleted one; one that :meth:`believes` rejects is ignored."""
        if record is None:
            self.plans.pop(group, None)
            self.used.pop(group, None)
            self.over.pop(group, None)  # the next plan has a new epoch
        elif self.believes(group, record):
            self.plans[group] = record
        return self._reroute(group)

    def deployed(self, record: GroupRecord) -> list[Reroute]:
        """Take a group that has just been set up, or changed."""
        self.groups[record.spec.name] = record
        return self._reroute(record.spec.name)

    def removed(self, group: str) -> None:
        """Forget a group that has been taken down."""
        self.groups.pop(group, None)
        self.epochs.pop(group, None)
        self.used.pop(group, None)
        if (known := self.plans.get(group)) is not None:
            self.over[group] = known.newest

    def heartbeat(self, heartbeat: Heartbeat, now: float, mailbox: str = "") -> list[Reroute]:
        """Take a heartbeat; `mailbox`: of the agent, where its work goes there and not by the broker."""
        known = self.live.peers.get(heartbeat.device)
        lost = self.live.heard(heartbeat, now) == "restarted"
        if known is not None and not mailbox and heartbeat.connections != known.heartbeat.connections:
            lost = True
        return self._all(frozenset({heartbeat.device}) if lost else NONE)

    def tick(self, now: float) -> list[Reroute]:
        """Look for lost devices; to be called several times a second."""
        lost = NONE if self.away else frozenset(self.live.expire(now))
        return self._all(lost) if lost else []

    def disconnected(self) -> None:
        """The broker is away."""
        self.away = True

    def reconnected(self) -> list[Reroute]:
        """The broker is back: the work it held is lost, and each agent has to send a heartbeat first."""
        self.away = False
        plans = [p for record in self.plans.values() for p in (record.active, record.next) if p is not None]
        everybody = frozenset(self.live.peers).union(*(plan.devices for plan in plans))
        self.live.peers.clear()
        return self._all(everybody)

    def plan_of(self, group: str) -> Plan | None:
        """Return the plan that counts for `group` now."""
        plans, deployed = self.plans.get(group), self.groups.get(group)
        if plans is None or plans.active is None or deployed is None:
            return None
        fits = plans.active.epoch > self.over.get(group, 0) or plans.active.group.spec.nodes == deployed.spec.nodes
        found = (plans.active, self.used.get(group)) if fits else ()
        return next((plan for plan in found if plan is not None and self._ready(group, plan)), None)

    def _ready(self, group: str, plan: Plan) -> bool:
        return all(self.live.ready(device, group, plan.epoch) for device in plan.devices)

    def validate(self) -> None:
        """Raise AssertionError unless each group's frames go under the plan that counts; for tests."""
        assert self.epochs.keys() <= self.groups.keys(), "a group that is not deployed has a route"
        for group, epoch in self.epochs.items():
            plan = self.plan_of(group)
            assert epoch == (plan.epoch if plan else None), f"{group}: frames go under {epoch}, not under {plan}"

    def _all(self, broken: frozenset[str]) -> list[Reroute]:
        return [one for group in list(self.groups) for one in self._reroute(group, broken)]

    def _reroute(self, group: str, broken: frozenset[str] = NONE) -> list[Reroute]:
        if group not in self.groups:
            return []
        plan = self.plan_of(group)
        epoch = plan.epoch if plan else None
        known = group in self.epochs
        changed = epoch != self.epochs.get(group)
        self.epochs[group] = epoch
        if plan is not None:
            self.used[group] = plan
        if known and not changed and not broken:
            return []
        peers = self.live.peers
        lanes = {d: peers[d].heartbeat.lanes for d in plan.devices if d in peers} if plan else {}
        return [Reroute(group, plan, broken, changed, lanes)]


@dataclass
class SharedMemoryPeers:
    """The devices that can map our frames, with the mailboxes of their agents.

    Their agents see the same memory file system, and have not refused.
    """

    domain: str
    """Our memory file system; empty where there is none."""
    _peers: dict[str, str] = field(default_factory=dict)
    """With the mailbox of each, empty where it has none."""
    _refusing: dict[str, str] = field(default_factory=dict)
    """Device → the incarnation that could not map a frame."""
    _incarnations: dict[str, str] = field(default_factory=dict)

    def heartbeat(self, heartbeat: Heartbeat) -> None:
        """Take a heartbeat. A restarted agent is tried again."""
        device = heartbeat.device
        self._incarnations[device] = heartbeat.incarnation
        if self._refusing.get(device, heartbeat.incarnation) != heartbeat.incarnation:
            del self._refusing[device]
        if heartbeat.memory_domain and heartbeat.memory_domain == self.domain:
            self._peers[device] = heartbeat.mailbox
        else:
            self._peers.pop(device, None)

    def cannot_map(self, device: str) -> bool:
        """Take a device's refusal: until it restarts its frames carry their pixels; return whether that is new."""
        new = device not in self._refusing
        self._refusing[device] = self._incarnations.get(device, "")
        return new

    def maps(self, device: str) -> bool:
        """Whether frames go to `device` by pointer."""
        return device in self._peers and device not in self._refusing

    def mailbox(self, device: str) -> str:
        """Return the mailbox of `device`; empty where it is no peer, or has none."""
        return self._peers.get(device, "") if self.maps(device) else ""

    def mailboxes(self, devices: Iterable[str]) -> dict[str, str]:
        """Return the peers among `devices`, with the mailbox of each."""
        return {device: self._peers[device] for device in devices if self.maps(device)}


@dataclass
class Replicas:
    """Spreads the frames of one group, over all its streams, by smooth weighted round robin (as in nginx).

    The pipeline chooses the devices for all nodes of a frame when it sends the frame, since it alone sees every output
    and so knows what is outstanding at each device. A replica with `SLACK` frames more than its share of all that is
    outstanding is passed over: it is slower than planned, or has stalled.

    Errors count as load: each failure halves a replica's share, and successes restore it. Otherwise a device that fails
    fast would always be idle, and attract the work.
    """

    epoch: int = 0
    outstanding: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By (node, device): frames sent and not answered, over all epochs."""
    failures: dict[tuple[str, str], float] = field(default_factory=dict)
    """By (node, device): failures that successes have not released."""
    _credit: dict[tuple[str, str], float] = field(default_factory=dict)

    def choose(self, plan: Plan, avoid: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the device for each node of the next frame, and count it as outstanding there.

        `avoid` names devices that failed this frame before: where there is another replica, it is taken.
        """
        if plan.epoch != self.epoch:
            self.epoch = plan.epoch
            self._credit.clear()
            served = {(node, device) for node, shares in plan.shares.items() for device in shares}
            self.failures = {key: count for key, count in self.failures.items() if key in served}
        route: dict[str, str] = {}
        for node, shares in plan.shares.items():
            route[node] = self._pick(node, shares, (avoid or {}).get(node))
            self.outstanding[(node, route[node])] += 1
        return route

    def release(self, node: str, device: str) -> None:
        """A frame is no longer outstanding: answered, or given up."""
        key = (node, device)
        self.outstanding[key] -= 1
        if self.outstanding[key] <= 0:
            del self.outstanding[key]

    def failed(self, node: str, device: str) -> None:
        """A frame failed there: its share falls at once."""
        key = (node, device)
        self.failures[key] = min(self.failures.get(key, 0.0) + 1.0, FLOOR)

    def served(self, node: str, device: str) -> None:
        """A frame was served there."""
        key = (node, device)
        if key in self.failures:
            self.failures[key] -= RELEASED
            if self.failures[key] <= 0:
                del self.failures[key]

    def _shares(self, node: str, shares: Mapping[str, float]) -> dict[str, float]:
        """The shares of a node's replicas as their failures leave them, 1 in all."""
        if self.failures:
            shares = {d: share * 0.5 ** self.failures.get((node, d), 0.0) for d, share in shares.items()}
        total = sum(shares.values())
        return {device: share / total for device, share in shares.items()}

    def _pick(self, node: str, shares: Mapping[str, float], avoid: str | None) -> str:
        if len(shares) == 1:
            return next(iter(shares))
        weights = self._shares(node, shares)
        outstanding = {device: self.outstanding[(node, device)] for device in weights}
        everything = sum(outstanding.values())
        fit = [d for d in weights if d != avoid and outstanding[d] - weights[d] * everything < SLACK]
        for device, weight in weights.items():
            key = (node, device)
            # A replica that was passed over does not catch up on the turns it missed,
            self._credit[key] = min(self._credit.get(key, 0.0) + weight, 1.0)
        chosen = max(fit or weights, key=lambda d: (self._credit[(node, d)], d))
        # nor does one that stood in for it lose as many turns later.
        self._credit[(node, chosen)] = max(self._credit[(node, chosen)] - 1.0, -1.0)
        return chosen
