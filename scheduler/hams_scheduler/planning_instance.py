"""From a snapshot of groups, devices and profiles to the instance that the strategies solve. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hams_scheduler.expected_work import most_s
from hams_scheduler.network_choices import rows_of
from hams_scheduler.served_speed import DeviceTable
from hams_scheduler.solver.instance import FloatArray, Instance
from hams_scheduler.variant_choice import (
    NetworkChoices,
    PlanningSnapshot,
    choose_networks,
    node_name,
    source_of,
)
from hams_shared.errors import InfeasibleError
from hams_shared.group.spec import VGA
from hams_shared.wire.messages.agents import DeviceRecord
from hams_shared.wire.messages.group import GroupRecord


def build_instance(snapshot: PlanningSnapshot, chosen: NetworkChoices | None = None) -> Instance:
    """Arrange `snapshot` as an instance; rows are the nodes of all groups, ``group/node``.

    A pair's FPS and memory are those of the network `chosen` for it (default: :func:`choose_networks`). What plans of
    other groups keep of a device's memory is not there for these.

    Raises:
        InfeasibleError: some node runs on no device, with the reason for each device.
    """
    rows = [(group, node) for group in snapshot.groups for node in group.spec.depth_first()]
    models = tuple(node_name(group, node) for group, node in rows)
    weights = np.array([snapshot.all_works[name].weight for name in models])
    fps, memory, cpu_ms = _tables(snapshot, choose_networks(snapshot) if chosen is None else chosen, rows, weights)
    for i, (group, node) in enumerate(rows):
        pin = group.spec.nodes[node].pin
        usable = [not pin or device.device in pin for device in snapshot.devices]
        if not fps[i, usable].any():
            raise InfeasibleError(f"node {models[i]} runs on no device: {_why_nowhere(snapshot, group, node)}")
    return Instance(
        models=models,
        devices=tuple(d.device for d in snapshot.devices),
        fps=fps,
        weights=weights,
        memory_mib=memory,
        capacity_mib=np.array([snapshot.room_mib(d) for d in snapshot.devices]),
        pins={node_name(g, n): frozenset(g.spec.nodes[n].pin) for g, n in rows if g.spec.nodes[n].pin},
        groups={node_name(g, n): g.spec.name for g, n in rows},
        targets={g.spec.name: g.spec.target_fps for g in snapshot.groups if g.spec.target_fps is not None},
        priorities={g.spec.name: g.spec.priority for g in snapshot.groups},
        hosts={d.device: d.host for d in snapshot.devices},
        cpu_devices=frozenset(d.device for d in snapshot.devices if d.kind == "cpu"),
        kappa=_kappa(snapshot, len(rows)),
        cores=snapshot.cores,
        cpu_ms=cpu_ms if snapshot.cores else None,
        frame_cpu_ms={
            g.spec.name: {snapshot.pipeline_host: 1e3 * snapshot.frames.get(g.spec.name, 0.0)} for g in snapshot.groups
        }
        if snapshot.cores
        else {},
    )


def _tables(
    snapshot: PlanningSnapshot, chosen: NetworkChoices, rows: Sequence[tuple[GroupRecord, str]], weights: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return M×D frames/s with the learned overhead (0: does not run), MiB, and ms of CPU time per inference."""
    fps, memory, cpu_ms = (np.zeros((len(rows), len(snapshot.devices))) for _ in range(3))
    names = [device.device for device in snapshot.devices]
    table = DeviceTable(snapshot.devices, [snapshot.messages.get(name, 0.0) for name in names])
    overhead = np.array([snapshot.overhead.get(name, 0.0) for name in names])
    factors = {
        size: np.array([snapshot.cpu_factor.get((name, size), 1.0) for name in names])
        for size in {len(group.spec.nodes) for group in snapshot.groups}
    }
    row_of = rows_of(chosen, names)
    for i, ((group, node), weight) in enumerate(zip(rows, weights.tolist(), strict=True)):
        pixels = snapshot.pixels.get(group.spec.name, VGA)
        at, profiles, mib = row_of(node_name(group, node))
        per_frame = (weight, pixels, snapshot.all_works[node_name(group, node)].pieces)
        device_s, network_s, message_s = table.served(at, profiles, group.spec, node, *per_frame)
        spent_s = device_s + overhead[at]
        part = np.minimum(1.0, most_s(group.spec, node) / (weight * spent_s))  # of what it could do, a slow node does
        fps[i, at] = 1.0 / (part * spent_s)
        memory[i, at] = mib
        cpu_ms[i, at] = 1e3 * part * (network_s * factors[len(group.spec.nodes)][at] + message_s)
    return fps, memory, cpu_ms


def _kappa(snapshot: PlanningSnapshot, rows: int) -> FloatArray | None:
    """The learned interference as D×K; K: from there on it is the same. None when nothing was learned."""
    if not snapshot.kappa:
        return None
    most = min(rows, max(nodes for _, nodes in snapshot.kappa))
    return np.array([[snapshot.kappa.get((d.device, k), 1.0) for k in range(1, most + 1)] for d in snapshot.devices])


def _why_nowhere(snapshot: PlanningSnapshot, group: GroupRecord, node: str) -> str:
    """The reason of each device that it may run on; devices with the same reason are listed together."""
    pin = group.spec.nodes[node].pin
    reasons: dict[str, list[str]] = {}
    for device in snapshot.devices:
        if not pin or device.device in pin:
            reasons.setdefault(_why_not(snapshot, group, node, device), []).append(device.device)
    none = f"it is pinned to {', '.join(pin)}, and there is no such device" if pin else "there is none"
    return "; ".join(f"{', '.join(devices)}: {why}" for why, devices in reasons.items()) or none


def _why_not(snapshot: PlanningSnapshot, group: GroupRecord, node: str, device: DeviceRecord) -> str:
    """Why the source of `node` does not run on `device`."""
    refusal = snapshot.refused.get((group.spec.name, device.device))
    if refusal:
        return f"refused: {refusal}"
    banned = snapshot.banned.get((device.device, group.models[node].digest))
    if banned:
        return f"out: {banned}"
    key = source_of(group, node).key(device)
    profile = snapshot.profiles.get(key)
    why = profile.reason if profile is not None else snapshot.unanswered.get((device.device, key))
    return why or "not measured yet"
