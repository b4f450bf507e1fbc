"""What the scheduler's core is told (events) and what it asks for (commands). Plain data, compared by equality."""

from __future__ import annotations

from dataclasses import dataclass

from hams_scheduler.planning import Situation, Solution
from hams_scheduler.variant_candidates import Cell
from hams_shared.errors import HamsError
from hams_shared.wire.messages.agents import DeviceHealth, DeviceRecord, Heartbeat, ProfileRecord
from hams_shared.wire.messages.group import GroupRecord, ModelRef
from hams_shared.wire.messages.plan import PlanRecord
from hams_shared.wire.messages.scheduler import PlanRequest
from hams_shared.wire.variants import VariantRecord

# ── events ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class DeviceSeen:
    """KV ``devices``: a device's record; None: it said goodbye."""

    device: str
    record: DeviceRecord | None


@dataclass(frozen=True)
class HeartbeatSeen:
    """An agent lives."""

    heartbeat: Heartbeat


@dataclass(frozen=True)
class GroupSeen:
    """KV ``groups``: a deployed group; None: undeployed."""

    group: str
    record: GroupRecord | None


@dataclass(frozen=True)
class PlanSeen:
    """KV ``plans``: what another scheduler wrote, or this one in an earlier life."""

    record: PlanRecord


@dataclass(frozen=True)
class PlanGone:
    """KV ``plans``: another scheduler deleted it."""

    group: str


@dataclass(frozen=True)
class PlanRefused:
    """The store will never take this plan: it is too large."""

    record: PlanRecord
    error: HamsError


@dataclass(frozen=True)
class NotAdopted:
    """The group of an orphaned plan was undeployed."""

    group: str


@dataclass(frozen=True)
class HealthSeen:
    """KV ``health``: the hangs of a device; None: it has none."""

    device: str
    health: DeviceHealth | None


@dataclass(frozen=True)
class Lead:
    """This scheduler decides from now on."""


@dataclass(frozen=True)
class Follow:
    """Another scheduler decides, or none: this one only keeps its state warm."""


@dataclass(frozen=True)
class BrokerBack:
    """The connection to the broker is back: silence meanwhile was nobody's fault."""


@dataclass(frozen=True)
class ProfileSeen:
    """KV ``profiles``: a measurement."""

    record: ProfileRecord


@dataclass(frozen=True)
class VariantSeen:
    """KV ``variants``: what may stand for the network of digest `source`; None: not any more."""

    source: str
    variant: str
    record: VariantRecord | None


@dataclass(frozen=True)
class ProfileDone:
    """A benchmark ended: with a record, or without an answer."""

    device: str
    cell: Cell
    record: ProfileRecord | None
    error: HamsError | None = None


@dataclass(frozen=True)
class Solved:
    """The solver's answer to :class:`Solve`."""

    generation: int
    solution: Solution | None
    error: HamsError | None = None


@dataclass(frozen=True)
class PlanAsked:
    """Somebody asks what the strategies would do; nothing is deployed."""

    request_id: str
    request: PlanRequest


@dataclass(frozen=True)
class AskWithdrawn:
    """Nobody waits for that answer any more."""

    request_id: str


@dataclass(frozen=True)
class MeasureAsked:
    """Somebody wants cells measured again: of models and devices by name or pattern; empty: all."""

    model: str
    device: str


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


Event = (
    DeviceSeen
    | HeartbeatSeen
    | GroupSeen
    | PlanSeen
    | PlanGone
    | PlanRefused
    | NotAdopted
    | HealthSeen
    | Lead
    | Follow
    | BrokerBack
    | ProfileSeen
    | VariantSeen
    | ProfileDone
    | Solved
    | PlanAsked
    | AskWithdrawn
    | MeasureAsked
    | Tick
)

# ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Profile:
    """Ask `device` to benchmark a model; report :class:`ProfileDone`."""

    device: str
    model: ModelRef
    cell: Cell
    beside: tuple[ModelRef, Cell] | None = None
    """What is measured in turns with it: of a variant its source, where that runs."""


@dataclass(frozen=True)
class StoreProfile:
    """Write to KV ``profiles``."""

    record: ProfileRecord


@dataclass(frozen=True)
class Solve:
    """Run the solver on `situation`; report :class:`Solved` with the same generation."""

    generation: int
    situation: Situation


@dataclass(frozen=True)
class StorePlan:
    """Write to KV ``plans``."""

    record: PlanRecord


@dataclass(frozen=True)
class DeletePlan:
    """Delete from KV ``plans``."""

    group: str


@dataclass(frozen=True)
class AdoptGroup:
    """A plan whose group is unknown: write the group back; if it was undeployed, report :class:`NotAdopted` instead."""

    group: GroupRecord


@dataclass(frozen=True)
class AnswerPlan:
    """All measured: solve `situation` with each of the request's strategies and answer."""

    request_id: str
    request: PlanRequest
    situation: Situation


@dataclass(frozen=True)
class Note:
    """Something a person reading the log wants to know, and what it is about."""

    text: str
    device: str | None = None
    group: str | None = None
    epoch: int | None = None


Command = Profile | StoreProfile | Solve | StorePlan | DeletePlan | AdoptGroup | AnswerPlan | Note
