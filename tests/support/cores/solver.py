"""Solutions for the scheduler: real ones, or quick ones that go anywhere they may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hams_scheduler.planning_snapshot import Situation, node_name
from hams_scheduler.variant_candidates import candidates

from hams_scheduler.planning import GroupSolution, Solution, decide
from hams_shared.errors import InfeasibleError
from hams_shared.wire.messages.agents import DeviceRecord
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.plan import Plan

REAL = 0
"""The taste of those who want the real solver."""


def solution(situation: Situation, taste: int, now: float) -> Solution:
    """Solve `situation`; each `taste` but REAL places nodes in another way, and shares some of them out."""
    if taste == REAL:
        return decide(replace(situation, time_limit_s=60.0), now)
    groups: dict[str, GroupSolution] = {}
    failed: dict[str, InfeasibleError] = {}
    for group in situation.groups:
        name = group.spec.name
        try:
            shares = {n: _shares(situation, group, n, taste + i) for i, n in enumerate(group.spec.depth_first())}
        except InfeasibleError as error:
            failed[name] = error
            continue
        groups[name] = GroupSolution(group, Plan(epoch=1, group=group, shares=shares, strategy="tiny", fps=10.0))
    serves = all(
        _serves(situation, group, n, situation.current.get(node_name(group, n), {}))
        for group in situation.groups
        for n in group.spec.depth_first()
    )
    return Solution(groups, failed=failed, gain=1.0 + taste % 3 / 10 if serves else float("inf"))


def _fits(situation: Situation, group: GroupRecord, node: str, device: DeviceRecord) -> bool:
    profile = situation.profiles.get(candidates(group, node, {})[0].cell(device).key)
    return profile is not None and profile.fps > 0 and (group.spec.name, device.device) not in situation.refused


def _serves(situation: Situation, group: GroupRecord, node: str, places: Mapping[str, float]) -> bool:
    able = {device.device for device in situation.devices if _fits(situation, group, node, device)}
    return bool(places) and places.keys() <= able


def _shares(situation: Situation, group: GroupRecord, node: str, taste: int) -> dict[str, float]:
    able = [device.device for device in situation.devices if _fits(situation, group, node, device)]
    if not able:
        raise InfeasibleError(f"node {group.spec.name}/{node} runs on no device")
    first = able[taste % len(able)]
    if taste % 4 == 3 and len(able) > 1:
        return {first: 0.5, able[(taste + 1) % len(able)]: 0.5}
    return {first: 1.0}
