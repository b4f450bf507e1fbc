"""Solutions for the scheduler: real ones, or quick ones that go anywhere they may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hams_scheduler.planning import Solution, decide
from hams_scheduler.variant_choice import PlanningSnapshot, node_name, source_of
from hams_shared.errors import InfeasibleError
from hams_shared.wire.messages.agents import DeviceRecord
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.plan import Plan

REAL = 0
"""The style that uses the real solver."""


def solution(snapshot: PlanningSnapshot, style: int, now: float) -> Solution:
    """Solve `snapshot`; each `style` but REAL places nodes in another way, and shares some of them out."""
    if style == REAL:
        return decide(replace(snapshot, time_limit_s=60.0), now)
    plans: dict[str, Plan] = {}
    failed: dict[str, InfeasibleError] = {}
    for group in snapshot.groups:
        name = group.spec.name
        try:
            shares = {n: _shares(snapshot, group, n, style + i) for i, n in enumerate(group.spec.depth_first())}
        except InfeasibleError as error:
            failed[name] = error
            continue
        plans[name] = Plan(epoch=1, group=group, shares=shares, strategy="tiny", fps=10.0)
    serves = all(
        _serves(snapshot, group, n, snapshot.current.get(node_name(group, n), {}))
        for group in snapshot.groups
        for n in group.spec.depth_first()
    )
    return Solution(plans, failed=failed, gain=1.0 + style % 3 / 10 if serves else float("inf"))


def _fits(snapshot: PlanningSnapshot, group: GroupRecord, node: str, device: DeviceRecord) -> bool:
    profile = snapshot.profiles.get(source_of(group, node).cell(device).key)
    return profile is not None and profile.fps > 0 and (group.spec.name, device.device) not in snapshot.refused


def _serves(snapshot: PlanningSnapshot, group: GroupRecord, node: str, places: Mapping[str, float]) -> bool:
    able = {device.device for device in snapshot.devices if _fits(snapshot, group, node, device)}
    return bool(places) and places.keys() <= able


def _shares(snapshot: PlanningSnapshot, group: GroupRecord, node: str, style: int) -> dict[str, float]:
    able = [device.device for device in snapshot.devices if _fits(snapshot, group, node, device)]
    if not able:
        raise InfeasibleError(f"node {group.spec.name}/{node} runs on no device")
    first = able[style % len(able)]
    if style % 4 == 3 and len(able) > 1:
        return {first: 0.5, able[(style + 1) % len(able)]: 0.5}
    return {first: 1.0}
