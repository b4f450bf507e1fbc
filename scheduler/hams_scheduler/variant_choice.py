"""Which network serves each node on each device: the source or one of its variants. Pure.

This is the matrix's third dimension. The fastest network serves, among those that the node's accuracy floor admits,
that the device runs, and that fit into the device's memory. A :class:`PlanningSnapshot` holds all that this depends on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from hams_scheduler.expected_work import Work, expected_work
from hams_scheduler.network import Network, device_key
from hams_scheduler.network_choices import Choices, Measured, NetworkChoice, Row
from hams_scheduler.solver.placement import Placement
from hams_shared.bus.variant_registry import excluded
from hams_shared.wire.messages.agents import DeviceRecord, ProfileRecord
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.plan import VariantChoice
from hams_shared.wire.variants import VariantRecord, task_key

Variants = Mapping[str, Mapping[str, VariantRecord]]
"""By digest of the source, then by digest of the variant."""

NetworkChoices = Mapping[tuple[str, str], NetworkChoice]
"""By (``group/node``, device); a pair that cannot work is not there."""


@dataclass(frozen=True)
class PlanningSnapshot:
    """A frozen copy of all that a solution depends on."""

    groups: tuple[GroupRecord, ...]
    devices: tuple[DeviceRecord, ...]
    profiles: Mapping[str, ProfileRecord]
    unanswered: Mapping[tuple[str, str], str]
    """By (device, cell key): why a benchmark gave no number."""
    refused: Mapping[tuple[str, str], str]
    """By (group, device): why the agent does not serve it."""
    strategy: str
    time_limit_s: float = 1.0
    hasty: bool = False
    """Whether groups stand still until there is a plan: on large sites one that is good enough will do."""
    works: Mapping[str, Work] = field(default_factory=dict)
    """By ``group/node``: what it does per frame, as learned; what is expected where there is none."""
    kappa: Mapping[tuple[str, int], float] = field(default_factory=dict)
    """By (device, resident nodes): learned interference; 1 where there is none."""
    overhead: Mapping[str, float] = field(default_factory=dict)
    """By device: learned cost of an inference beside computing, s."""
    cores: Mapping[str, float] = field(default_factory=dict)
    """By host: CPU cores that HAMS may use, where they are known."""
    messages: Mapping[str, float] = field(default_factory=dict)
    """By device: learned CPU time of a node's message beside its network, s."""
    cpu_factor: Mapping[tuple[str, int], float] = field(default_factory=dict)
    """By (device, nodes of a group): by which factor networks take more CPU time than alone, as learned."""
    frames: Mapping[str, float] = field(default_factory=dict)
    """By group: learned CPU time of a frame on the pipeline's host, s."""
    pixels: Mapping[str, float] = field(default_factory=dict)
    """By group: pixels of a frame, where they are known."""
    pipeline_host: str = ""
    current: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By ``group/node``: the shares that serve now."""
    variants: Variants = field(default_factory=dict)
    loaded: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By ``group/node``, then device: digest of the variant that serves there now; absent: the source serves."""
    banned: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """By (device, digest): why the device does not run a network that it has measured."""
    staying: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By group, then device: memory that its plans keep, MiB, where they stay in force if `groups` has it not."""

    def room_mib(self, device: DeviceRecord) -> float:
        """Memory of `device` that networks of `groups` may use, MiB; infinite where it is not known."""
        return max(0.0, capacity_mib(device) - self._held_mib.get(device.device, 0.0))

    @cached_property
    def _held_mib(self) -> dict[str, float]:
        """By device: memory that plans of groups that are not placed keep, MiB."""
        placed, found = {group.spec.name for group in self.groups}, dict[str, float]()
        for held in (held for group, held in self.staying.items() if group not in placed):
            for device, mib in held.items():
                found[device] = found.get(device, 0.0) + mib
        return found

    def cpu_s(self, network_s: float, device: DeviceRecord, group: GroupRecord, message_s: float) -> float:
        """CPU time that an image takes from the device's host, s: `network_s` alone, as learned beside others, and
        `message_s` for the node's message."""
        return network_s * self.cpu_factor.get((device.device, len(group.spec.nodes)), 1.0) + message_s

    def image_cpu_s(self, profile: ProfileRecord, device: DeviceRecord, group: GroupRecord) -> float:
        """CPU time of a single image and its message, s."""
        return self.cpu_s(cpu_s(profile, device), device, group, self.messages.get(device.device, 0.0))

    @cached_property
    def all_works(self) -> dict[str, Work]:
        """By ``group/node``: what it does per frame."""
        found: dict[str, Work] = {}
        for group in self.groups:
            for node in group.spec.depth_first():
                known = self.works.get(name := node_name(group, node))
                found[name] = expected_work(group.spec, node) if known is None else known
        return found

    def measured(self, network: Network) -> Measured:
        """The measurements of `network`, by device."""
        begin, known = network.key_begin, self.profiles
        return [known.get(f"{begin}.{end}") for end in self._key_ends]

    @cached_property
    def _key_ends(self) -> tuple[str, ...]:
        return tuple(device_key(device) for device in self.devices)


def node_name(group: GroupRecord, node: str) -> str:
    """A node's name among all groups."""
    return f"{group.spec.name}/{node}"


def source_of(group: GroupRecord, node: str) -> Network:
    """The network that the group file names for `node`."""
    return Network(group.models[node], group.spec.nodes[node].input)


def networks_for(group: GroupRecord, node: str, variants: Variants) -> tuple[Network, ...]:
    """The source, then the variants that the node's accuracy floor admits, those with the best agreement first."""
    spec, source = group.spec.nodes[node], source_of(group, node)
    admitted = [
        Network(
            model=record.model.model_copy(update={"further": source.model.further}),
            input=record.made.input or spec.input,
            label=record.short_label,
            agreement=record.agreements[task_key(spec)].value,
            own_input=record.made.input is not None,
        )
        for record in variants.get(source.model.digest, {}).values()
        if not excluded(record, spec)
    ]
    admitted.sort(key=lambda network: (-network.agreement, network.model.digest))
    return (source, *admitted)


def comparable(profile: ProfileRecord, source: ProfileRecord | None) -> ProfileRecord:
    """Scale the measurement of a variant to the moment when its source was measured.

    A processor's speed changes within minutes, so a variant may look slower only because it was measured later. Where
    both were measured in turns, their ratio counts.
    """
    if source is None or source.digest != profile.baseline or source.fps <= 0 or profile.baseline_fps <= 0:
        return profile
    faster = source.fps / profile.baseline_fps
    return profile.model_copy(
        update={
            "fps": profile.fps * faster,
            "fps_batch": profile.fps_batch * faster,
            "cpu_ms": profile.cpu_ms / faster,
            "p50_ms": profile.p50_ms / faster,
            "p99_ms": profile.p99_ms / faster,
            "baseline_fps": source.fps,
        }
    )


def choose_networks(snapshot: PlanningSnapshot, *, smallest: bool = False) -> Choices:
    """Choose for each pair of node and device on its own: the fastest network, or the one with least memory."""
    names = tuple(device.device for device in snapshot.devices)
    capacity = [snapshot.room_mib(device) for device in snapshot.devices]
    rows: dict[str, Row] = {}
    for group in snapshot.groups:
        refusing = [j for j, name in enumerate(names) if (group.spec.name, name) in snapshot.refused]
        for node in group.spec.depth_first():
            networks = networks_for(group, node, snapshot.variants)
            measured = tuple(snapshot.measured(network) for network in networks)
            memory = tuple(map(_most_mib, measured))
            if len(networks) == 1:
                chosen = [0 if p is not None and p.fps > 0 and p.reason is None else -1 for p in measured[0]]
                for j in _banned(snapshot, names, networks[0]):
                    chosen[j] = -1
            else:
                running = _running(snapshot, names, networks, measured)
                chosen = [
                    _choose(on, memory, mib, smallest=smallest) for on, mib in zip(running, capacity, strict=True)
                ]
            for j in refusing:
                chosen[j] = -1
            rows[node_name(group, node)] = Row(networks, measured, memory, chosen)
    return Choices(names, rows)


def _banned(snapshot: PlanningSnapshot, devices: tuple[str, ...], network: Network) -> list[int]:
    """The numbers of the devices that may not run `network`."""
    if not snapshot.banned:
        return []
    return [j for j, device in enumerate(devices) if (device, network.model.digest) in snapshot.banned]


def _running(
    snapshot: PlanningSnapshot, devices: tuple[str, ...], networks: tuple[Network, ...], measured: tuple[Measured, ...]
) -> list[list[tuple[int, float]]]:
    """By device: the numbers of the networks that run there, the source first, and their FPS."""
    return [
        [
            (number, profile.fps)
            for number, network in enumerate(networks)
            if (profile := measured[number][j]) is not None
            and profile.reason is None
            and profile.fps > 0
            and (device, network.model.digest) not in snapshot.banned
        ]
        for j, device in enumerate(devices)
    ]


def _most_mib(measured: Measured) -> float:
    """The most memory that any device measured, MiB: a network may hide in the memory of one loaded before it."""
    return max((one.memory_mib for one in measured if one is not None and one.reason is None), default=0.0)


def _choose(running: list[tuple[int, float]], memory: tuple[float, ...], capacity_mib: float, *, smallest: bool) -> int:
    """The number of the fastest (or `smallest`) network that runs and fits, of equals the first; -1: none runs.

    Where none fits, the fastest: the solver then reports that it does not fit.
    """
    if not running:
        return -1
    fitting = [one for one in running if memory[one[0]] <= capacity_mib] or running
    return max(fitting, key=lambda one: -memory[one[0]] if smallest else one[1])[0]


def cpu_s(profile: ProfileRecord, device: DeviceRecord) -> float:
    """CPU time of an image on the device's host, s; where it was not measured, 0, or that of a CPU device's threads."""
    if profile.cpu_ms > 0 or profile.fps <= 0:
        return profile.cpu_ms / 1e3
    return profile.lanes / profile.fps if device.computes_on_cpu else 0.0


def capacity_mib(device: DeviceRecord) -> float:
    """Memory that models may use, MiB; infinite where it is not known."""
    return float(device.memory_mib) if device.memory_mib > 0 else np.inf


# ── what changes when the choice changes ──────────────────────────────────────────────────────────────────────────


def serving(snapshot: PlanningSnapshot) -> dict[tuple[str, str], NetworkChoice]:
    """By (``group/node``, device): the network that serves there now; absent if it may no longer.

    Its memory does not count: it has it already.
    """
    found: dict[tuple[str, str], NetworkChoice] = {}
    for group in snapshot.groups:
        for node in group.spec.depth_first():
            name = node_name(group, node)
            networks = {n.model.digest: n for n in networks_for(group, node, snapshot.variants)}
            places = snapshot.current.get(name, {})
            for device in (device for device in snapshot.devices if device.device in places):
                digest = snapshot.loaded.get(name, {}).get(device.device, group.models[node].digest)
                network = networks.get(digest)
                profile = snapshot.profiles.get(network.key(device)) if network else None
                usable = profile is not None and profile.reason is None and profile.fps > 0
                if network and profile and usable and (device.device, digest) not in snapshot.banned:
                    source = snapshot.profiles.get(source_of(group, node).key(device))
                    found[name, device.device] = NetworkChoice(network, profile, source)
    return found


def devices_to_load(
    snapshot: PlanningSnapshot, chosen: NetworkChoices, placement: Placement, node: str
) -> tuple[str, ...]:
    """Devices that must load a network for `node`: they serve it with another network now, or not at all."""
    before, loaded = snapshot.current[node], snapshot.loaded.get(node, {})
    return tuple(
        device
        for device in placement.shares[node]
        if device not in before or loaded.get(device, "") != _variant_digest(chosen[node, device])
    )


def _variant_digest(choice: NetworkChoice) -> str:
    return choice.network.model.digest if choice.network.label else ""


def variants_of(placement: Placement, chosen: NetworkChoices) -> dict[str, dict[str, VariantChoice]]:
    """By node, then device: the variants that serve; nodes that run their sources are absent."""
    found: dict[str, dict[str, VariantChoice]] = {}
    for node, places in placement.shares.items():
        for device in places:
            variant = chosen[node, device].variant
            if variant is not None:
                found.setdefault(node, {})[device] = variant
    return found


def explained(placement: Placement, chosen: NetworkChoices, works: Mapping[str, Work]) -> dict[str, str]:
    """Why each node is on its device, what its variants gain, and what leaving work out saves."""
    reasons = {}
    for node, text in placement.explanation.items():
        gains = {d: chosen[node, d].gain for d in placement.shares[node]}
        parts = [f"{d} {gain}" if len(gains) > 1 else gain for d, gain in gains.items() if gain]
        reasons[node] = "; ".join([text, *parts, *([saved] if (saved := works[node].saved) else [])])
    return reasons
