"""What is learned from serving: how often nodes run, how devices slow down, what frames cost hosts' cores. Pure.

Agents count in their heartbeats, per node: frames, inferences, busy seconds. Inferences that had a device of several
lanes to themselves show nothing of what it can do, so they count for weights only. From the differences between two
heartbeats come

    w_n       = pieces of work of n per frame · inferences of n / pieces of n       (inferences per frame)
    o_d       = busy seconds of d beyond sum over nodes of inferences_n / F[n, d], per inference, at most OVERHEAD_S
    eta_d(k)  = sum over nodes of inferences_n / F[n, d], over the rest of d's busy seconds, with k nodes resident

The overhead `o` is what an inference costs beside computing (handing over, waiting for Python's lock): the same for a
small network as for a large one, so it must not stretch the large one's time. `eta` is 1 when co-located models cost
each other nothing; ``kappa = 1 / eta`` stretches the device's cycle in the objective. All are means with exponential
forgetting, shrunk to a prior by how much has been seen: a node's weight to the group file's, eta(d, k) to the device's
mean, that to 1.

Each frame brings each node one piece of work, with many crops or none. Where the group file leaves some out (cadences,
conditions, gates), the pipeline counts the frames: :mod:`hams_scheduler.frame_counts`.

While the cores of a host are full (`crowded`), busy time includes waiting for cores, which says nothing of the device:
then neither `o` nor `eta` is observed, nor while the agent loads or measures networks. What counts on full cores is the
CPU time of a frame, learned from the process times in heartbeats and in the pipeline's reports: per message of an agent
beside its networks, by which factor networks take more or less than measured alone, per frame read, and per frame and
output joined.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from hams_scheduler.expected_work import Agreements, ExpectedWorks, leaves_out
from hams_scheduler.frame_counts import SILENT_S, FrameCounts, new_frames
from hams_scheduler.heartbeat_counts import Seen, resident_nodes, since
from hams_scheduler.ratio import Ratio
from hams_scheduler.served_rates import RATE_MEMORY_S, Delta, ServedRates
from hams_shared.wire.messages.agents import Heartbeat
from hams_shared.wire.messages.pipeline import PipelineLoad
from hams_shared.wire.messages.plan import Plan

WEIGHT_PRIOR_FRAMES = 100.0
"""The group file's weight counts as much as this many frames."""
WEIGHT_MEMORY_FRAMES = 2000.0
"""Frames after which an observation has lost 63 % of its weight: scenes change."""
ETA_PRIOR_S = 10.0
"""The prior of eta counts as much as this much busy time, s."""
ETA_MEMORY_S = 60.0
"""Busy time after which an observation of eta has lost 63 % of its weight, s."""
OVERHEAD_S = 0.0015
"""Most of an inference's excess that counts as overhead, s; the rest is contention."""
OVERHEAD_PRIOR = 100.0
"""The prior of the overhead, none, counts as much as this many inferences."""
OVERHEAD_MEMORY = 3000.0
"""Inferences after which an observation of the overhead has lost 63 % of its weight."""
ETA_RANGE = (0.1, 1.5)
"""Outside it an observation reflects clocks rather than contention."""

CROWDED = 0.9
"""From this part of a host's cores on, what runs there waits for cores."""
LOADED = 0.1
"""CPU seconds per second from which on a process shows what frames cost it: below, its idle work weighs too much."""
SHARED, SHARED_MOST = 0.011, 0.11
"""By how much each further network on a CPU slows all of them down until it is measured, and all together at most:
they evict each other's weights from the caches (decision 29)."""
SHARED_LEVELS = 1 + round(SHARED_MOST / SHARED)
"""The number of networks from which on further ones slow them down no more."""
MESSAGE_S = 0.0011
"""CPU time of a node's message with one image in its agent beside the network, waiting for Python's lock included,
until it is measured, s (decision 29)."""
MESSAGE_CPU = 0.4
"""The part of that which the agent itself computes. On CPUs the cores are taken while lanes wait for the lock; agents
of GPUs and NPUs leave them to others."""
EMPTY = 0.3
"""What a message without images costs, in times of one with one image; the rest is that of a batch, however large."""
MESSAGE_MOST_S = 0.0015
"""Most of it that counts as a message, s; the rest is the networks', where theirs is known."""
READ_S = 0.001
"""CPU time of reading and decoding a frame until it is measured, s: VGA takes less, 1080p more (decision 29)."""
FRAME_S, OUTPUT_S = 0.0003, 0.00008
"""CPU time of a frame and of each of its nodes in the pipeline and the broker until it is measured, s (decision 29)."""
BROKER_PART = 0.28
"""The part of that which the broker takes: its process is not measured, and taken to grow with the pipeline's."""
CPU_PRIOR, CPU_MEMORY = 300.0, 6000.0
"""These priors count as much as so many messages or frames; an observation fades after so many more."""

FpsOf = Callable[[str, str, str], float]
"""(group, node, device) → frames/s alone, 0 when unknown."""
CpuOf = Callable[[str, str, str], float]
"""(group, node, device) → CPU time of an image, s, 0 when unknown."""
FollowOf = Callable[[str], float]
"""group → CPU time of tracking a frame until it is measured, s."""


@dataclass
class Learned:
    """All that was learned from serving so far."""

    seen: dict[str, Seen] = field(default_factory=dict)
    runs: dict[tuple[str, str], Ratio] = field(default_factory=dict)
    """By (group, node): inferences over pieces of work."""
    expected: ExpectedWorks = field(default_factory=ExpectedWorks)
    frames: FrameCounts = field(default_factory=FrameCounts)
    agreements: dict[str, Agreements] = field(default_factory=dict)
    """By group, then stream: what the pipeline measured of cadences."""
    eta: dict[tuple[str, int], Ratio] = field(default_factory=dict)
    """By (device, resident nodes)."""
    device_eta: dict[str, Ratio] = field(default_factory=dict)
    extra: dict[str, Ratio] = field(default_factory=dict)
    """By device: overhead in s over inferences."""
    rates: ServedRates = field(default_factory=ServedRates)
    pipelines: dict[str, PipelineLoad] = field(default_factory=dict)
    """By host, the newest last: what its pipeline reported last."""
    piped_at: dict[str, float] = field(default_factory=dict)
    """By host: when its pipeline reported last, where that is not long ago."""
    cpu: dict[str, Ratio] = field(default_factory=dict)
    """By device, or by host of a pipeline: CPU seconds of the process over seconds."""
    message: dict[str, Ratio] = field(default_factory=dict)
    """By device: CPU seconds beside networks over messages, of one image each."""
    networks: dict[str, Ratio] = field(default_factory=dict)
    """By device: CPU seconds of its networks over those measured alone."""
    reading: dict[tuple[str, str], Ratio] = field(default_factory=dict)
    """By (group, stream): CPU seconds over frames read."""
    joining: Ratio = field(default_factory=lambda: Ratio(CPU_MEMORY))
    """CPU time of pipelines beside reading, in frames of the assumed cost, over frames."""
    revision: int = 0
    """Grows with what changes predictions: not with heartbeats of devices that serve nothing."""

    def weight(self, group: str, node: str, prior: float) -> float:
        """Inferences of `node` per piece of work: per frame of its group, where each brings one piece."""
        ratio = self.runs.get((group, node))
        return prior if ratio is None else max(ratio.value(prior, WEIGHT_PRIOR_FRAMES), 1e-3)

    def confidence(self, group: str, node: str) -> float:
        """How much of the weight was observed, 0–1."""
        ratio = self.runs.get((group, node))
        return 0.0 if ratio is None else ratio.confidence(WEIGHT_PRIOR_FRAMES)

    def kappa(self, device: str, resident: int) -> float:
        """By how much the device's cycle is stretched with `resident` nodes on it; 1 when nothing is known."""
        mean = self.device_eta.get(device)
        prior = 1.0 if mean is None else mean.value(1.0, ETA_PRIOR_S)
        own = self.eta.get((device, resident))
        eta = prior if own is None else own.value(prior, ETA_PRIOR_S)
        return 1.0 / min(max(eta, ETA_RANGE[0]), ETA_RANGE[1])

    def kappas(self, devices: list[str], most: int, cpus: Collection[str] = ()) -> dict[tuple[str, int], float]:
        """:meth:`kappa` by (device, resident nodes) up to `most` nodes; unknown devices but `cpus` are absent."""
        new = {(d, k): shared(k) for d in cpus if d not in self.device_eta for k in range(2, most + 1)}
        for device in devices:
            if device in self.device_eta:
                by_mean = self.kappa(device, 0)  # no device reports 0 nodes: what holds where none were observed
                new |= dict.fromkeys([(device, k) for k in range(1, most + 1)], by_mean)
        own = [one for one in self.eta if one[1] <= most and one in new]
        return new | {one: self.kappa(*one) for one in own}

    def levels(self, nodes: int) -> int:
        """The number of resident nodes, up to `nodes`, beyond which :meth:`kappas` are the same."""
        return min(nodes, max(SHARED_LEVELS, *(1 + known for _, known in self.eta), 1))

    def overhead_s(self, device: str) -> float:
        """What an inference costs on the device beside computing, s; 0 when nothing is known."""
        ratio = self.extra.get(device)
        return 0.0 if ratio is None else ratio.value(0.0, OVERHEAD_PRIOR)

    def message_s(self, device: str, *, cpu: bool = True) -> float:
        """CPU time of a node's message on the device, a CPU or not, beside its network, s."""
        ratio, prior = self.message.get(device), MESSAGE_S if cpu else MESSAGE_S * MESSAGE_CPU
        return prior if ratio is None else ratio.value(prior, CPU_PRIOR)

    def cpu_factor(self, device: str, nodes: int) -> float:
        """By which factor the networks of so many nodes take more CPU time on the device than measured alone."""
        ratio = self.networks.get(device)
        return shared(nodes) if ratio is None else ratio.value(shared(nodes), ETA_PRIOR_S)

    def frame_s(self, group: str, reading: Mapping[str, float], outputs: float, follow_s: float = 0.0) -> float:
        """CPU time of a frame of `group` on the host of its pipeline, the broker's included, s.

        `reading` has the CPU time of reading a frame of each stream before it is played, s; `outputs` are those of
        nodes per frame; `follow_s` is what tracking a frame is taken to cost until it is measured, s.
        """
        known = [
            self.reading.get((group, stream), Ratio(CPU_MEMORY)).value(prior, CPU_PRIOR)
            for stream, prior in reading.items()
        ]
        return sum(known) / max(len(known), 1) + (FRAME_S + outputs * OUTPUT_S + follow_s) * self.joining.value(
            1.0, CPU_PRIOR
        )

    def cpu_load(self, name: str) -> float:
        """CPU seconds per second of a device's agent, or of the pipeline on a host."""
        ratio = self.cpu.get(name)
        return 0.0 if ratio is None or ratio.below <= 0 else ratio.value(0.0, 0.0)

    @property
    def pipeline_host(self) -> str:
        """The host of the pipeline that reported last; empty: none did."""
        return next(reversed(self.pipelines), "")

    def piped(self, load: PipelineLoad, now: float = 0.0, follow_s: FollowOf = lambda group: 0.0) -> None:
        """Take what a pipeline reports of its CPU time and its frames; `follow_s` as for :meth:`frame_s`, by group."""
        self.revision += self.pipeline_host != load.host
        last = self.pipelines.pop(load.host, None)
        self.pipelines[load.host] = load
        self.piped_at[load.host] = now
        self._agreements(load)
        if last is None or last.incarnation != load.incarnation or load.uptime_s <= last.uptime_s:
            self.cpu.pop(load.host, None)
            groups = {stream.group for stream in load.streams}
            self.frames.begin(groups)
            self.rates.begin(groups)
            return
        seconds, spent = load.uptime_s - last.uptime_s, load.cpu_s - last.cpu_s
        self.cpu.setdefault(load.host, Ratio(RATE_MEMORY_S)).add(spent, seconds)
        spent -= self._reading(load, last)
        counts = new_frames(load, last)
        for group, (frames, lost) in counts.items():
            if self.frames.add_frames(group, frames, lost, seconds, now):
                self.rates.counted(group, frames)
                self.revision += 1
        results, outputs = load.results - last.results, load.outputs - last.outputs
        if results > 0 and outputs >= 0 and spent >= LOADED * seconds:
            followed = sum(frames * follow_s(group) for group, (frames, _) in counts.items())
            assumed = (FRAME_S + outputs / results * OUTPUT_S) * (1.0 - BROKER_PART) + followed / results
            self.joining.add(spent / assumed, results)
            self.revision += 1

    def expire(self, now: float) -> None:
        """Forget the frame rates, and the load of the host, of pipelines that report no more: one may have moved."""
        self.frames.expire(now)
        for host in [host for host, at in self.piped_at.items() if now - at > SILENT_S]:
            del self.piped_at[host]
            self.cpu.pop(host, None)

    def _reading(self, load: PipelineLoad, last: PipelineLoad) -> float:
        """Learn what frames cost to read; return what reading took in all, s."""
        before, spent = {(one.group, one.stream): one for one in last.streams}, 0.0
        for stream in load.streams:
            known = before.get((stream.group, stream.stream))
            if known is None or stream.frames <= known.frames or stream.read_cpu_s < known.read_cpu_s:
                continue  # less than before: pipelines of older versions count anew where a source is opened again
            frames, cpu_s = stream.frames - known.frames, stream.read_cpu_s - known.read_cpu_s
            self.reading.setdefault((stream.group, stream.stream), Ratio(CPU_MEMORY)).add(cpu_s, frames)
            self.revision += 1
            spent += cpu_s
        return spent

    def _agreements(self, load: PipelineLoad) -> None:
        """Keep what was measured of cadences."""
        for group in {stream.group for stream in load.streams}:
            mine = [stream for stream in load.streams if stream.group == group and stream.agreement]
            found = {stream.stream: dict(stream.agreement) for stream in mine}
            if found != self.agreements.get(group, {}):
                self.agreements[group] = found
                self.revision += 1

    def spent_s(self, group: str, device: str, planned: float, strength: float) -> float:
        """Seconds of `device` per frame of the group; `planned` counts as much as `strength` frames."""
        served = self.rates.on(group, device)
        return planned if served is None or served.busy.below <= 0 else served.busy.value(planned, strength)

    def load(self, group: str, device: str) -> float:
        """The part of the last seconds that `device` computed for `group`, 0-1."""
        served = self.rates.on(group, device)
        return 0.0 if served is None or served.load.below <= 0 else min(served.load.value(0.0, 0.0), 1.0)

    def measured_fps(self, group: str, alive: Collection[str]) -> float:
        """Frames/s the group's root does now on the devices that are `alive`; 0 when unknown.

        Only heartbeats let a rate fade: that of a lost device stays as it was.
        """
        served = self.rates.of(group).items()
        return sum(one.rate.value(0.0, 0.0) for device, one in served if device in alive and one.rate.below > 0)

    def forget_placement(self, group: str) -> None:
        """Drop what the group's devices spent per frame: it runs on others now."""
        self.rates.forget(group)

    def rested(self, beat: Heartbeat, plans: Mapping[str, Plan], *, disturbed: bool) -> bool:
        """Take the heartbeat of a device of which no node has done anything since the one before; False: some did.

        Nothing is learned from it but that time has passed, so it costs the same however many nodes there are.
        """
        last = self.seen.get(beat.device)
        if last is None or last.incarnation != beat.incarnation or last.nodes != beat.nodes:
            return False
        seconds, spent = beat.uptime_s - last.uptime_s, beat.cpu_s - last.cpu_s
        self.seen[beat.device] = Seen(beat.incarnation, beat.uptime_s, beat.cpu_s, beat.nodes, last.loads, disturbed)
        if seconds > 0:
            self.rates.rest(beat.device, last.loads, plans, seconds)
            if spent >= 0:
                self.cpu.setdefault(beat.device, Ratio(RATE_MEMORY_S)).add(spent, seconds)
        return True

    def observe(
        self,
        beat: Heartbeat,
        plans: Mapping[str, Plan],
        fps_of: FpsOf,
        cpu_of: CpuOf = lambda group, node, device: 0.0,
        *,
        crowded: bool = False,
        disturbed: bool = False,
    ) -> None:
        """Take a heartbeat. `plans` are the active plans of its device, by group.

        `crowded`: the cores of its host are full. `disturbed`: the agent also loads or measures networks.
        """
        loads = {(load.group, load.node): load for load in beat.nodes}
        last = self.seen.get(beat.device)
        self.seen[beat.device] = Seen(beat.incarnation, beat.uptime_s, beat.cpu_s, beat.nodes, loads, disturbed)
        if last is None or last.incarnation != beat.incarnation:
            return
        seconds = beat.uptime_s - last.uptime_s
        fresh = {key: delta for key, load in loads.items() if (delta := since(load, last.loads.get(key))) is not None}
        if seconds <= 0:
            return
        self.rates.observe(beat.device, fresh, plans, seconds)
        self._weights(fresh, plans, beat.device)
        spent = beat.cpu_s - last.cpu_s
        if spent >= 0:
            self.cpu.setdefault(beat.device, Ratio(RATE_MEMORY_S)).add(spent, seconds)
        if disturbed or last.disturbed:
            return
        # Slow nodes compute through several heartbeats, each time for another while.
        slow = (plan.shares.get(node, {}) for plan in plans.values() for node in plan.group.spec.slow)
        if spent >= LOADED * seconds and not any(beat.device in devices for devices in slow):
            self._messages(fresh, beat.device, cpu_of, spent)
        if not crowded:
            self._contention(fresh, beat.device, fps_of, resident=resident_nodes(beat))

    def _messages(self, fresh: dict[tuple[str, str], Delta], device: str, cpu_of: CpuOf, spent: float) -> None:
        """Learn what messages cost the agent: CPU time `spent` that its networks do not explain, up to a limit."""
        networks = sum(
            load.inferences * cpu_of(group, node, device) for (group, node), load in fresh.items() if load.inferences
        )
        messages = sum(EMPTY * load.frames + (1.0 - EMPTY) * load.batches for load in fresh.values())
        if messages > 0:
            most = MESSAGE_MOST_S * messages if networks > 0 else spent
            extra = min(max(spent - networks, 0.0), most)
            self.message.setdefault(device, Ratio(CPU_MEMORY)).add(extra, messages)
            self.revision += 1
            if networks > 0:
                self.networks.setdefault(device, Ratio(ETA_MEMORY_S)).add(spent - extra, networks)

    def _weights(self, fresh: dict[tuple[str, str], Delta], plans: Mapping[str, Plan], device: str) -> None:
        """A piece of work is one message, with crops or none."""
        counted = {group for group, plan in plans.items() if leaves_out(plan.group.spec)}
        for (group, node), delta in fresh.items():
            plan = plans.get(group)
            if delta.frames > 0 and plan is not None and device in plan.shares.get(node, {}):
                self.runs.setdefault((group, node), Ratio(WEIGHT_MEMORY_FRAMES)).add(delta.inferences, delta.frames)
                if group in counted:
                    root, deployed_at = plan.group.spec.root, plan.group.deployed_at
                    self.frames.add_pieces(group, deployed_at, root, node, delta.frames)
                self.revision += 1

    def _contention(self, fresh: dict[tuple[str, str], Delta], device: str, fps_of: FpsOf, *, resident: int) -> None:
        alone = busy = count = 0.0
        for (group, node), delta in fresh.items():
            inferences = delta.inferences - delta.alone
            if inferences > 0 and (fps := fps_of(group, node, device)) > 0:
                alone += inferences / fps
                busy += delta.busy_s - delta.alone_s
                count += inferences
        if busy > 0 and ETA_RANGE[0] <= alone / busy <= ETA_RANGE[1]:
            extra = min(max(busy - alone, 0.0), OVERHEAD_S * count)
            self.revision += 1
            self.extra.setdefault(device, Ratio(OVERHEAD_MEMORY)).add(extra, count)
            busy -= extra
            self.eta.setdefault((device, resident), Ratio(ETA_MEMORY_S)).add(alone, busy)
            self.device_eta.setdefault(device, Ratio(ETA_MEMORY_S)).add(alone, busy)


def shared(nodes: int) -> float:
    """By which factor the networks of so many nodes on one CPU are taken to slow each other down."""
    return 1.0 + min(SHARED * (nodes - 1), SHARED_MOST)
