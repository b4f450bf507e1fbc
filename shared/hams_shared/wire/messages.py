"""Control-plane messages and KV records: small, rare, validated.

A reader ignores fields it does not know (a newer writer may send more); it never guesses missing ones.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hams_shared.group.spec import GroupSpec, InputSpec


class Wire(BaseModel):
    """Base of all control messages."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class WireError(Wire):
    """An error as it travels; see :mod:`hams_shared.errors`."""

    code: str
    text: str
    hint: str = ""


# ── models ────────────────────────────────────────────────────────────────────────────────────────────────────────


class ModelPart(Wire):
    """One file of a model; OpenVINO IR has two (``.xml``, ``.bin``), all other formats one."""

    suffix: str = Field(pattern=r"^\.[a-z0-9]{1,12}$")
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0, description="bytes")


class ModelRef(Wire):
    """A model in the object store, named by the SHA-256 of its content."""

    name: str
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    parts: tuple[ModelPart, ...] = Field(min_length=1, max_length=2)


class GroupRecord(Wire):
    """KV ``groups/<group>``: a deployed group, with its models resolved to digests."""

    spec: GroupSpec
    models: dict[str, ModelRef] = Field(description="by node")
    deployed_at: float = Field(description="Unix time, s")


# ── devices ───────────────────────────────────────────────────────────────────────────────────────────────────────


class DeviceRecord(Wire):
    """KV ``devices/<device>``: what an agent advertises when it starts."""

    device: str = Field(pattern=r"^[a-z0-9_-]+\.[a-z0-9_-]+\.[a-z0-9_-]+$")
    incarnation: str = Field(description="new at every start of the agent")
    host: str
    backend: str
    unit: str
    kind: str
    name: str
    cores: tuple[int, ...]
    limit: str = Field("", description="what keeps it from all of its cores, such as: 2 of 16 cores (cgroup quota)")
    memory_mib: int
    precisions: tuple[str, ...]
    runtime: str
    fingerprint: str = Field(description="equal for equal hardware and settings, on any host")
    emulated: bool = False
    version: str
    started_at: float


class DeviceHealth(Wire):
    """KV ``health/<device>``: the hangs of a device; outlives its agent."""

    device: str
    hangs: tuple[float, ...] = Field((), description="Unix times, s, of those that still count")
    quarantined: bool = Field(False, description="it gets no work until `hams-ctl devices resume`")
    reason: str = Field("", description="what hung last")


class AssignmentState(Wire):
    """Where an agent stands with one plan of one group."""

    group: str
    epoch: int
    state: Literal["loading", "ready", "refused"]
    loaded: int = 0
    total: int = 0
    error: WireError | None = None


class NodeLoad(Wire):
    """What one node cost its device since the agent started."""

    group: str
    node: str
    frames: int = 0
    inferences: int = 0
    busy_s: float = 0.0


class Heartbeat(Wire):
    """``hams.v1.heartbeat.<device>``: an agent is alive, and its whole state in brief, so that none need be kept."""

    device: str
    incarnation: str
    sequence: int
    assignments: tuple[AssignmentState, ...] = ()
    epoch: int = Field(0, ge=0, description="highest of all plans that the agent has seen")
    nodes: tuple[NodeLoad, ...] = ()
    queue: int = Field(0, description="work waiting")
    busy_s: float = Field(0.0, description="seconds of computing since start")
    uptime_s: float = 0.0
    memory_mib: float = 0.0
    memory_domain: str = Field("", description="equal to the pipeline's: frames may travel by shared memory")
    remarks: tuple[str, ...] = Field((), description="what a person should know of it, such as code that has changed")


# ── profiles ──────────────────────────────────────────────────────────────────────────────────────────────────────


class ProfileRequest(Wire):
    """Request to an agent: benchmark this model alone."""

    model: ModelRef
    input_shape: tuple[int, ...]
    dtype: str = "f32"
    beside: ProfileRequest | None = Field(
        None, description="measured in turns with it; of a variant: its source, where that runs"
    )


class ProfileRecord(Wire):
    """KV ``profiles/<key>``: one cell of the FPS matrix; ``reason`` is set, and FPS 0, for an unsupported pair."""

    digest: str
    model_name: str
    input_shape: tuple[int, ...]
    fingerprint: str
    runtime: str
    precision: str
    fps: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    fps_batch: float = Field(0.0, description="images/s in batches, 0 when the model takes none")
    load_ms: float = 0.0
    memory_mib: float = 0.0
    runs: int = 0
    stable: bool = True
    reason: str | None = None
    measured_on: str = ""
    measured_at: float = 0.0
    beside: str = Field("", description="digest of the network that was measured in turns with it; empty: none was")
    beside_fps: float = Field(0.0, description="how fast that one was just then, images/s")
    load: float = Field(0.0, ge=0, le=1, description="the part of the device's cores that others used meanwhile")

    @property
    def key(self) -> str:
        """KV key: what the measurement depends on, and nothing else."""
        return profile_key(self.digest, self.input_shape, self.fingerprint, self.runtime, self.precision)


def profile_key(digest: str, shape: tuple[int, ...], fingerprint: str, runtime: str, precision: str) -> str:
    """Key of a profile: model digest and input shape, device fingerprint, runtime version, precision."""
    version = "".join(c if c.isalnum() or c in "-_" else "_" for c in runtime)
    return f"{digest}.{'x'.join(map(str, shape))}.{fingerprint}.{version}.{precision}"


# ── plans ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class VariantChoice(Wire):
    """A variant that stands for a node's network on one device; see :mod:`hams_shared.wire.variants`."""

    model: ModelRef
    label: str = Field(description="short, e.g. int8")
    agreement: float = Field(description="with its source, 0-1")
    input: InputSpec | None = Field(None, description="what it takes, where that is not what the node says")
    fps: float = Field(0.0, description="images/s alone on that device")
    source_fps: float = Field(0.0, description="of the source there; 0: it does not run there")


class Plan(Wire):
    """Who runs what: node → {device: share}, under an epoch that only grows. Holds all an agent needs to serve it."""

    epoch: int = Field(ge=1)
    group: GroupRecord
    shares: dict[str, dict[str, float]]
    variants: dict[str, dict[str, VariantChoice]] = Field(
        {}, description="node → device → what is loaded there instead of the group's own model"
    )
    strategy: str
    fps: float = Field(description="predicted group FPS")
    bound_fps: float = Field(0.0, description="proven upper bound")
    reason: str = Field("", description="why this plan was made")
    explanation: dict[str, str] = Field({}, description="by node: why it is where it is")
    unmet: bool = Field(False, description="whether the group's target cannot be met")
    made_at: float = 0.0

    @property
    def devices(self) -> frozenset[str]:
        """Devices that serve some node."""
        return frozenset(device for places in self.shares.values() for device in places)

    def model_on(self, node: str, device: str) -> ModelRef:
        """The network that `device` loads for `node`."""
        choice = self.variants.get(node, {}).get(device)
        return choice.model if choice else self.group.models[node]

    def input_on(self, node: str, device: str) -> InputSpec:
        """What that network takes."""
        choice = self.variants.get(node, {}).get(device)
        return (choice.input if choice else None) or self.group.spec.nodes[node].input

    @property
    def all_models(self) -> tuple[ModelRef, ...]:
        """The group's own networks and the variants that stand for them."""
        variants = (v.model for places in self.variants.values() for v in places.values())
        return (*self.group.models.values(), *variants)

    def variants_on(self, device: str) -> frozenset[str]:
        """Digests of the variants that `device` loads."""
        return frozenset(places[device].model.digest for places in self.variants.values() if device in places)

    @property
    def models(self) -> dict[str, dict[str, str]]:
        """Node → device → digest of the network it loads."""
        return {n: {d: self.model_on(n, d).digest for d in places} for n, places in self.shares.items()}

    def share(self, node: str, device: str) -> float:
        """The part of `node`'s frames that `device` takes, 0–1."""
        places = self.shares.get(node, {})
        total = sum(places.values())
        return places.get(device, 0.0) / total if total > 0 else 0.0

    def nodes_on(self, device: str) -> tuple[str, ...]:
        """Nodes that `device` serves, parents first."""
        return tuple(n for n in self.group.spec.depth_first() if device in self.shares.get(n, {}))


class PlanRecord(Wire):
    """KV ``plans/<group>``: the plan in force and, while agents load it, the next one."""

    group: str
    active: Plan | None = None
    next: Plan | None = None
    term: int = Field(0, description="of the leading scheduler that wrote it")

    @property
    def newest(self) -> int:
        """Highest epoch in the record; 0 when empty."""
        return max((p.epoch for p in (self.active, self.next) if p), default=0)

    @property
    def in_force(self) -> int:
        """Epoch of the active plan; 0 when there is none."""
        return self.active.epoch if self.active else 0


# ── jobs of the optimizer ─────────────────────────────────────────────────────────────────────────────────────────


JobState = Literal["waiting", "running", "done", "failed", "cancelled"]


class JobRecord(Wire):
    """KV ``jobs/<id>``: something an optimizer is to do. Written by whoever wants it; taken by compare-and-set."""

    id: str
    kind: Literal["optimize", "calibrate", "train"]
    group: str
    frames: int = Field(120, ge=3, le=10_000, description="frames to take from the group's streams")
    samples: str = Field("", description="folder of frames on the optimizer's host instead; empty: the streams")
    budget_s: float = Field(900.0, gt=0, le=86_400, description="how long it may take, s; train: how long it trains")
    fresh: bool = Field(False, description="take new frames, and measure anew what is known")
    node: str = Field("", description="train: the node whose network is to have a student")
    gflops: float = Field(0.0, ge=0, description="train: the student's budget, 10⁹ operations; 0: by `fps`")
    fps: float = Field(0.0, ge=0, description="train: images/s that the student has to reach on `device`")
    device: str = Field("", description="train: device of the optimizer's host, e.g. openvino:CPU@0")
    labels: str = Field("", description="train: folder of samples with labels.json, instead of a teacher")
    epochs: int = Field(200, ge=1, le=100_000)
    state: JobState = "waiting"
    host: str = Field("", description="of the optimizer that has it")
    attempts: int = Field(0, ge=0, description="how often it was begun")
    text: str = Field("", description="what it does now, or came to")
    warning: str = Field("", description="what will be missing in the end")
    done: int = Field(0, description="optimize: seconds of the budget")
    total: int = 0
    created_at: float = 0.0
    ended_at: float = 0.0
    error: WireError | None = None
    report: str = Field("", description="Markdown")

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ("done", "failed", "cancelled")


# ── requests to the scheduler and the pipeline ────────────────────────────────────────────────────────────────────


class LeaderRecord(Wire):
    """KV ``leader/scheduler``: which scheduler leads; renewed by compare-and-set on the key's revision."""

    holder: str = Field(description="id of the scheduler; empty: given back")
    host: str = ""
    pid: int = 0
    term: int = Field(ge=1, description="grows with every change of leader")
    since: float = Field(0.0, description="Unix time, s; for people, never compared")


class PlanRequest(Wire):
    """Request: what would each strategy do with this group, or with it and others at once? Nothing is deployed."""

    group: GroupRecord
    others: tuple[GroupRecord, ...] = Field((), description="groups that are placed together with it")
    strategies: tuple[str, ...] = Field(min_length=1)
    time_limit_s: float = Field(1.0, gt=0, le=60)

    @property
    def groups(self) -> list[GroupRecord]:
        """All groups that are asked about."""
        return [self.group, *self.others]


class MeasureRequest(Wire):
    """Request: measure these cells of the FPS matrix again. Names may be patterns (``*``); empty: all."""

    model: str = ""
    device: str = ""


class MeasureAnswer(Wire):
    """How many cells will be measured."""

    cells: int


class StrategyAnswer(Wire):
    """One strategy's answer. Of several groups nodes are named `group/node`, and `fps` is that of the worst-off."""

    strategy: str
    group_fps: dict[str, float] = Field({}, description="by group, where there are several")
    shares: dict[str, dict[str, float]] = {}
    variants: dict[str, dict[str, VariantChoice]] = {}
    source_fps: float | None = Field(None, description="the same strategy's FPS without variants, where it uses some")
    fps: float = 0.0
    bound_fps: float = 0.0
    gap: float = 0.0
    seconds: float = 0.0
    busy: dict[str, float] = {}
    bottleneck: str = ""
    explanation: dict[str, str] = {}
    error: WireError | None = None


class PlanAnswer(Wire):
    """Answer to a plan request, with the matrix it was computed from."""

    answers: tuple[StrategyAnswer, ...] = ()
    matrix: MatrixView | None = None
    error: WireError | None = None


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
    reasons: dict[str, str] = Field({}, description="`model @ device` → why there is no number")
    cells: dict[str, dict[str, ProfileRecord]] = Field({}, description="model → device → the whole measurement")
    emulated: tuple[str, ...] = ()
    doubts: dict[str, str] = Field({}, description="`model @ device` → why its number may be wrong")
    variants: tuple[VariantRow, ...] = Field((), description="of the nodes that have any, their sources first")


class DeviceView(Wire):
    """A device as the scheduler sees it now."""

    record: DeviceRecord
    state: Literal["alive", "lost", "quarantined"]
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
    expected_fps: float = Field(0.0, description="frames/s it can do now, beside all else; 0: nothing is known")
    expected_why: str = Field("", description="why that is less than the plan's, or is not reached")
    weights: dict[str, float] = Field({}, description="by node: inferences per frame, as learned")
    confidence: dict[str, float] = Field({}, description="by node: how much of its weight was observed, 0-1")


class SchedulerView(Wire):
    """Everything the scheduler knows, for `status`, `devices` and `matrix`."""

    devices: tuple[DeviceView, ...]
    groups: tuple[GroupView, ...]
    matrix: MatrixView
    profiling: dict[str, str] = Field({}, description="device → model being measured")
    waiting_profiles: int = 0
    leader: LeaderRecord | None = Field(None, description="the scheduler that answers")
    led_s: float = Field(0.0, description="for how long; boxes' clocks may differ, so this is what counts")


class StreamView(Wire):
    """One stream as the pipeline sees it now."""

    group: str
    stream: str
    state: Literal["waiting", "playing", "reconnecting", "ended", "failed"]
    text: str = ""
    submitted: int = 0
    delivered: int = 0
    in_flight: int = 0
    dropped: dict[str, int] = {}
    failed: dict[str, int] = {}
    resent: int = 0
    fps: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    deployed_at: float = Field(0.0, description="of the group's record that the stream is of")


class PipelineView(Wire):
    """All streams of a pipeline."""

    streams: tuple[StreamView, ...]


class InferRequest(Wire):
    """Request on ``hams.v1.infer.<group>``: one encoded image (JPEG, PNG, …), or raw pixels with their shape."""

    image: bytes
    shape: tuple[int, int, int] | None = Field(None, description="of raw pixels: height, width, 3 (B, G, R)")
    deadline_s: float = Field(30.0, gt=0, le=600)


class InferAnswer(Wire):
    """The joined result (see docs/messages.md), or why there is none."""

    result: dict[str, Any] | None = None
    error: WireError | None = None


class PushRequest(InferRequest):
    """Request on ``hams.v1.push.<group>.<stream>``: the next frame of a stream with ``source: push``."""


class PushAnswer(Wire):
    """The number the frame got, or why it was not taken. It comes when there is room for the frame."""

    frame: int | None = None
    overloaded: bool = Field(False, description="live: an older frame that still waited was dropped for this one")
    error: WireError | None = None


PICTURES_LEASE_S = 6.0
"""A wish for pictures holds for so long; who still wants them says so again."""


class PicturesWanted(Wire):
    """On ``hams.v1.pictures-wanted.<group>``: somebody wants to see the frames that are delivered."""

    stream: str = Field("*", description="name of a stream, or * for all")
    quality: int = Field(90, ge=1, le=100, description="of the JPEG")


class FramePicture(Wire):
    """On ``hams.v1.picture.<group>.<stream>``, just before the frame's result, while somebody wants it."""

    stream: str
    frame: int
    jpeg: bytes


PlanAnswer.model_rebuild()
