"""Messages of agents: devices, heartbeats and measurements; and requests to agents."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from hams_shared.wire.messages.base import Wire, WireError
from hams_shared.wire.messages.group import ModelRef

MOST_EPOCH = 1 << 52
"""Of what an agent says: the scheduler counts on from it, and no plan may have an epoch that cannot be packed."""


class OfAgent(Wire):
    """Base of what agents report: it is calculated with, so that each number is finite."""

    model_config = ConfigDict(allow_inf_nan=False)


class DeviceRecord(OfAgent):
    """KV ``devices/<device>``: what an agent advertises when it starts."""

    device: str = Field(pattern=r"^[a-z0-9_-]+\.[a-z0-9_-]+\.[a-z0-9_-]+$")
    incarnation: str = Field(description="new at every start of the agent")
    host: str
    backend: str
    unit: str
    kind: str
    name: str
    cores: tuple[int, ...]
    host_cores: float = Field(0.0, ge=0, description="CPU cores of its host that HAMS may use; 0: not known")
    lanes: int = Field(1, ge=1, description="inferences that it computes at a time, each on its part of the device")
    limit: str = Field("", description="what keeps it from all of its cores, such as: 2 of 16 cores (cgroup quota)")
    memory_mib: int
    precisions: tuple[str, ...] = Field(min_length=1)
    runtime: str
    fingerprint: str = Field(description="equal for equal hardware and settings, on any host")
    emulated: bool = False
    idle_w: float = Field(0.0, ge=0, description="power, W; 0: not known")
    busy_w: float = Field(0.0, ge=0, description="power with all lanes busy, W; 0: not known")
    version: str
    protocol: tuple[int, int] = Field((0, 0), description="oldest and newest that it speaks; see wire/protocol.py")
    started_at: float

    @property
    def computes_on_cpu(self) -> bool:
        """Whether the host's cores compute its networks: a CPU, not an emulated one."""
        return self.kind == "cpu" and not self.emulated

    def belongs(self, key: str) -> bool:
        """Whether it is of device `key`."""
        return self.device == key


HANGS = 3
"""So many hangs and failures of a device within 15 minutes and it is quarantined: it gets no more work."""


class NetworkFault(OfAgent):
    """A network that fails on one device while others run: the pair gets no work."""

    digest: str
    model: str = Field(description="its name")
    reason: str
    runtime: str = Field(description="the fault holds for this runtime and driver")
    out: bool = Field(True, description="false: it is tried again, and may serve")
    until: float = Field(
        0.0, description="Unix time, s, when it is tried again, or when its fault is forgotten; 0: neither by itself"
    )
    strikes: int = Field(1, ge=1, description="how often it was taken out; each time for twice as long")


class DeviceHealth(OfAgent):
    """KV ``health/<device>``: the faults of a device; outlives its agent, which writes it."""

    device: str
    hangs: tuple[float, ...] = Field((), description="Unix times, s, of those that still count")
    failures: tuple[float, ...] = Field(
        (), description="Unix times, s, when inferences failed so often, or the process crashed, that its agent ended"
    )
    quarantined: bool = Field(False, description="it gets no work until `hams-ctl devices resume`")
    reason: str = Field("", description="what hung or failed last")
    gone: str = Field("", description="why the device is not there, such as: /dev/memx0 disappeared")
    networks: tuple[NetworkFault, ...] = Field((), description="networks that fail on it")

    @property
    def faulty(self) -> dict[str, str]:
        """The networks that get no work on it: the reason by digest."""
        return {one.digest: one.reason for one in self.networks if one.out}


class AssignmentState(OfAgent):
    """An agent's progress with one plan of one group."""

    group: str
    epoch: int = Field(le=MOST_EPOCH)
    state: Literal["loading", "ready", "refused"]
    loaded: int = 0
    total: int = 0
    error: WireError | None = None
    digest: str = Field("", description="the network that fails, where the device may serve the group's other nodes")


class NodeLoad(OfAgent):
    """The cost of one node on its device since the agent started."""

    group: str
    node: str
    frames: int = 0
    inferences: int = Field(0, description="images")
    batches: int = Field(0, description="in which they were computed")
    busy_s: float = Field(0.0, description="time of the whole device: on one of n lanes the n-th part")
    alone: int = Field(0, description="inferences, of these, that had a device of several lanes to themselves")
    alone_s: float = Field(0.0, description="their part of busy_s; other inferences show what the device can do")
    not_finite: int = Field(0, description="frames that failed since its network gave NaN or infinity for them")
    failed: int = Field(0, description="frames that failed since the inference of its network did")
    cpu_s: dict[str, float] = Field(
        default_factory=dict,
        description="CPU time by step (prepare, infer, decode, crop) of the threads that did it; other threads of a "
        "runtime do not count",
    )


class Heartbeat(OfAgent):
    """``hams.v1.heartbeat.<device>``: an agent is alive, and its whole state in brief, so that none need be kept."""

    device: str
    incarnation: str
    sequence: int
    assignments: tuple[AssignmentState, ...] = ()
    epoch: int = Field(0, ge=0, le=MOST_EPOCH, description="highest of all plans that the agent has seen")
    nodes: tuple[NodeLoad, ...] = ()
    connections: int = Field(
        0, ge=0, description="that it made to a broker so far: by another one than before, work on its way is lost"
    )
    lanes: int = Field(1, ge=1, description="inferences that the device computes at a time")
    queue: int = Field(0, description="work waiting")
    busy_s: float = Field(0.0, description="seconds of computing since start")
    cpu_s: float = Field(0.0, ge=0, description="CPU time of the agent's process since start")
    uptime_s: float = 0.0
    memory_mib: float = 0.0
    memory_domain: str = Field("", description="equal to the pipeline's: frames may travel by shared memory")
    mailbox: str = Field("", description="of the agent; processes that share its memory domain send their work there")
    replayed: int = Field(0, ge=0, description="images that an emulated device has answered by recorded outputs")
    misses: int = Field(0, ge=0, description="images whose outputs it had not recorded and computed on the host")
    remarks: tuple[str, ...] = Field((), description="what a person should know of it, such as code that has changed")


class ProfileRequest(Wire):
    """Request to an agent: benchmark this model alone."""

    model: ModelRef
    input_shape: tuple[int, ...]
    dtype: str = "f32"
    baseline: ProfileRequest | None = Field(
        None, description="measured in turns with it (paired baseline); of a variant: its source, where that runs"
    )


class ProfilePoint(OfAgent):
    """One way to run a network on a device, and what it gives."""

    lanes: int = Field(1, ge=1, description="inferences at a time")
    batch: int = Field(1, ge=1, description="images per inference")
    fps: float = Field(gt=0, description="images/s")
    ms: float = Field(gt=0, description="time of one inference, mean")


class ProfileRecord(OfAgent):
    """KV ``profiles/<key>``: one cell of the FPS matrix; ``reason`` is set, and FPS 0, for an unsupported pair."""

    digest: str
    model_name: str
    input_shape: tuple[int, ...]
    fingerprint: str
    runtime: str
    precision: str
    fps: float = Field(0.0, description="single images/s, with as many inferences at a time as `lanes` states")
    p50_ms: float = Field(0.0, description="time of one image alone on the device")
    p99_ms: float = 0.0
    lanes: int = Field(1, description="inferences of it at a time: the device's lanes, or fewer where more are slower")
    lane_ms: float = Field(0.0, description="time of each of these with its input, mean; 0: it is one")
    fps_batch: float = Field(0.0, description="images/s in batches of the best size, 0 when the model takes none")
    curve: tuple[ProfilePoint, ...] = Field((), description="throughput and latency by lanes and batch")
    cpu_ms: float = Field(0.0, ge=0, description="CPU time of the host per image, input included; 0: not known")
    load_ms: float = 0.0
    memory_mib: float = 0.0
    runs: int = 0
    stable: bool = True
    reason: str | None = None
    measured_on: str = ""
    measured_at: float = 0.0
    baseline: str = Field("", description="digest of the network that was measured in turns with it; empty: none")
    baseline_fps: float = Field(0.0, description="throughput of that one in the same moments, images/s")
    load: float = Field(0.0, ge=0, le=1, description="the part of the device's cores that others used meanwhile")
    further: str = Field("", description="short digest of what was fed besides the image; empty: nothing")

    @property
    def key(self) -> str:
        """KV key: what the measurement depends on, and nothing else."""
        network = profile_key_begin(self.digest, self.input_shape, self.further)
        return f"{network}.{profile_key_end(self.fingerprint, self.runtime, self.precision)}"


def profile_key_begin(digest: str, shape: tuple[int, ...], further: str = "") -> str:
    """Return the part of a profile's key that names the network, its input's shape, and what else it is fed."""
    return f"{digest}.{'x'.join(map(str, shape))}{f'-{further}' if further else ''}"


def profile_key_end(fingerprint: str, runtime: str, precision: str) -> str:
    """Return the part of a profile's key that names the device."""
    version = "".join(c if c.isalnum() or c in "-_" else "_" for c in runtime)
    return f"{fingerprint}.{version}.{precision}"
