"""The parts of the scheduler's state, each with the indexes it needs and a `validate()` of its own. Pure.

Parts are changed only through their methods where they keep an index or a `revision`. A `revision` grows with every
change that may alter which cells are needed; :mod:`hams_scheduler.profiling` keeps its results until then.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from hams_scheduler.events import Profile
from hams_scheduler.network import Cell, Network
from hams_scheduler.ratio import Ratio
from hams_scheduler.served_rates import RATE_MEMORY_S
from hams_scheduler.unanswered import Unanswered
from hams_scheduler.variant_choice import networks_for
from hams_shared.runtime.liveness import Liveness
from hams_shared.wire.messages.agents import DeviceHealth, DeviceRecord, Heartbeat, ProfileRecord
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.protocol import SPOKEN, common
from hams_shared.wire.variants import VariantRecord

V = TypeVar("V")

NETWORKS_LIMIT = 4096
"""Most nodes whose networks are kept."""


class StateError(AssertionError):
    """The state contradicts itself: a defect, never a condition of the outside world."""


def check(holds: bool, text: str) -> None:
    """Raise StateError with `text` unless it `holds`."""
    if not holds:
        raise StateError(text)


@dataclass(frozen=True)
class Life:
    """A device that can be given work, and the agent that serves it now."""

    device: str
    incarnation: str
    record: DeviceRecord


@dataclass
class Devices:
    """The devices: their records, heartbeats, health, and how busy they are."""

    records: dict[str, DeviceRecord] = field(default_factory=dict)
    health: dict[str, DeviceHealth] = field(default_factory=dict)
    live: Liveness = field(default_factory=Liveness)
    incarnations: dict[str, str] = field(default_factory=dict)
    """By device: the newest incarnation of its agent that sent a heartbeat."""
    busy: dict[str, Ratio] = field(default_factory=dict)
    """By device: seconds that it computed, over seconds."""
    revision: int = 0
    _alive: list[str] | None = None
    _lives: tuple[Life, ...] | None = None
    _on_host: dict[str, list[DeviceRecord]] = field(default_factory=dict)
    """By host: the records of its living devices; of all hosts, or not found yet."""

    def alive(self) -> list[str]:
        """Devices that can be given work, in a fixed order."""
        if self._alive is None:
            self._alive = self._find_alive()
        return self._alive

    def _find_alive(self) -> list[str]:
        known = {d: self.records[d].protocol for d in self.live.peers if d in self.records}
        return sorted(d for d, spoken in known.items() if common(spoken, SPOKEN) is not None and self.sound(d))

    def on_host(self, host: str) -> list[DeviceRecord]:
        """The devices of `host` that can be given work, in a fixed order."""
        if not self._on_host:
            self._on_host = self._find_on_host()
        return self._on_host.get(host, [])

    def _find_on_host(self) -> dict[str, list[DeviceRecord]]:
        found: dict[str, list[DeviceRecord]] = {}
        for device in self.alive():
            found.setdefault(self.records[device].host, []).append(self.records[device])
        return found

    def lives(self) -> tuple[Life, ...]:
        """The devices of :meth:`alive`, with the agents that serve them; kept, since each event needs them."""
        if self._lives is None:
            self._lives = tuple(Life(d, self.incarnation(d), self.records[d]) for d in self.alive())
        return self._lives

    def _changed(self) -> None:
        self._alive = self._lives = None
        self._on_host = {}
        self.revision += 1

    def gone(self, device: str) -> str:
        """Why a device is not there; empty: it is, or nobody knows."""
        health = self.health.get(device)
        return health.gone if health is not None else ""

    def faulty(self, device: str) -> dict[str, str]:
        """The networks that the device gets no work for: the reason by digest."""
        health = self.health.get(device)
        return health.faulty if health is not None else {}

    def quarantined(self, device: str) -> bool:
        """Whether a device hung or failed so often that it gets no work."""
        health = self.health.get(device)
        return health is not None and health.quarantined

    def sound(self, device: str) -> bool:
        """Whether a device is neither quarantined nor gone."""
        return not self.quarantined(device) and not self.gone(device)

    def incarnation(self, device: str) -> str:
        """The incarnation of the agent that serves a living device."""
        return self.live.peers[device].heartbeat.incarnation

    def busy_share(self, device: str) -> float:
        """The part of the last seconds that `device` computed, 0-1."""
        known = self.busy.get(device)
        return known.value(0.0, 0.5) if known is not None else 0.0

    def heard(self, beat: Heartbeat, now: float) -> str | None:
        """Take a heartbeat; return ``"new"`` or ``"restarted"`` when an incarnation begins, else None."""
        last = self.live.peers.get(beat.device)
        if last is None or last.heartbeat.incarnation != beat.incarnation:
            self.busy[beat.device] = Ratio(RATE_MEMORY_S)
        elif (seconds := beat.uptime_s - last.heartbeat.uptime_s) > 0:
            busy = self.busy.setdefault(beat.device, Ratio(RATE_MEMORY_S))
            busy.add(beat.busy_s - last.heartbeat.busy_s, seconds)
        news = self.live.heard(beat, now)
        if news is not None:
            self.incarnations[beat.device] = beat.incarnation
            self._changed()
        return news

    def expire(self, now: float) -> list[str]:
        """Drop and return the devices whose heartbeats stopped."""
        lost = self.live.expire(now)
        if lost:
            self._changed()
        return lost

    def set_record(self, device: str, record: DeviceRecord | None) -> None:
        """Store a device's record; None: it is gone."""
        _set(self.records, device, record)
        self._changed()

    def set_health(self, device: str, health: DeviceHealth | None) -> None:
        """Store a device's health; None: it has no fault."""
        _set(self.health, device, health)
        self._changed()

    def leave(self, device: str) -> bool:
        """Drop the heartbeats of a device that said goodbye; return whether it was alive."""
        self._changed()
        return self.live.forget(device)

    def validate(self) -> None:
        """Raise StateError unless the list of living devices is up to date."""
        check(self._alive in (None, self._find_alive()), "the list of living devices is out of date")
        lives = tuple((life.device, life.incarnation, life.record) for life in self.lives())
        fresh = tuple((d, self.incarnation(d), self.records[d]) for d in self._find_alive())
        check(lives == fresh, "the lives of devices are out of date")
        check(self._on_host in ({}, self._find_on_host()), "the living devices by host are out of date")


@dataclass
class Groups:
    """The deployed groups, the variants of their networks, and what agents refused."""

    records: dict[str, GroupRecord] = field(default_factory=dict)
    variants: dict[str, dict[str, VariantRecord]] = field(default_factory=dict)
    """By digest of the source, then by digest of the variant."""
    errors: dict[str, WireError] = field(default_factory=dict)
    """By group: why it has no plan."""
    refused: dict[tuple[str, str], WireError] = field(default_factory=dict)
    """By (group, incarnation): why an agent refused a plan. That incarnation gets no node of the group again."""
    banned: dict[tuple[str, str], str] = field(default_factory=dict)
    """By (incarnation, digest): why an agent does not run a network that was measured."""
    answered: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """By (group, incarnation, digest): the newest plan whose refusal was taken."""
    revision: int = 0
    variants_revision: int = 0
    """Grows when the networks that may serve change."""
    _networks: dict[tuple[str, str], tuple[GroupRecord, tuple[Network, ...]]] = field(default_factory=dict)
    """By (group, node), of that very record."""

    def sorted(self) -> list[GroupRecord]:
        """All groups by name."""
        return [self.records[name] for name in sorted(self.records)]

    def set_record(self, group: str, record: GroupRecord | None, *, keep_refused: bool = False) -> None:
        """Store a group's record (None: undeployed); errors of the earlier one are dropped, and what was refused."""
        self.errors.pop(group, None)
        if not keep_refused:
            self.refused = {key: why for key, why in self.refused.items() if key[0] != group}
        _set(self.records, group, record)
        self.revision += 1

    def set_variant(self, source: str, variant: str, record: VariantRecord | None) -> None:
        """Store a variant; None: it is gone."""
        _set(self.variants.setdefault(source, {}), variant, record)
        self._networks.clear()
        self.revision += 1
        self.variants_revision += 1

    def networks(self, record: GroupRecord, node: str) -> tuple[Network, ...]:
        """The networks that may serve a node, the source first; kept, since every event needs them."""
        known = self._networks.get((record.spec.name, node))
        if known is None or known[0] is not record:
            if len(self._networks) >= NETWORKS_LIMIT:
                self._networks.clear()
            known = record, networks_for(record, node, self.variants)
            self._networks[record.spec.name, node] = known
        return known[1]

    def has_variant(self, digest: str) -> bool:
        """Whether a network is a known variant of a network of a deployed group."""
        sources = {model.digest for group in self.records.values() for model in group.models.values()}
        return any(digest in self.variants.get(source, {}) for source in sources)

    def forget(self, incarnations: set[str]) -> None:
        """Drop what agents refused in other than these incarnations."""
        self.banned = {one: why for one, why in self.banned.items() if one[0] in incarnations}
        self.answered = {one: epoch for one, epoch in self.answered.items() if one[1] in incarnations}
        self.refused = {one: why for one, why in self.refused.items() if one[1] in incarnations}

    def validate(self) -> None:
        """Raise StateError unless refusals and errors are those of deployed groups."""
        for what, names in (("refusals", {group for group, _ in self.refused}), ("errors", set(self.errors))):
            strange = names - self.records.keys()
            check(not strange, f"{what} of groups that are not deployed: {strange}")


@dataclass(frozen=True, slots=True)
class NeededCell:
    """A cell of the matrix that a group needs: `network` on `device`; `source` is the node's network or its source."""

    device: str
    source: Network
    network: Network
    cell: Cell


@dataclass(frozen=True)
class GroupCells:
    """The cells that one group needs: those it waits for, and those that are measured when a device is idle."""

    record: GroupRecord
    serves: bool
    required: tuple[NeededCell, ...]
    idle: tuple[NeededCell, ...]
    missing: tuple[Profile, ...] = ()
    """Benchmarks of the `required` cells that nobody has measured."""
    missing_idle: tuple[Profile, ...] = ()
    answers: int = 0
    """:attr:`Profiles.answers` when the missing ones were found."""

    def without(self, devices: Collection[str]) -> GroupCells:
        """The cells that are left when these devices are gone."""
        return replace(
            self,
            required=tuple(one for one in self.required if one.device not in devices),
            idle=tuple(one for one in self.idle if one.device not in devices),
            missing=tuple(one for one in self.missing if one.device not in devices),
            missing_idle=tuple(one for one in self.missing_idle if one.device not in devices),
        )


@dataclass
class Profiles:
    """The FPS matrix, and the benchmarks that fill it."""

    records: dict[str, ProfileRecord] = field(default_factory=dict)
    """By profile key."""
    running: dict[str, tuple[Cell, str]] = field(default_factory=dict)
    """By device: the benchmark under way and the incarnation that runs it."""
    requested: set[tuple[str, str]] = field(default_factory=set)
    """(device, key) of cells that a person wants measured again."""
    repeated: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)
    """By (device, key) of a doubtful cell: how often it was measured again, and when it was last or first seen."""
    unanswered: Unanswered = field(default_factory=Unanswered)
    """Benchmarks that ended without an answer, or without a number."""
    next_look: float = float("-inf")
    """When doubtful cells are looked for next."""
    idle_since: float | None = None
    """Since when benchmarks wait for an idle device."""
    loaded: set[str] = field(default_factory=set)
    """Keys of the measurements during which others used the device's cores."""
    answers: int = 0
    """Grows with every benchmark that ends: a cell that was missing may be so no longer."""
    forgotten: int = 0
    """Grows when failures are dropped, or a network is out or back: a cell may be missing again."""
    needed: dict[str, GroupCells] = field(default_factory=dict)
    """By group: its cells, as of `needed_at`."""
    needed_at: tuple[int, ...] = ()
    needed_for: tuple[Life, ...] = ()
    """The devices that were alive then."""

    def add(self, record: ProfileRecord) -> None:
        """Store a measurement."""
        if self.records.get(record.key) != record:
            self.records[record.key] = record
            self.answers += 1
            (self.loaded.add if record.load > 0 else self.loaded.discard)(record.key)

    def seen(self, record: ProfileRecord) -> None:
        """Store a measurement in KV. An agent writes it whose answer was lost: nobody waits for that any more."""
        self.add(record)
        self.running = {device: one for device, one in self.running.items() if one[0].key != record.key}

    def failed(self, incarnation: str, cell: Cell, why: str, now: float) -> int:
        """Note a benchmark that ended without an answer; return how often it was attempted by now."""
        self.answers += 1
        return self.unanswered.failed(incarnation, cell, why, now)

    def attempt_again(self, now: float) -> None:
        """Have benchmarks attempted again whose pause is over."""
        self.forgotten += self.unanswered.attempt_again(now)

    def forget(self, incarnations: set[str]) -> None:
        """Drop the failures of other than these incarnations."""
        self.unanswered.keep(incarnations)
        self.forgotten += 1

    def forget_network(self, incarnation: str, digest: str) -> None:
        """Drop the failures of a network on one agent: it is measured again at once."""
        self.forgotten += self.unanswered.forget(incarnation, digest)

    def validate(self) -> None:
        """Raise StateError if a cell is measured twice at once, or a record has another's key."""
        keys = [cell.key for cell, _ in self.running.values()]
        check(len(keys) == len(set(keys)), "a cell is measured twice at once")
        check(all(key == record.key for key, record in self.records.items()), "a measurement has another's key")
        loaded = {key for key, record in self.records.items() if record.load > 0}
        check(loaded == self.loaded, "the measurements beside others are out of date")


@dataclass
class Replanning:
    """Whether a new solution is wanted, and the one that is being made."""

    reason: str = ""
    """Why a new solution is wanted; empty: it is not."""
    mandatory: bool = False
    """Whether the new solution is taken whatever the move costs."""
    solving: tuple[str, bool] | None = None
    """Reason and `forced` of the solution being made; others may be requested meanwhile."""
    last: str = ""
    """Reason of the solution that was made last."""
    generation: int = 0
    """Number of the newest solution; an answer to an earlier one is dropped."""
    changed_at: float = float("-inf")
    """When a plan was last proposed."""
    not_before: float = float("-inf")
    """Until when a solution that is not mandatory is put off."""
    drifted_at: float = float("-inf")
    """When drift last requested a new solution."""
    looked_at: float = float("-inf")
    """When drift was last looked for."""
    predicted: Mapping[str, float] = field(default_factory=dict)
    """By group: the FPS that were predicted when its plan, or that of another, last changed, or drift was found."""
    predicted_at: int = -1
    """The revision of the plans at that time."""

    def request(self, reason: str, *, mandatory: bool = False) -> None:
        """Request a new solution; one that is `forced` is taken whatever the move costs."""
        self.reason = reason if mandatory or not self.mandatory else self.reason
        self.mandatory = self.mandatory or mandatory

    def withdraw(self) -> None:
        """Request no solution any more."""
        self.reason, self.mandatory = "", False

    def begin(self) -> None:
        """The requested solution is being made from now on."""
        self.solving = (self.reason, self.mandatory)
        self.generation += 1
        self.withdraw()

    def validate(self) -> None:
        """Raise StateError if a solution is mandatory or made that nobody requested."""
        check(bool(self.reason) or not self.mandatory, "a solution is mandatory and not wanted")
        check(self.solving is None or bool(self.solving[0]), "a solution is being made for no reason")
        check(self.solving is None or self.generation > 0, "a solution is being made without a generation")


def _set(table: dict[str, V], key: str, value: V | None) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
