"""What the scheduler tells people: devices, groups, the matrix. Pure."""

from __future__ import annotations

from hams_scheduler.doubtful_cells import doubt
from hams_scheduler.expected_fps import expected
from hams_scheduler.planning import Situation, cell_of, node_name
from hams_scheduler.state import SchedulerState
from hams_scheduler.variant_candidates import Candidate
from hams_shared.bus.variant_registry import excluded
from hams_shared.group.camera_url import redacted
from hams_shared.wire.messages.agents import ProfileRecord
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.plan import Plan
from hams_shared.wire.messages.scheduler import (
    DeviceView,
    GroupView,
    LeaderRecord,
    MatrixView,
    SchedulerView,
    VariantRow,
)
from hams_shared.wire.variants import task_key


def scheduler_view(
    state: SchedulerState, now: float, leader: LeaderRecord | None = None, led_s: float = 0.0
) -> SchedulerView:
    """Everything, for `hams-ctl status`, `devices` and `matrix`."""
    groups = [state.groups[name] for name in sorted(state.groups)]
    drafts = [group for request in state.asked.values() for group in request.groups]
    return SchedulerView(
        devices=tuple(_device(state, name, now) for name in sorted(state.devices)),
        groups=tuple(_group(state, name) for name in sorted(state.groups)),
        matrix=_doubted(state, matrix_view(state.situation(groups, ""))),
        leader=leader,
        led_s=led_s,
        profiling={device: cell.model for device, (cell, _) in sorted(state.profiling.items())},
        waiting_profiles=len(state.missing(groups + drafts) + state.missing(drafts, spare=True)) + len(state.again),
    )


def _doubted(state: SchedulerState, matrix: MatrixView) -> MatrixView:
    found = {
        f"{model} @ {device}": why
        for model, cells in matrix.cells.items()
        for device, profile in cells.items()
        if (why := doubt(state, device, profile))
    }
    return matrix.model_copy(update={"doubts": found})


def _device(state: SchedulerState, device: str, now: float) -> DeviceView:
    peer = state.live.peers.get(device)
    return DeviceView(
        record=state.devices[device],
        state="quarantined" if state.quarantined(device) else "alive" if peer else "lost",
        health=state.health.get(device),
        heartbeat=peer.heartbeat if peer else None,
        silent_s=round(max(0.0, now - peer.seen), 3) if peer else 0.0,
    )


def _group(state: SchedulerState, name: str) -> GroupView:
    record = state.groups[name]
    plans = state.plans.get(name)
    active, following = (plans.active, plans.next) if plans else (None, None)
    now = expected(state, name)
    view = GroupView(
        name=name,
        deployed_at=record.deployed_at,
        state="planning",
        active=_shown(active),
        next=_shown(following),
        error=state.errors.get(name),
        target_fps=record.spec.target_fps,
        measured_fps=round(state.learned.measured_fps(name), 3),
        expected_fps=round(now.fps, 3) if now is not None else 0.0,
        expected_why=now.why if now is not None else "",
        weights={n: round(state.weight(record, n), 3) for n in record.spec.depth_first()},
        confidence={n: round(state.learned.confidence(name, n), 3) for n in record.spec.depth_first()},
    )
    return view.model_copy(update=_condition(state, record, active, following))


def _condition(
    state: SchedulerState, record: GroupRecord, active: Plan | None, following: Plan | None
) -> dict[str, object]:
    """How the group is, as fields of its view."""
    name, error = record.spec.name, state.errors.get(record.spec.name)
    failed: dict[str, object] = {"state": "failed", "text": error.text} if error is not None else {}
    if failed and active is None:
        return failed
    if not state.alive():
        quarantined = ", ".join(d for d in sorted(state.devices) if state.quarantined(d))
        text = f"no device is alive{f' but those quarantined: {quarantined}' if quarantined else ''}"
        return {"state": "waiting", "text": text}
    missing = state.missing([record])
    if missing and (active is None or state.awaits(record)):
        total = len(state.cells(record))
        busy = ", ".join(f"{cell.model} on {device}" for device, (cell, _) in sorted(state.profiling.items()))
        return {"state": "profiling", "done": max(0, total - len(missing)), "total": total, "text": busy}
    if active is not None:
        if all(state.live.ready(device, name, active.epoch) for device in active.devices):
            why = f"; no newer plan: {error.text}" if error is not None else ""
            return {"state": "serving", "text": f"predicted {active.fps:.2f} FPS{why}"}
        lost = active.devices - set(state.alive())
        if following is None and lost:
            return failed or {"state": "planning", "text": f"plan {active.epoch} lost {', '.join(sorted(lost))}"}
    waited_for = following or active
    if waited_for is None:
        return {}
    done, total = _progress(state, name, waited_for.epoch)
    return {"state": "loading", "done": done, "total": total, "text": f"plan {waited_for.epoch} is being loaded"}


def _shown(plan: Plan | None) -> Plan | None:
    """The plan without the passwords in its streams' sources."""
    if plan is None:
        return None
    spec = plan.group.spec
    streams = {name: one.model_copy(update={"source": redacted(one.source)}) for name, one in spec.streams.items()}
    record = plan.group.model_copy(update={"spec": spec.model_copy(update={"streams": streams})})
    return plan.model_copy(update={"group": record})


def _progress(state: SchedulerState, group: str, epoch: int) -> tuple[int, int]:
    mine = [
        a
        for peer in state.live.peers.values()
        for a in peer.heartbeat.assignments
        if a.group == group and a.epoch == epoch
    ]
    return sum(a.loaded for a in mine), sum(a.total for a in mine)


def matrix_view(situation: Situation) -> MatrixView:
    """The FPS matrix of `situation`'s groups: one row per model and input shape, one column per living device."""
    rows: dict[tuple[str, tuple[int, ...]], str] = {}
    cells: dict[str, dict[str, ProfileRecord]] = {}
    reasons: dict[str, str] = {}
    table: list[tuple[float | None, ...]] = []
    for group in situation.groups:
        for node in group.spec.depth_first():
            model = group.models[node]
            identity = (model.digest, group.spec.nodes[node].input.shape())
            if identity in rows:
                continue
            name = model.name if model.name not in rows.values() else f"{model.name}@{model.digest[:8]}"
            while name in rows.values():
                name += f"@{'x'.join(map(str, identity[1]))}"
            rows[identity] = name
            numbers: list[float | None] = []
            cells[name] = {}
            for device in situation.devices:
                cell = cell_of(group, node, device)
                profile = situation.profiles.get(cell.key)
                if profile is not None:
                    cells[name][device.device] = profile
                good = profile is not None and profile.reason is None
                numbers.append(round(profile.fps, 3) if good and profile else None)
                if not good:
                    why = profile.reason if profile else situation.unanswered.get((device.device, cell.key))
                    reasons[f"{name} @ {device.device}"] = why or "not measured yet"
            table.append(tuple(numbers))
    return MatrixView(
        models=tuple(rows.values()),
        devices=tuple(d.device for d in situation.devices),
        fps=tuple(table),
        reasons=reasons,
        cells=cells,
        emulated=tuple(d.device for d in situation.devices if d.emulated),
        variants=variant_rows(situation),
    )


def variant_rows(situation: Situation) -> tuple[VariantRow, ...]:
    """All that may serve each node for which variants are known, and what may not, with the reason; sources first."""
    rows: list[VariantRow] = []
    for group in situation.groups:
        for node in group.spec.depth_first():
            spec, source = group.spec.nodes[node], group.models[node]
            known = sorted(situation.variants.get(source.digest, {}).values(), key=lambda r: (r.label, r.model.digest))
            if not known:
                continue
            rows.append(_row(situation, group, node, Candidate(source, spec.input), "source", None, ""))
            for record in known:
                found = record.agreements.get(task_key(spec))
                agreement = found.value if found else None
                candidate = Candidate(record.model, record.made.input or spec.input, record.label)
                rows.append(_row(situation, group, node, candidate, record.label, agreement, excluded(record, spec)))
    return tuple(rows)


def _row(
    situation: Situation,
    group: GroupRecord,
    node: str,
    candidate: Candidate,
    label: str,
    agreement: float | None,
    why: str,
) -> VariantRow:
    name, digest = node_name(group, node), candidate.model.digest
    numbers: list[float | None] = []
    reasons: dict[str, str] = {}
    for device in situation.devices:
        cell = candidate.cell(device)
        profile = situation.profiles.get(cell.key)
        good = profile is not None and profile.reason is None
        numbers.append(round(profile.fps, 3) if good and profile else None)
        if (device.device, digest) in situation.banned:
            reasons[device.device] = "the agent could not load it"
        elif not good and not why:
            found = profile.reason if profile else situation.unanswered.get((device.device, cell.key))
            reasons[device.device] = found or "not measured yet"
    loaded = situation.loaded.get(name, {})
    serves = [d for d in situation.current.get(name, {}) if loaded.get(d, group.models[node].digest) == digest]
    return VariantRow(
        node=name,
        model=candidate.model.name,
        digest=digest,
        label=label,
        agreement=agreement,
        floor=group.spec.nodes[node].min_agreement,
        excluded=why,
        fps=tuple(numbers),
        reasons=reasons,
        serves=tuple(serves),
    )
