"""A frozen picture of all that a solution depends on. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hams_scheduler.variant_candidates import Variants
from hams_shared.wire.messages.agents import DeviceRecord, ProfileRecord
from hams_shared.wire.messages.group import GroupRecord


@dataclass(frozen=True)
class Situation:
    """A frozen picture of all that a solution depends on."""

    groups: tuple[GroupRecord, ...]
    devices: tuple[DeviceRecord, ...]
    profiles: Mapping[str, ProfileRecord]
    unanswered: Mapping[tuple[str, str], str]
    """By (device, cell key): why a benchmark gave nothing."""
    refused: Mapping[tuple[str, str], str]
    """By (group, device): why the agent will not serve it."""
    strategy: str
    time_limit_s: float = 1.0
    weights: Mapping[str, float] = field(default_factory=dict)
    """By ``group/node``: learned inferences per frame; the group file's where there is none."""
    kappa: Mapping[tuple[str, int], float] = field(default_factory=dict)
    """By (device, resident nodes): learned interference; 1 where there is none."""
    overhead: Mapping[str, float] = field(default_factory=dict)
    """By device: learned cost of an inference beside computing, s."""
    current: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By ``group/node``: the shares that serve now."""
    variants: Variants = field(default_factory=dict)
    loaded: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By ``group/node``, then device: digest of the network that serves there now; the source's where there is none."""
    banned: frozenset[tuple[str, str]] = frozenset()
    """(device, digest) of variants that the agent could not load."""


def node_name(group: GroupRecord, node: str) -> str:
    """A node's name among all groups."""
    return f"{group.spec.name}/{node}"
