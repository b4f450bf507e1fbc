"""What the scheduler knows, and questions that concern several parts of it. Pure; changed by :mod:`core` only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hams_scheduler.expected_work import Work, follow_s, leaves_out
from hams_scheduler.history_told import Told
from hams_scheduler.kept_plans import KeptPlans, Numbers
from hams_scheduler.known_work import known_work
from hams_scheduler.leader.lease import Lease
from hams_scheduler.learning import CROWDED, READ_S, Learned
from hams_scheduler.network import Network
from hams_scheduler.plan_index import Plans
from hams_scheduler.planning import NOTHING, Prediction, predict
from hams_scheduler.served_speed import ServedSpeed, served_speed
from hams_scheduler.state_parts import Devices, Groups, Profiles, Replanning, check
from hams_scheduler.variant_choice import PlanningSnapshot, comparable, node_name, source_of
from hams_scheduler.videos import Videos
from hams_shared.wire.messages.agents import ProfileRecord
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.pipeline import PipelineLoad
from hams_shared.wire.messages.plan import Plan, PlanRecord
from hams_shared.wire.messages.scheduler import PlanRequest
from hams_shared.wire.subjects import LOST_AFTER_S, token


@dataclass
class SchedulerState:
    """All the scheduler knows. It can be rebuilt from KV and heartbeats at any time."""

    started: float
    lease: Lease = field(default_factory=lambda: Lease(""))
    """Whether this scheduler leads. A follower takes the same events and returns no commands."""
    devices: Devices = field(default_factory=Devices)
    groups: Groups = field(default_factory=Groups)
    profiles: Profiles = field(default_factory=Profiles)
    plans: Plans = field(default_factory=Plans)
    replanning: Replanning = field(default_factory=Replanning)
    kept: KeptPlans = field(default_factory=KeptPlans)
    learned: Learned = field(default_factory=Learned)
    videos: Videos = field(default_factory=Videos)
    told: Told = field(default_factory=Told)
    """What the history tells of so far."""
    questions: dict[str, PlanRequest] = field(default_factory=dict)
    """By request: what the strategies would do; answered when all is measured."""
    _serving: dict[tuple[str, str, str], ProfileRecord | None] = field(default_factory=dict)
    """By (group, node, device): the measurement of the network that serves there, as of `_serving_at`."""
    _serving_at: tuple[int, ...] = ()
    _predicted: tuple[tuple[object, ...], Prediction] | None = None
    """The newest prediction, and what it was made from."""

    @property
    def leading(self) -> bool:
        """Whether this scheduler decides."""
        return self.lease.led > 0

    def request_replan(self, reason: str, *, mandatory: bool = False) -> None:
        """Request a new solution for `reason`; one that is `forced` is taken whatever the move costs."""
        self.replanning.request(reason, mandatory=mandatory)

    def settled(self, now: float) -> bool:
        """Whether every living agent has had time to send a heartbeat since this scheduler started."""
        return now - self.started >= LOST_AFTER_S

    def drafts(self) -> list[GroupRecord]:
        """The groups that questions are about; they are not deployed."""
        return [group for request in self.questions.values() for group in request.groups]

    def piped(self, load: PipelineLoad, now: float) -> None:
        """Take a pipeline's report."""
        records = self.groups.records
        self.learned.piped(load, now, lambda group: follow_s(records[group].spec) if group in records else 0.0)
        self.videos.pipeline_seen(load.incarnation)

    def forget_earlier_incarnations(self) -> None:
        """Drop what agents refused or could not measure before they were restarted."""
        incarnations = set(self.devices.incarnations.values())
        self.groups.forget(incarnations)
        self.profiles.forget(incarnations)

    # ── groups and their plans ────────────────────────────────────────────────────────────────────────────────

    def unplaced(self, group: str) -> bool:
        """Whether `group` has no plan, only that of an earlier deployment, or none that could be carried out."""
        plan = self.plans.serving(group)
        return plan is None or plan.group != self.groups.records.get(group) or group in self.groups.errors

    def is_newer(self, record: PlanRecord) -> bool:
        """Whether `record` has a later plan than is known of its group."""
        known = self.plans.records.get(record.group)
        return known is None or record.newest > known.newest

    def not_admitted(self, group: str, node: str, variant: str) -> bool:
        """Whether a node is served with a variant that its accuracy floor does not admit (any more)."""
        plan = self.plans.serving(group)
        if plan is None or all(v.model.digest != variant for v in plan.variants.get(node, {}).values()):
            return False
        return all(one.model.digest != variant for one in self.groups.networks(self.groups.records[group], node))

    # ── numbers ───────────────────────────────────────────────────────────────────────────────────────────────

    def work(self, record: GroupRecord, node: str) -> Work:
        """What `node` does per frame, by what is known now."""
        return known_work(self.learned, record, node)

    def measured_fps(self, group: str) -> float:
        """Frames/s that `group` does now, those included that no device looks at; 0 when unknown, or without a plan."""
        plan = self.plans.active(group)
        if plan is None:
            return 0.0
        if leaves_out(plan.group.spec):
            return self.learned.frames.fps(group, plan.group.deployed_at)
        return self.learned.measured_fps(group, self.devices.alive())

    def measured(self, network: Network, source: Network, device: str) -> ProfileRecord | None:
        """How fast `network`, the `source` of a node or a variant of it, is on `device`; None: not measured."""
        record = self.devices.records[device]
        profile = self.profiles.records.get(network.key(record))
        if profile is None or network.model.digest == source.model.digest:
            return profile
        return comparable(profile, self.profiles.records.get(source.key(record)))

    def cores(self, host: str) -> float:
        """CPU cores of `host` that HAMS may use; 0: not known."""
        return max((r.host_cores for r in self.devices.on_host(host)), default=0.0)

    def crowded(self, host: str) -> bool:
        """Whether the agents and the pipeline of `host` keep its cores busy, so that they wait for cores."""
        cores = self.cores(host)
        spent = sum(self.learned.cpu_load(record.device) for record in self.devices.on_host(host))
        return cores > 0 and spent + self.learned.cpu_load(token(host)) >= CROWDED * cores

    def _pipeline_host(self, hosts: list[str]) -> str:
        """Which of `hosts` the pipeline runs on: the one that reported last; the only one while none did."""
        known = self.learned.pipeline_host
        found = [host for host in hosts if token(host) == known]
        return found[0] if found else hosts[0] if len(hosts) == 1 and not known else ""

    def _cpus(self, devices: list[str]) -> list[str]:
        """Those of `devices` that are CPUs of which networks share the caches."""
        return [d for d in devices if self.devices.records[d].computes_on_cpu]

    def cpu_of(self, group: str, node: str, device: str) -> float:
        """CPU time of an image of the network that serves a node on `device`, s; 0 when unknown."""
        found = self._speed_of(group, node, device)
        return found[0].cpu_s if found is not None else 0.0

    def fps_of(self, group: str, node: str, device: str) -> float:
        """Images/s that the network that serves a node on `device` reaches there by itself; 0 when unknown."""
        found = self._speed_of(group, node, device)
        if found is None:
            return 0.0
        speed, images = found
        message_s = speed.message_s(self._message_s(device), images)
        return 1.0 / speed.device_s(self.devices.records[device], message_s)

    def _speed_of(self, group: str, node: str, device: str) -> tuple[ServedSpeed, float] | None:
        """How fast the network that serves a node on `device` does so, and images per piece of work; None: unknown."""
        record = self.plans.records.get(group)
        plan = (record.active or record.next) if record else None
        if plan is None or node not in plan.group.spec.nodes or device not in self.devices.records:
            return None
        profile = self._serving_profile(plan, node, device)
        if profile is None or profile.fps <= 0:
            return None
        work = self.work(plan.group, node)
        per_frame = (work.weight, self.videos.pixels(plan.group), work.pieces)
        speed = served_speed(profile, self.devices.records[device], plan.group.spec, node, *per_frame)
        return speed, work.images

    def _serving_profile(self, plan: Plan, node: str, device: str) -> ProfileRecord | None:
        """The measurement of the network that serves a node on `device`; kept, since heartbeats need it again."""
        at = (self.devices.revision, self.plans.revision, self.profiles.answers)
        if at != self._serving_at:
            self._serving.clear()
            self._serving_at = at
        key = (plan.group.spec.name, node, device)
        if key not in self._serving:
            self._serving[key] = self._find_serving_profile(plan, node, device)
        return self._serving[key]

    def _find_serving_profile(self, plan: Plan, node: str, device: str) -> ProfileRecord | None:
        network = Network(plan.model_on(node, device), plan.input_on(node, device))
        return self.measured(network, source_of(plan.group, node), device)

    # ── the input of a solver ─────────────────────────────────────────────────────────────────────────────────

    def snapshot(
        self,
        records: list[GroupRecord],
        strategy: str,
        time_limit_s: float = 1.0,
        *,
        active: bool = False,
        lost: str = "",
    ) -> PlanningSnapshot:
        """All that a solver needs, frozen: once the device `lost` is lost, if one is named.

        What serves is the newest plan of each group, or its `active` one.
        """
        alive = [device for device in self.devices.alive() if device != lost]
        hosts = self._cores_by_host(alive)
        lives = [(device, self.devices.incarnation(device)) for device in alive]
        nodes = [(record, node) for record in records for node in record.spec.depth_first()]
        current, loaded = self._current(nodes, self.plans.active if active else self.plans.serving)
        return PlanningSnapshot(
            groups=tuple(records),
            devices=tuple(self.devices.records[d] for d in alive),
            profiles=self._profiles(nodes, alive),
            unanswered=self._unanswered(lives),
            refused=self._refused(lives),
            strategy=strategy,
            time_limit_s=time_limit_s,
            works={node_name(record, node): self.work(record, node) for record, node in nodes},
            kappa=self.learned.kappas(alive, self.learned.levels(len(nodes)), self._cpus(alive)),
            overhead={device: self.learned.overhead_s(device) for device in alive},
            cores={host: cores for host, cores in hosts.items() if cores > 0},
            messages={device: self._message_s(device) for device in alive},
            cpu_factor=self._cpu_factors(alive, [len(record.spec.nodes) for record in records]),
            frames={r.spec.name: self._frame_s(r) for r in records},
            pixels={r.spec.name: self.videos.pixels(r) for r in records},
            pipeline_host=self._pipeline_host(list(hosts)),
            current=current,
            variants={source: dict(known) for source, known in self.groups.variants.items()},
            loaded=loaded,
            banned=self._banned(lives),
        )

    def _cores_by_host(self, devices: list[str]) -> dict[str, float]:
        """By host of these devices, in their order: :meth:`cores`."""
        found: dict[str, float] = {}
        for record in (self.devices.records[device] for device in devices):
            found[record.host] = max(found.get(record.host, 0.0), record.host_cores)
        return found

    def _unanswered(self, lives: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """By (device, cell key): why a benchmark gave no number; `lives` are the devices and their incarnations."""
        found = self.profiles.unanswered.known.items()
        return {(device, cell.key): one.why for device, life in lives for (of, cell), one in found if of == life}

    def _cpu_factors(self, devices: list[str], nodes: list[int]) -> dict[tuple[str, int], float]:
        """By (device, nodes of a group): the factor on its networks' CPU time; `nodes` of each group.

        Where all devices are CPUs, all groups share them.
        """
        together = sum(nodes) if len(self._cpus(devices)) == len(devices) else 0
        return {(device, n): self.learned.cpu_factor(device, max(n, together)) for device in devices for n in {*nodes}}

    def _message_s(self, device: str) -> float:
        """CPU time of a node's message on `device`, s."""
        return self.learned.message_s(device, cpu=bool(self._cpus([device])))

    def _refused(self, lives: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """By (group, device): why the agent refuses it; `lives` are the devices and their incarnations."""
        found = self.groups.refused.items()
        return {
            (group, device): f"{error.text} ({error.hint})" if error.hint else error.text
            for device, life in lives
            for (group, of), error in found
            if of == life
        }

    def _banned(self, lives: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """By (device, digest): why it does not run a network; `lives` are the devices and their incarnations."""
        found = {(d, digest): why for d, _ in lives for digest, why in self.devices.faulty(d).items()}
        for (of, digest), why in self.groups.banned.items():
            found.update({(d, digest): why for d, life in lives if of == life})
        return found

    def _frame_s(self, record: GroupRecord) -> float:
        """CPU time of a frame on the host of its pipeline, s."""
        reading = {name: self.videos.cost(stream, READ_S) for name, stream in record.spec.streams.items()}
        outputs = sum(self.work(record, node).pieces for node in record.spec.nodes)
        return self.learned.frame_s(record.spec.name, reading, outputs, follow_s(record.spec))

    def prediction(self) -> Prediction:
        """What all groups that serve reach together, by what is known now; kept while that is the same."""
        at = self.known()
        if self._predicted is None or self._predicted[0] != at:
            self._predicted = at, self._predict()
        return self._predicted[1]

    def known(self) -> tuple[object, ...]:
        """What a prediction, and the plans that are kept ready, depend on."""
        parts = (self.devices, self.groups, self.plans, self.learned, self.videos)
        profiles = (self.profiles.answers, self.profiles.forgotten)
        refused = (frozenset(self.groups.banned), frozenset(self.groups.refused))
        return (*(part.revision for part in parts), *profiles, *refused)

    def _predict(self) -> Prediction:
        plans = [plan for name in sorted(self.plans.records) if (plan := self.plans.active(name)) is not None]
        return predict(self.snapshot([plan.group for plan in plans], "", active=True)) if plans else NOTHING

    def _current(
        self, nodes: list[tuple[GroupRecord, str]], plan_of: Callable[[str], Plan | None]
    ) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, str]]]:
        """By ``group/node``: the shares that serve now, and the digests of the variants that do."""
        current: dict[str, dict[str, float]] = {}
        loaded: dict[str, dict[str, str]] = {}
        for record, node in nodes:
            plan = plan_of(record.spec.name)
            if plan is not None and node in plan.shares:
                name = node_name(record, node)
                current[name] = plan.shares[node]
                loaded[name] = {device: v.model.digest for device, v in plan.variants.get(node, {}).items()}
        return current, loaded

    def _profiles(self, nodes: list[tuple[GroupRecord, str]], devices: list[str]) -> dict[str, ProfileRecord]:
        """All measurements; those of variants as they compare with their sources."""
        profiles = dict(self.profiles.records)
        for record, node in nodes:
            source, *variants = self.groups.networks(record, node)
            measured = (self.measured(one, source, device) for one in variants for device in devices)
            profiles |= {profile.key: profile for profile in measured if profile is not None}
        return profiles

    # ── what a kept plan depends on ───────────────────────────────────────────────────────────────────────────

    def placing_inputs(self) -> tuple[object, ...]:
        """What a solution depends on beside the devices and :meth:`learned_numbers`."""
        serving = tuple(self.plans.serving(group) for group in sorted(self.plans.records))
        refused = (frozenset(self.groups.refused), frozenset(self.groups.banned))
        profiles = (self.profiles.answers, self.profiles.forgotten)
        return (serving, *refused, *profiles, self.groups.revision, self.videos.revision, self.learned.pipeline_host)

    def learned_numbers(self, records: list[GroupRecord], devices: list[str]) -> Numbers:
        """All numbers of a snapshot of these groups and devices that are learned while serving."""
        learned = self.learned
        found: dict[tuple[str, ...], float] = {}
        cpus = set(self._cpus(devices))
        for record in records:
            group = record.spec.name
            found["frame", group] = self._frame_s(record)
            for node in record.spec.nodes:
                found["weight", group, node] = self.work(record, node).weight
        for device in devices:
            found["overhead", device] = learned.overhead_s(device)
            found["message", device] = self._message_s(device)
            found["cpu factor", device] = learned.cpu_factor(device, 1)
            found["kappa", device] = learned.kappa(device, 0)
            if device not in learned.device_eta and device in cpus:
                found["kappa by number of nodes", device] = 1.0
        alive = set(devices)
        own = [one for one in sorted(learned.eta) if one[0] in alive]
        return Numbers.of(
            found | {("kappa", device, str(nodes)): learned.kappa(device, nodes) for device, nodes in own}
        )

    # ── for tests ─────────────────────────────────────────────────────────────────────────────────────────────

    def validate(self) -> None:
        """Raise StateError unless all this fits together; for tests."""
        for part in (self.devices, self.groups, self.profiles, self.plans, self.replanning, self.kept, self.lease):
            part.validate()
        known = self.plans.adopting & self.groups.records.keys()
        check(not known, f"groups that are deployed are being written back: {known}")
        for group, record in self.plans.records.items():
            waits = self.replanning.mandatory or self.replanning.solving is not None or group in self.groups.errors
            if record.next is not None and self.leading and not waits:
                self._check_not_refused(group, record.next.devices)
        self._check_benchmarks()
        self._check_serving()
        if self._predicted is not None and self._predicted[0] == self.known():
            check(self._predicted[1] == self._predict(), "the prediction is out of date")

    def _check_serving(self) -> None:
        if self._serving_at != (self.devices.revision, self.plans.revision, self.profiles.answers):
            return
        for (group, node, device), known in self._serving.items():
            record = self.plans.records[group]
            plan = record.active or record.next
            fresh = self._find_serving_profile(plan, node, device) if plan is not None else None
            check(known == fresh, f"the measurement of {group}/{node} on {device} is out of date")

    def _check_not_refused(self, group: str, devices: frozenset[str]) -> None:
        """A next plan that a living device refused is kept only while another is wanted, or when there is none."""
        for device in devices & self.devices.live.peers.keys():
            refused = (group, self.devices.incarnation(device)) in self.groups.refused
            check(not refused, f"{device} refused group {group} and is in its next plan")

    def _check_benchmarks(self) -> None:
        strange = self.profiles.running.keys() - set(self.devices.alive())
        check(not strange, f"devices that are not alive are benchmarked: {strange}")
        for device, (cell, incarnation) in self.profiles.running.items():
            alive = incarnation == self.devices.incarnation(device)
            check(alive, f"a benchmark of an earlier incarnation of {device} is waited for")
            record = self.devices.records[device]
            if record.incarnation == incarnation:
                check(record.fingerprint in cell.key.split("."), f"{device} measures a cell of another device")
