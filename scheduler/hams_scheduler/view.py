"""What users see of the scheduler: devices, groups and the matrix. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import hams_shared
from hams_scheduler import profiling, replanning
from hams_scheduler.expected_fps import Costs, expected
from hams_scheduler.expected_work import leaves_out
from hams_scheduler.network import Network
from hams_scheduler.planning import NOTHING, Prediction
from hams_scheduler.state import SchedulerState
from hams_scheduler.variant_choice import PlanningSnapshot, node_name, source_of
from hams_shared.bus.variant_registry import excluded
from hams_shared.wire.messages.agents import ProfileRecord
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.group import GroupRecord, ModelRef
from hams_shared.wire.messages.plan import Plan
from hams_shared.wire.messages.scheduler import (
    DeviceView,
    GroupView,
    LeaderRecord,
    MatrixView,
    SchedulerView,
    VariantRow,
    ViewRequest,
)
from hams_shared.wire.protocol import SPOKEN, misfit
from hams_shared.wire.variants import task_key

ALL = ViewRequest()
NO_MATRIX = MatrixView(models=(), devices=(), fps=())


def scheduler_view(
    state: SchedulerState,
    now: float,
    leader: LeaderRecord | None = None,
    led_s: float = 0.0,
    *,
    wanted: ViewRequest = ALL,
    unread: Mapping[str, WireError] = MappingProxyType({}),
) -> SchedulerView:
    """All that is wanted, for `hams-ctl status`, `devices`, `matrix` and `deploy`.

    `unread`: by group, why its newest record cannot be read.
    """
    groups, drafts, one = state.groups.sorted(), state.drafts(), wanted.group
    shown = [name for name in sorted(state.groups.records) if one in ("", name)]
    predicted = state.prediction() if not one or state.plans.active(one) is not None else NOTHING
    costs = Costs()
    ready, losses = replanning.losses(state)
    missing = profiling.missing(state, groups + drafts) + profiling.missing(state, drafts, idle=True)
    return SchedulerView(
        devices=() if one else tuple(_device(state, name, now) for name in sorted(state.devices.records)),
        groups=tuple(_group(state, name, predicted, costs) for name in shown),
        unread={name: error for name, error in sorted(unread.items()) if one in ("", name)},
        version=hams_shared.__version__,
        protocol=SPOKEN,
        matrix=_doubted(state, matrix_view(state.snapshot(groups, ""))) if wanted.matrix and not one else NO_MATRIX,
        epoch=state.plans.epoch,
        losses=losses,
        losses_ready=ready,
        leader=leader,
        led_s=led_s,
        profiling={device: cell.model for device, (cell, _) in sorted(state.profiles.running.items())},
        waiting_profiles=len(missing) + len(state.profiles.requested),
    )


def _doubted(state: SchedulerState, matrix: MatrixView) -> MatrixView:
    found = {
        f"{model} @ {device}": why
        for model, cells in matrix.cells.items()
        for device, profile in cells.items()
        if (why := profiling.doubt(state, device, profile))
    }
    return matrix.model_copy(update={"doubts": found})


def _device(state: SchedulerState, device: str, now: float) -> DeviceView:
    peer, record = state.devices.live.peers.get(device), state.devices.records[device]
    strange = misfit(f"agent {device}", record.version, record.protocol)
    return DeviceView(
        record=record,
        state=_state(state, device, strange),
        misfit=strange,
        health=state.devices.health.get(device),
        heartbeat=peer.heartbeat if peer else None,
        silent_s=round(max(0.0, now - peer.seen), 3) if peer else 0.0,
    )


def _state(
    state: SchedulerState, device: str, strange: str
) -> Literal["alive", "lost", "quarantined", "gone", "incompatible"]:
    if state.devices.quarantined(device):
        return "quarantined"
    if state.devices.gone(device):
        return "gone"
    if device not in state.devices.live.peers:
        return "lost"
    return "incompatible" if strange else "alive"


def _group(state: SchedulerState, name: str, predicted: Prediction, costs: Costs) -> GroupView:
    record = state.groups.records[name]
    plans = state.plans.records.get(name)
    active, following = (plans.active, plans.next) if plans else (None, None)
    now = expected(state, name, predicted, costs)
    view = GroupView(
        name=name,
        deployed_at=record.deployed_at,
        state="planning",
        active=_shown(active),
        next=_shown(following),
        error=state.groups.errors.get(name),
        target_fps=record.spec.target_fps,
        measured_fps=round(state.measured_fps(name), 3),
        predicted_fps=round(predicted.fps.get(name, 0.0), 3),
        bottleneck=predicted.limits.get(name, ""),
        expected_fps=round(now.fps, 3) if now is not None else 0.0,
        expected_why=now.why if now is not None else "",
        weights={n: round(state.work(record, n).weight, 3) for n in record.spec.depth_first()},
        confidence={n: round(state.learned.confidence(name, n), 3) for n in record.spec.depth_first()},
    )
    return view.model_copy(update=_condition(state, record, active, following, predicted))


def _condition(
    state: SchedulerState, record: GroupRecord, active: Plan | None, following: Plan | None, predicted: Prediction
) -> dict[str, object]:
    """How the group is, as fields of its view."""
    name, error = record.spec.name, state.groups.errors.get(record.spec.name)
    failed: dict[str, object] = {"state": "failed", "text": error.text} if error is not None else {}
    if failed and active is None:
        return failed
    if not state.devices.alive():
        quarantined = ", ".join(d for d in sorted(state.devices.records) if state.devices.quarantined(d))
        text = f"no device is alive{f' but those quarantined: {quarantined}' if quarantined else ''}"
        text += "".join(
            f"; {d} is gone: {why}" for d in sorted(state.devices.records) if (why := state.devices.gone(d))
        )
        return {"state": "waiting", "text": text}
    missing = profiling.missing(state, [record])
    if missing and (active is None or profiling.waits_for_benchmark(state, record)):
        total = len(profiling.needed(state, record).required)
        busy = ", ".join(f"{cell.model} on {device}" for device, (cell, _) in sorted(state.profiles.running.items()))
        return {"state": "profiling", "done": max(0, total - len(missing)), "total": total, "text": busy}
    if active is not None:
        if all(state.devices.live.ready(device, name, active.epoch) for device in active.devices):
            why = f"; no newer plan: {error.text}" if error is not None else ""
            fps, limit = predicted.fps.get(name, active.fps), predicted.limits.get(name, "")
            limited = f", limited by {limit}" if limit else ""
            return {"state": "serving", "text": f"predicted {fps:.2f} FPS{limited}{why}"}
        lost = active.devices - set(state.devices.alive())
        if following is None and lost:
            return failed or {"state": "planning", "text": f"plan {active.epoch} lost {', '.join(sorted(lost))}"}
    waited_for = following or active
    if waited_for is None:
        return {}
    done, total = _progress(state, name, waited_for.epoch)
    return {"state": "loading", "done": done, "total": total, "text": f"plan {waited_for.epoch} is being loaded"}


def _shown(plan: Plan | None) -> Plan | None:
    """The plan without the secrets in the addresses of its streams and networks."""
    if plan is None:
        return None
    record = plan.group.model_copy(update={"spec": plan.group.spec.without_secrets()})
    return plan.model_copy(update={"group": record})


def _progress(state: SchedulerState, group: str, epoch: int) -> tuple[int, int]:
    mine = [
        a
        for peer in state.devices.live.peers.values()
        for a in peer.heartbeat.assignments
        if a.group == group and a.epoch == epoch
    ]
    return sum(a.loaded for a in mine), sum(a.total for a in mine)


def matrix_view(snapshot: PlanningSnapshot) -> MatrixView:
    """The FPS matrix of `snapshot`'s groups: one row per model and input shape, one column per living device."""
    rows: dict[tuple[str, tuple[int, ...]], str] = {}
    cells: dict[str, dict[str, ProfileRecord]] = {}
    reasons: dict[str, str] = {}
    table: list[tuple[float | None, ...]] = []
    costs: list[tuple[float | None, ...]] = []
    for group in snapshot.groups:
        for node in group.spec.depth_first():
            model = group.models[node]
            if (identity := (model.digest, group.spec.nodes[node].input.shape())) in rows:
                continue
            name = rows[identity] = _row_name(model, identity[1], set(rows.values()))
            source = source_of(group, node)
            keys = {device.device: source.key(device) for device in snapshot.devices}
            cells[name] = {d: profile for d, key in keys.items() if (profile := snapshot.profiles.get(key))}
            good = {d: profile for d, profile in cells[name].items() if profile.reason is None}
            there = [device for device in snapshot.devices if device.device in good]
            spent = {d.device: snapshot.image_cpu_s(good[d.device], d, group) for d in there}
            table.append(tuple(round(good[d].fps, 3) if d in good else None for d in keys))
            costs.append(tuple(round(1e3 * spent[d], 4) if d in good else None for d in keys))
            for device, key in keys.items():
                if device not in good:
                    known = cells[name].get(device)
                    why = known.reason if known else _why_unmeasured(snapshot, device, key, model.digest)
                    reasons[f"{name} @ {device}"] = why or "not measured yet"
    return MatrixView(
        models=tuple(rows.values()),
        devices=tuple(d.device for d in snapshot.devices),
        fps=tuple(table),
        weights=_row_weights(snapshot),
        reasons=reasons,
        cells=cells,
        emulated=tuple(d.device for d in snapshot.devices if d.emulated),
        hosts={d.device: d.host for d in snapshot.devices},
        cores=dict(snapshot.cores),
        cpu_ms=tuple(costs) if snapshot.cores else None,
        frame_cpu_ms=_frame_cpu_ms(snapshot),
        variants=variant_rows(snapshot),
    )


def _why_unmeasured(snapshot: PlanningSnapshot, device: str, key: str, digest: str) -> str | None:
    """Why a network has no number on a device: its benchmark failed, or it is out; None: nothing is known."""
    return snapshot.unanswered.get((device, key)) or snapshot.banned.get((device, digest))


def _row_weights(snapshot: PlanningSnapshot) -> tuple[float, ...] | None:
    """Inferences per frame of all nodes of each row; None where no group leaves work out."""
    if not any(leaves_out(group.spec) for group in snapshot.groups):
        return None
    found: dict[tuple[str, tuple[int, ...]], float] = {}
    for group in snapshot.groups:
        for node in group.spec.depth_first():
            identity = group.models[node].digest, group.spec.nodes[node].input.shape()
            found[identity] = found.get(identity, 0.0) + snapshot.all_works[node_name(group, node)].weight
    return tuple(round(weight, 4) for weight in found.values())


def _row_name(model: ModelRef, shape: tuple[int, ...], taken: set[str]) -> str:
    """The name of a row of the matrix that is not `taken`."""
    name = model.name if model.name not in taken else f"{model.name}@{model.digest[:8]}"
    while name in taken:
        name += f"@{'x'.join(map(str, shape))}"
    return name


def _frame_cpu_ms(snapshot: PlanningSnapshot) -> dict[str, dict[str, float]]:
    """The cost of a frame beside its nodes, the mean of all groups: a matrix that is saved is one group."""
    if not snapshot.frames or snapshot.pipeline_host not in snapshot.cores:
        return {}
    mean = sum(snapshot.frames.values()) / len(snapshot.frames)
    return {"default": {snapshot.pipeline_host: round(1e3 * mean, 4)}}


def variant_rows(snapshot: PlanningSnapshot) -> tuple[VariantRow, ...]:
    """All that may serve each node for which variants are known, and what may not, with the reason; sources first."""
    rows: list[VariantRow] = []
    for group in snapshot.groups:
        for node in group.spec.depth_first():
            spec, source = group.spec.nodes[node], group.models[node]
            known = sorted(snapshot.variants.get(source.digest, {}).values(), key=lambda r: (r.label, r.model.digest))
            if not known:
                continue
            rows.append(_row(snapshot, group, node, source_of(group, node), "source", None, ""))
            for record in known:
                found = record.agreements.get(task_key(spec))
                agreement = found.value if found else None
                network = Network(record.model, record.made.input or spec.input, record.label)
                rows.append(_row(snapshot, group, node, network, record.label, agreement, excluded(record, spec)))
    return tuple(rows)


def _row(
    snapshot: PlanningSnapshot,
    group: GroupRecord,
    node: str,
    network: Network,
    label: str,
    agreement: float | None,
    why: str,
) -> VariantRow:
    name, digest = node_name(group, node), network.model.digest
    numbers: list[float | None] = []
    reasons: dict[str, str] = {}
    for device in snapshot.devices:
        cell = network.cell(device)
        profile = snapshot.profiles.get(cell.key)
        good = profile is not None and profile.reason is None
        numbers.append(round(profile.fps, 3) if good and profile else None)
        if (device.device, digest) in snapshot.banned:
            reasons[device.device] = f"the agent does not run it: {snapshot.banned[device.device, digest]}"
        elif not good and not why:
            found = profile.reason if profile else snapshot.unanswered.get((device.device, cell.key))
            reasons[device.device] = found or "not measured yet"
    loaded = snapshot.loaded.get(name, {})
    serves = [d for d in snapshot.current.get(name, {}) if loaded.get(d, group.models[node].digest) == digest]
    return VariantRow(
        node=name,
        model=network.model.name,
        digest=digest,
        label=label,
        agreement=agreement,
        floor=group.spec.nodes[node].min_agreement,
        excluded=why,
        fps=tuple(numbers),
        reasons=reasons,
        serves=tuple(serves),
    )
