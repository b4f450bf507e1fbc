"""Which network serves each node on each device, in a whole situation, and what changes when that changes. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hams_scheduler.planning_snapshot import Situation, node_name
from hams_scheduler.solver.placement import Placement
from hams_scheduler.variant_candidates import Candidate, Choice, candidates, choose
from hams_shared.wire.messages.agents import DeviceRecord
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.plan import VariantChoice

Choices = Mapping[tuple[str, str], Choice]
"""By (``group/node``, device); a pair that cannot work is not there."""


def choices(situation: Situation, *, smallest: bool = False) -> dict[tuple[str, str], Choice]:
    """Choose for each pair, each for itself: the fastest, or the one that needs least memory."""
    found: dict[tuple[str, str], Choice] = {}
    for group in situation.groups:
        for node in group.spec.depth_first():
            among = candidates(group, node, situation.variants)
            memory = {c.model.digest: memory_mib(situation, c) for c in among}
            for device in situation.devices:
                if (group.spec.name, device.device) in situation.refused:
                    continue
                free = tuple(c for c in among if (device.device, c.model.digest) not in situation.banned)
                choice = choose(
                    free,
                    lambda c, on=device: situation.profiles.get(c.cell(on).key),  # type: ignore[misc]
                    lambda c, mib=memory: mib[c.model.digest],  # type: ignore[misc]
                    capacity_mib(device),
                    smallest=smallest,
                )
                if choice is not None:
                    found[node_name(group, node), device.device] = choice
    return found


def memory_mib(situation: Situation, candidate: Candidate) -> float:
    """The most that any device measured for it, MiB: what the first network on a device costs, the next may hide."""
    found = (situation.profiles.get(candidate.cell(device).key) for device in situation.devices)
    return max((p.memory_mib for p in found if p is not None and p.reason is None), default=0.0)


def capacity_mib(device: DeviceRecord) -> float:
    """Memory that models may use, MiB; infinite where it is not known."""
    return float(device.memory_mib) if device.memory_mib > 0 else np.inf


def loaded_fps(situation: Situation) -> dict[tuple[str, str], float]:
    """By (``group/node``, device): the FPS alone of the network that serves there now; none if it may not any more."""
    found: dict[tuple[str, str], float] = {}
    for group in situation.groups:
        for node in group.spec.depth_first():
            name = node_name(group, node)
            among = {c.model.digest: c for c in candidates(group, node, situation.variants)}
            for device in situation.devices:
                digest = _loaded(situation, group, node, device.device)
                candidate = among.get(digest)
                profile = situation.profiles.get(candidate.cell(device).key) if candidate else None
                if profile is not None and (device.device, digest) not in situation.banned:
                    found[name, device.device] = profile.fps
    return found


def _loaded(situation: Situation, group: GroupRecord, node: str, device: str) -> str:
    """Digest of the network that serves `node` on `device` now, if it does."""
    return situation.loaded.get(node_name(group, node), {}).get(device, group.models[node].digest)


def fresh(situation: Situation, chosen: Choices, placement: Placement, node: str) -> tuple[str, ...]:
    """Devices that must load a network for `node`: they have not had it, or another one."""
    before, loaded = situation.current[node], situation.loaded.get(node, {})
    return tuple(
        device
        for device in placement.shares[node]
        if device not in before or loaded.get(device, "") != _variant_digest(chosen[node, device])
    )


def _variant_digest(choice: Choice) -> str:
    return choice.candidate.model.digest if choice.candidate.label else ""


def variants_of(placement: Placement, chosen: Choices) -> dict[str, dict[str, VariantChoice]]:
    """By node, then device: the variants that serve; nodes that run their sources are not there."""
    found: dict[str, dict[str, VariantChoice]] = {}
    for node, places in placement.shares.items():
        for device in places:
            variant = chosen[node, device].variant
            if variant is not None:
                found.setdefault(node, {})[device] = variant
    return found


def explained(placement: Placement, chosen: Choices) -> dict[str, str]:
    """Why each node is where it is and, of a variant, what it bought."""
    said = {}
    for node, text in placement.explanation.items():
        bought = {d: chosen[node, d].bought for d in placement.shares[node]}
        several = len(bought) > 1
        parts = [f"{d} {gain}" if several else gain for d, gain in bought.items() if gain]
        said[node] = "; ".join([text, *parts])
    return said
