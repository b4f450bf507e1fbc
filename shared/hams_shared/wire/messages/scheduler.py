"""Requests to the scheduler, and its view of devices, groups and the FPS matrix."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hams_shared.wire.messages.agents import DeviceHealth, DeviceRecord, Heartbeat, ProfileRecord
from hams_shared.wire.messages.base import Wire, WireError
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.plan import Plan, VariantChoice


class LeaderRecord(Wire):
    """KV ``leader/scheduler``: which scheduler leads; renewed by compare-and-set on the key's revision."""

    holder: str = Field(description="id of the scheduler; empty: given back")
    host: str = ""
    pid: int = 0
    term: int = Field(ge=1, description="grows with every change of leader")
    since: float = Field(0.0, description="Unix time, s; for people, never compared")


class SurviveRequest(Wire):
    """Place so that after the loss of any one device every group keeps this part of its target."""

    keep: float = Field(0.5, gt=0, le=1)
    reserve_memory: bool = Field(False, description="memory for all fallbacks at once, so that they can be loaded")


class SupposedDevice(Wire):
    """A device that a question about plans supposes: a twin of one that is alive."""

    like: str = Field(description="id of the device whose measurements it has")
    host: str = Field("", description="on which it is; empty: on that device's, whose cores they share")


class PlanRequest(Wire):
    """Request: what would each strategy do with this group, or with it and others at once? Nothing is deployed."""

    group: GroupRecord
    others: tuple[GroupRecord, ...] = Field((), description="groups that are placed together with it")
    strategies: tuple[str, ...] = Field(min_length=1)
    time_limit_s: float = Field(1.0, gt=0, le=60)
    each_loss: bool = Field(False, description="also the plan without each device; with one strategy")
    survive: SurviveRequest | None = Field(None, description="whole nodes, placed by a search of its own")
    without: tuple[str, ...] = Field((), description="devices that are supposed not to be there")
    added: tuple[SupposedDevice, ...] = Field((), max_length=16, description="devices that are supposed to be there")

    @property
    def groups(self) -> list[GroupRecord]:
        """All groups that are asked about."""
        return [self.group, *self.others]


class ViewRequest(Wire):
    """Request for :class:`SchedulerView`; an empty message is one for all of it."""

    matrix: bool = Field(True, description="false: an empty matrix, which is most of a large site's view")
    group: str = Field("", description="only this group, if it is deployed, and no devices; empty: all")


class MeasureRequest(Wire):
    """Request: measure these cells of the FPS matrix again. Names may be patterns (``*``); empty: all."""

    model: str = ""
    device: str = ""


class MeasureAnswer(Wire):
    """How many cells will be measured."""

    cells: int


class VariantRow(Wire):
    """One network that may serve a node, or why it may not, with its FPS by device (None: see `reasons`)."""

    node: str = Field(description="group/node")
    model: str
    digest: str
    label: str = Field(description="source, or the variant's short name")
    agreement: float | None = Field(None, description="with the source; None: not compared, or the source itself")
    floor: float
    excluded: str = Field("", description="why it may not serve; empty: it may")
    fps: tuple[float | None, ...] = ()
    reasons: dict[str, str] = Field({}, description="device → why there is no number")
    serves: tuple[str, ...] = Field((), description="devices that serve the node with it now")


class MatrixView(Wire):
    """The FPS matrix as people and programs see it: rows are models, columns are devices, None is unsupported."""

    models: tuple[str, ...]
    devices: tuple[str, ...]
    fps: tuple[tuple[float | None, ...], ...]
    weights: tuple[float, ...] | None = Field(
        None, description="inferences per frame of each row; None: no group leaves work out, and each is 1"
    )
    reasons: dict[str, str] = Field({}, description="`model @ device` → why there is no number")
    cells: dict[str, dict[str, ProfileRecord]] = Field({}, description="model → device → the whole measurement")
    emulated: tuple[str, ...] = ()
    hosts: dict[str, str] = Field({}, description="device → host")
    cores: dict[str, float] = Field({}, description="host → CPU cores that HAMS may use, where they are known")
    cpu_ms: tuple[tuple[float | None, ...], ...] | None = Field(
        None, description="CPU time of the host per inference, as `fps`; None: no cores are known"
    )
    frame_cpu_ms: dict[str, dict[str, float]] = Field(
        {}, description="group (`default`: that of all models) → host → CPU time per frame, whatever the placement"
    )
    doubts: dict[str, str] = Field({}, description="`model @ device` → why its number may be wrong")
    variants: tuple[VariantRow, ...] = Field((), description="of the nodes that have any, their sources first")


class GroupOutcome(Wire):
    """What a plan gives one group; groups are in the order in which they count."""

    group: str
    priority: int = 0
    fps: float
    target_fps: float | None = None
    short_fps: float = Field(0.0, description="what it lacks of its target")
    bound_fps: float | None = Field(None, description="no plan that gives those before it no less gives it more")
    proven: bool = False


class LossOutcome(Wire):
    """What groups get without one device."""

    device: str
    group_fps: dict[str, float] = Field({})
    kept: dict[str, float] = Field({}, description="by group: part of its target, or of its FPS with all devices")
    moved: dict[str, str] = Field({}, description="node → device that it falls back to")
    reasons: dict[str, str] = Field({}, description="by group: why it gets nothing")
    bottleneck: str = ""


class SurvivalOutcome(Wire):
    """What was asked of a plan that survives, and what it keeps after the worst loss."""

    keep: float
    reserve_memory: bool
    kept: float
    bound_kept: float | None = Field(None, description="no placement keeps more")
    ordinary_fps: dict[str, float] = Field({}, description="by group: FPS of the plan that need not survive")


class StrategyAnswer(Wire):
    """One strategy's answer. Of several groups nodes are named `group/node`, and `fps` is that of the worst-off."""

    strategy: str
    group_fps: dict[str, float] = Field({}, description="by group, where there are several")
    groups: tuple[GroupOutcome, ...] = ()
    losses: tuple[LossOutcome, ...] = Field((), description="by device, where losses were asked about")
    survival: SurvivalOutcome | None = None
    shares: dict[str, dict[str, float]] = Field({})
    variants: dict[str, dict[str, VariantChoice]] = Field({})
    source_fps: float | None = Field(None, description="the same strategy's FPS without variants, where it uses some")
    fps: float = 0.0
    bound_fps: float = 0.0
    gap: float = 0.0
    seconds: float = 0.0
    busy: dict[str, float] = Field({})
    bottleneck: str = ""
    explanation: dict[str, str] = Field({})
    error: WireError | None = None


class PlanAnswer(Wire):
    """Answer to a plan request, with the matrix it was computed from."""

    answers: tuple[StrategyAnswer, ...] = ()
    matrix: MatrixView | None = None
    error: WireError | None = None


class DeviceView(Wire):
    """A device as the scheduler sees it now."""

    record: DeviceRecord
    state: Literal["alive", "lost", "quarantined", "gone", "incompatible"]
    misfit: str = Field("", description="why it cannot work with this version of HAMS")
    health: DeviceHealth | None = None
    heartbeat: Heartbeat | None = None
    silent_s: float = 0.0


class GroupView(Wire):
    """A group as the scheduler sees it now."""

    name: str
    deployed_at: float = 0.0
    state: Literal["profiling", "planning", "loading", "serving", "waiting", "failed"]
    text: str = ""
    done: int = 0
    total: int = 0
    active: Plan | None = None
    next: Plan | None = None
    error: WireError | None = None
    target_fps: float | None = None
    measured_fps: float = Field(0.0, description="frames/s now; a source may bring less than could be done")
    predicted_fps: float = Field(
        0.0, description="frames/s of the active plans of all groups together, by what is known now; 0: unknown"
    )
    bottleneck: str = Field("", description="the device, or host's cores, that limits the group by that prediction")
    expected_fps: float = Field(
        0.0, description="frames/s that it can reach now, with everything else running; 0: unknown"
    )
    expected_why: str = Field("", description="why that is less than the plan's, or is not reached")
    weights: dict[str, float] = Field({}, description="by node: inferences per frame, as learned")
    confidence: dict[str, float] = Field({}, description="by node: how much of its weight was observed, 0-1")


class SchedulerView(Wire):
    """Everything the scheduler knows, for `status`, `devices` and `matrix`."""

    devices: tuple[DeviceView, ...]
    groups: tuple[GroupView, ...]
    unread: dict[str, WireError] = Field({}, description="by group: why its newest record cannot be read")
    version: str = ""
    protocol: tuple[int, int] = Field((0, 0), description="oldest and newest that the scheduler speaks")
    matrix: MatrixView
    profiling: dict[str, str] = Field({}, description="device → model being measured")
    waiting_profiles: int = 0
    epoch: int = Field(0, description="highest of all plans that were ever made; it counts them")
    losses: int = Field(0, description="devices that serve, for whose loss the next plans are to be ready")
    losses_ready: int = Field(0, description="those for which they are")
    leader: LeaderRecord | None = Field(None, description="the scheduler that answers")
    led_s: float = Field(0.0, description="for how long; boxes' clocks may differ, so this is what counts")
