"""The events that the scheduler's core takes, and the commands that it returns. Plain data, compared by equality."""

from __future__ import annotations

from dataclasses import dataclass

from hams_scheduler.network import Cell
from hams_scheduler.planning import Solution
from hams_scheduler.variant_choice import PlanningSnapshot
from hams_shared.errors import HamsError
from hams_shared.group.stream_spec import StreamSpec
from hams_shared.wire.messages.agents import DeviceHealth, DeviceRecord, Heartbeat, ProfileRecord
from hams_shared.wire.messages.group import GroupRecord, ModelRef
from hams_shared.wire.messages.history import HistoryEntry
from hams_shared.wire.messages.pipeline import PipelineLoad, ReadCost
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
    """A heartbeat of an agent."""

    heartbeat: Heartbeat


@dataclass(frozen=True)
class PipelineSeen:
    """A pipeline's report of what it costs its host."""

    load: PipelineLoad


@dataclass(frozen=True)
class VideoMeasured:
    """What reading a video costs; with a CPU time of 0 it could not be measured."""

    key: str
    cost: ReadCost


@dataclass(frozen=True)
class GroupSeen:
    """KV ``groups``: a deployed group; None: undeployed."""

    group: str
    record: GroupRecord | None


@dataclass(frozen=True)
class PlanSeen:
    """A plan in KV that is taken, whichever scheduler wrote it: it is newer than the one that was to be written."""

    record: PlanRecord


@dataclass(frozen=True)
class PlanEntrySeen:
    """KV ``plans``: an entry as a watch reports it; None: it is deleted, or `lost` with the store.

    `back`: the store had a later one, and has gone back to this one.
    """

    group: str
    record: PlanRecord | None
    lost: bool = False
    back: bool = False


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
    """This scheduler decides from now on.

    `plans` are those in KV; `written` are the groups of which this scheduler ever saw a plan in KV. A known plan that
    is in neither was decided in an earlier term and never written. `back` are the groups whose plan in KV went back.
    """

    plans: tuple[PlanRecord, ...] = ()
    written: frozenset[str] = frozenset()
    host: str = ""
    """Where this scheduler runs."""
    back: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Follow:
    """Another scheduler decides, or none: this one only follows the news."""


@dataclass(frozen=True)
class BrokerBack:
    """The connection to the broker is back: agents could not be heard meanwhile."""


@dataclass(frozen=True)
class ProfileSeen:
    """KV ``profiles``: a measurement."""

    record: ProfileRecord


@dataclass(frozen=True)
class VariantSeen:
    """KV ``variants``: what may replace the network of digest `source`; None: it may no longer."""

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
class Prepared:
    """The solver's answer to :class:`Prepare`, and the CPU time that it took, s; None: solving failed."""

    generation: int
    solution: Solution | None
    cpu_s: float


@dataclass(frozen=True)
class PlanAsked:
    """A question what the strategies would do; nothing is deployed."""

    request_id: str
    request: PlanRequest


@dataclass(frozen=True)
class AskWithdrawn:
    """Nobody waits for the answer any more."""

    request_id: str


@dataclass(frozen=True)
class MeasureAsked:
    """A request to measure cells again: of models and devices by name or pattern; empty: all."""

    model: str
    device: str


@dataclass(frozen=True)
class HistoryRead:
    """What the journal holds of the history, oldest first; `complete`: from its first entry ever."""

    entries: tuple[HistoryEntry, ...] = ()
    complete: bool = True


@dataclass(frozen=True)
class HistoryTold:
    """What the leading scheduler told."""

    entry: HistoryEntry


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


Event = (
    DeviceSeen
    | HeartbeatSeen
    | PipelineSeen
    | VideoMeasured
    | GroupSeen
    | PlanSeen
    | PlanEntrySeen
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
    | Prepared
    | PlanAsked
    | AskWithdrawn
    | MeasureAsked
    | HistoryRead
    | HistoryTold
    | Tick
)

# ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Profile:
    """Ask `device` to benchmark a model; report :class:`ProfileDone`."""

    device: str
    model: ModelRef
    cell: Cell
    baseline: tuple[ModelRef, Cell] | None = None
    """The network that is measured in turns with it: the source of a variant, where that runs."""


@dataclass(frozen=True)
class MeasureVideo:
    """Ask the pipeline what reading a video costs; report :class:`VideoMeasured`."""

    key: str
    stream: StreamSpec


@dataclass(frozen=True)
class StoreProfile:
    """Write to KV ``profiles``."""

    record: ProfileRecord


@dataclass(frozen=True)
class Solve:
    """Run the solver on `snapshot`; report :class:`Solved` with the same generation."""

    generation: int
    snapshot: PlanningSnapshot


@dataclass(frozen=True)
class Prepare:
    """Run the solver on `snapshot`, what were left if `device` were lost; report :class:`Prepared`."""

    generation: int
    device: str
    snapshot: PlanningSnapshot


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
    """All measured: solve `snapshot` with each of the request's strategies and answer."""

    request_id: str
    request: PlanRequest
    snapshot: PlanningSnapshot


@dataclass(frozen=True)
class Note:
    """A line of the log, and what it is about."""

    text: str
    device: str | None = None
    group: str | None = None
    epoch: int | None = None


@dataclass(frozen=True)
class Tell:
    """Write to the history, and to the log. The shell adds the time."""

    entry: HistoryEntry


Command = (
    Profile
    | MeasureVideo
    | StoreProfile
    | Solve
    | Prepare
    | StorePlan
    | DeletePlan
    | AdoptGroup
    | AnswerPlan
    | Note
    | Tell
)
