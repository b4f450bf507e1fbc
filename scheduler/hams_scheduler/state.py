"""What the scheduler knows, and simple questions to it. Pure; changed only by :mod:`hams_scheduler.core`."""

from __future__ import annotations

from dataclasses import dataclass, field

from hams_scheduler.events import Profile
from hams_scheduler.learning import Learned, Ratio
from hams_scheduler.planning import CHILD_WEIGHT, Situation, node_name
from hams_scheduler.validate import validate
from hams_scheduler.variant_candidates import Candidate, Cell, candidates, comparable
from hams_shared.runtime.liveness import Liveness
from hams_shared.wire.messages.agents import DeviceHealth, DeviceRecord, ProfileRecord
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.group import GroupRecord, ModelRef
from hams_shared.wire.messages.plan import Plan, PlanRecord
from hams_shared.wire.messages.scheduler import PlanRequest
from hams_shared.wire.subjects import LOST_AFTER_S
from hams_shared.wire.variants import VariantRecord

PROFILE_ATTEMPTS = 3
"""Tries at one benchmark that end without an answer, before the pair counts as unsupported until the agent restarts."""

REMEMBERED = 4096
"""Most nodes of which the candidates are remembered."""


@dataclass
class SchedulerState:
    """All the scheduler knows. It can be rebuilt from KV and heartbeats at any time."""

    started: float
    leading: bool = True
    """Whether commands are wanted; a follower takes the same events and does nothing."""
    live: Liveness = field(default_factory=Liveness)
    devices: dict[str, DeviceRecord] = field(default_factory=dict)
    profiles: dict[str, ProfileRecord] = field(default_factory=dict)
    """By profile key."""
    variants: dict[str, dict[str, VariantRecord]] = field(default_factory=dict)
    """By digest of the source, then by digest of the variant."""
    banned: set[tuple[str, str]] = field(default_factory=set)
    """(incarnation, digest) of variants that an agent could not load."""
    lives: dict[str, str] = field(default_factory=dict)
    """By device: the newest incarnation that was heard; what was learned of earlier ones is forgotten."""
    busy: dict[str, Ratio] = field(default_factory=dict)
    """By device: seconds that it computed, over seconds."""
    spare_since: float | None = None
    """Since when measurements wait for a quiet moment."""
    groups: dict[str, GroupRecord] = field(default_factory=dict)
    plans: dict[str, PlanRecord] = field(default_factory=dict)
    adopting: set[str] = field(default_factory=set)
    """Groups of orphaned plans that are being written back."""
    health: dict[str, DeviceHealth] = field(default_factory=dict)
    asked: dict[str, PlanRequest] = field(default_factory=dict)
    profiling: dict[str, tuple[Cell, str]] = field(default_factory=dict)
    """By device: the benchmark under way and the incarnation that runs it."""
    again: set[tuple[str, str]] = field(default_factory=set)
    """(device, key) of cells that people want measured again."""
    tried: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)
    """By (device, key) of a doubtful cell: how often it was measured again, and when it was last or first seen."""
    doubts_at: float = float("-inf")
    """When doubtful cells are looked for next."""
    unanswered: dict[tuple[str, Cell], list[str]] = field(default_factory=dict)
    """Benchmarks that ended without an answer, by (incarnation, cell): why."""
    refused: dict[tuple[str, str], WireError] = field(default_factory=dict)
    """By (group, incarnation): why an agent refused a plan; it gets none of that group's nodes again in this life."""
    errors: dict[str, WireError] = field(default_factory=dict)
    """By group: why it has no plan."""
    epoch: int = 0
    generation: int = 0
    solving: bool = False
    learned: Learned = field(default_factory=Learned)
    changed_at: float = float("-inf")
    """When a plan was last proposed."""
    not_before: float = float("-inf")
    """Until when a solution that nothing forces is put off."""
    looked_at: float = float("-inf")
    """When drift last asked for another look."""
    dirty: str = ""
    """Why a new solution is wanted; empty: it is not."""
    forced: bool = False
    """Whether the wish must be granted whatever it costs."""
    granted: tuple[str, bool] = ("", False)
    """The wish that is being solved for; others may come meanwhile."""
    _candidates: dict[tuple[str, str], tuple[GroupRecord, tuple[Candidate, ...]]] = field(default_factory=dict)
    """By (group, node), of that very record."""

    def want(self, why: str, *, forced: bool = False) -> None:
        """Wish for a new solution, for `why`; one that is `forced` is granted whatever the move costs."""
        self.dirty = why if forced or not self.forced else self.dirty
        self.forced = self.forced or forced

    def begins_life(self, device: str, incarnation: str) -> None:
        """An agent was started: what its earlier life refused or could not measure is history."""
        self.lives[device] = incarnation
        lives = set(self.lives.values())
        self.banned = {one for one in self.banned if one[0] in lives}
        self.unanswered = {one: why for one, why in self.unanswered.items() if one[0] in lives}
        self.refused = {one: why for one, why in self.refused.items() if one[1] in lives}

    def alive(self) -> list[str]:
        """Devices that can be given work, in a fixed order."""
        return sorted(d for d in self.live.peers if d in self.devices and not self.quarantined(d))

    def quarantined(self, device: str) -> bool:
        """Whether a device hung so often that it gets no work."""
        health = self.health.get(device)
        return health is not None and health.quarantined

    def incarnation(self, device: str) -> str:
        """Which life of the agent this is."""
        return self.live.peers[device].heartbeat.incarnation

    def busy_part(self, device: str) -> float:
        """The part of the last seconds that `device` computed, 0-1."""
        known = self.busy.get(device)
        return known.value(0.0, 0.5) if known is not None else 0.0

    def settled(self, now: float) -> bool:
        """Whether every living agent has had time to be heard since this scheduler started."""
        return now - self.started >= LOST_AFTER_S

    def reason(self, device: str, cell: Cell) -> str | None:
        """Why `cell` has no number although it was tried, or None."""
        tries = self.unanswered.get((self.incarnation(device), cell), [])
        return tries[-1] if len(tries) >= PROFILE_ATTEMPTS else None

    def candidates(self, record: GroupRecord, node: str) -> tuple[Candidate, ...]:
        """What may serve a node; remembered, since it is asked at every event."""
        known = self._candidates.get((record.spec.name, node))
        if known is None or known[0] is not record:
            if len(self._candidates) >= REMEMBERED:
                self._candidates.clear()
            known = record, candidates(record, node, self.variants)
            self._candidates[record.spec.name, node] = known
        return known[1]

    def variant_seen(self, source: str, variant: str, record: VariantRecord | None) -> None:
        """Take note of a variant; None: it is gone."""
        self._candidates.clear()
        if record is not None:
            self.variants.setdefault(source, {})[variant] = record
        else:
            self.variants.get(source, {}).pop(variant, None)

    def cells(self, record: GroupRecord, *, spare: bool = False) -> list[tuple[str, Candidate, Candidate, Cell]]:
        """Cells of the matrix that `record` needs: (device, source, candidate, cell). With `spare` those that may wait.

        What stands for a network that serves may wait; a group that does not serve yet waits for all of them.
        """
        plans = self.plans.get(record.spec.name)
        serves = plans is not None and plans.active is not None
        found = []
        for node in record.spec.depth_first():
            source, *variants = self.candidates(record, node)
            for candidate in (source, *variants):
                if (serves and bool(candidate.label)) is spare:
                    found += [(d, source, candidate, candidate.cell(self.devices[d])) for d in self.alive()]
        return found

    def missing(self, records: list[GroupRecord], *, spare: bool = False) -> list[Profile]:
        """The benchmarks of those of :meth:`cells` that nobody has measured."""
        wanted: dict[tuple[str, str], Profile] = {}
        for record in records:
            for device, source, candidate, cell in self.cells(record, spare=spare):
                if cell.key not in self.profiles and self.reason(device, cell) is None:
                    beside = self.beside(device, source) if candidate.label else None
                    wanted.setdefault((device, cell.key), Profile(device, candidate.model, cell, beside))
        return list(wanted.values())

    def awaits(self, record: GroupRecord) -> bool:
        """Whether some node runs on no living device as far as is known, and a missing benchmark may change that."""
        missing = {(wanted.device, wanted.cell.key) for wanted in self.missing([record])}
        able = [d for d in self.alive() if (record.spec.name, self.incarnation(d)) not in self.refused]
        for node in record.spec.depth_first() if missing else ():
            pin = record.spec.nodes[node].pin
            cells = [
                (device, candidate.cell(self.devices[device]).key)
                for candidate in self.candidates(record, node)
                for device in able
                if not pin or device in pin
            ]
            runs = any(key in self.profiles and self.profiles[key].fps > 0 for _, key in cells)
            if not runs and not missing.isdisjoint(cells):
                return True
        return False

    def beside(self, device: str, source: Candidate) -> tuple[ModelRef, Cell] | None:
        """The source of a variant, where it runs on `device`."""
        cell = source.cell(self.devices[device])
        known = self.profiles.get(cell.key)
        return (source.model, cell) if known is not None and known.fps > 0 else None

    def measured(self, candidate: Candidate, source: Candidate, device: str) -> ProfileRecord | None:
        """How fast `candidate`, the source of a node or a variant of it, is on `device`; None: not measured."""
        record = self.devices[device]
        profile = self.profiles.get(candidate.cell(record).key)
        if profile is None or candidate.model.digest == source.model.digest:
            return profile
        return comparable(profile, self.profiles.get(source.cell(record).key))

    def _profiles(self, records: list[GroupRecord], devices: list[str]) -> dict[str, ProfileRecord]:
        """All measurements; those of variants as they compare with their sources."""
        profiles = dict(self.profiles)
        for record in records:
            for node in record.spec.depth_first():
                source, *variants = self.candidates(record, node)
                measured = (self.measured(one, source, device) for one in variants for device in devices)
                profiles |= {profile.key: profile for profile in measured if profile is not None}
        return profiles

    def situation(self, records: list[GroupRecord], strategy: str, time_limit_s: float = 1.0) -> Situation:
        """All that a solver needs, frozen."""
        alive = self.alive()
        unanswered = {
            (device, cell.key): tries[-1]
            for device in alive
            for (life, cell), tries in self.unanswered.items()
            if life == self.incarnation(device)
        }
        refused = {
            (group, device): f"{error.text} ({error.hint})" if error.hint else error.text
            for device in alive
            for (group, life), error in self.refused.items()
            if life == self.incarnation(device)
        }
        nodes = [(record, node) for record in records for node in record.spec.depth_first()]
        current: dict[str, dict[str, float]] = {}
        loaded: dict[str, dict[str, str]] = {}
        for record, node in nodes:
            serving = self.serving(record.spec.name)
            if serving is not None and node in serving.shares:
                name = node_name(record, node)
                current[name] = serving.shares[node]
                loaded[name] = {device: v.model.digest for device, v in serving.variants.get(node, {}).items()}
        return Situation(
            groups=tuple(records),
            devices=tuple(self.devices[d] for d in alive),
            profiles=self._profiles(records, alive),
            unanswered=unanswered,
            refused=refused,
            strategy=strategy,
            time_limit_s=time_limit_s,
            weights={
                node_name(r, n): self.weight(r, n) for r, n in nodes if self.learned.confidence(r.spec.name, n) > 0
            },
            kappa={
                (device, k): self.learned.kappa(device, k)
                for device in alive
                if device in self.learned.device_eta
                for k in range(1, len(nodes) + 1)
            },
            overhead={device: self.learned.overhead_s(device) for device in alive},
            current=current,
            variants={source: dict(known) for source, known in self.variants.items()},
            loaded=loaded,
            banned=frozenset(
                (device, digest) for device in alive for life, digest in self.banned if life == self.incarnation(device)
            ),
        )

    def serving(self, group: str) -> Plan | None:
        """The newest plan of `group`, if it has one."""
        record = self.plans.get(group)
        return (record.next or record.active) if record else None

    def stands_for_some(self, digest: str) -> bool:
        """Whether a network is a known variant of one of a deployed group."""
        sources = {model.digest for group in self.groups.values() for model in group.models.values()}
        return any(digest in self.variants.get(source, {}) for source in sources)

    def inadmissible(self, group: str, node: str, variant: str) -> bool:
        """Whether a node is served with a variant that its floor does not admit (any more)."""
        plan = self.serving(group)
        if plan is None or all(v.model.digest != variant for v in plan.variants.get(node, {}).values()):
            return False
        among = self.candidates(self.groups[group], node)
        return all(one.model.digest != variant for one in among)

    def weight(self, record: GroupRecord, node: str) -> float:
        """Inferences of `node` per frame: the group file's, corrected by what was observed."""
        spec = record.spec.nodes[node]
        prior = spec.weight or (1.0 if spec.parent is None else CHILD_WEIGHT)
        return self.learned.weight(record.spec.name, node, prior)

    def fps_of(self, group: str, node: str, device: str) -> float:
        """Frames/s alone on `device` of the network that serves a node there; 0 when unknown."""
        record = self.plans.get(group)
        plan = (record.active or record.next) if record else None
        if plan is None or node not in plan.group.spec.nodes or device not in self.devices:
            return 0.0
        candidate = Candidate(plan.model_on(node, device), plan.input_on(node, device))
        source = Candidate(plan.group.models[node], plan.group.spec.nodes[node].input)
        profile = self.measured(candidate, source, device)
        return profile.fps if profile is not None else 0.0

    def validate(self) -> None:
        """Raise StateError unless all this fits together; for tests."""
        validate(self)
