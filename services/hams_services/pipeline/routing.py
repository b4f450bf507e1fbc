"""Which replica takes a node's next frame: smooth weighted round robin, corrected by backlog. Pure.

The pipeline decides for all nodes of a frame when it sends it, since it alone sees every output and so knows what each
device still owes. Smooth weighted round robin (as in nginx) spreads frames by the plan's shares as evenly as can be. A
replica that owes `SLACK` frames more than its share of all that is owed is passed over: it is slower than planned, or
stalled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from hams_shared.wire.messages import Plan

SLACK = 2.0
"""Frames a replica may owe beyond its share before others take its turn."""


@dataclass
class Replicas:
    """Spreads the frames of one group, over all its streams."""

    epoch: int = 0
    owed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By (node, device): frames sent and not answered, over all epochs."""
    _credit: dict[tuple[str, str], float] = field(default_factory=dict)

    def choose(self, plan: Plan, avoid: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the device for each node of the next frame, and count it as owed.

        `avoid` names devices that failed this frame before: where there is another replica, it is taken.
        """
        if plan.epoch != self.epoch:
            self.epoch = plan.epoch
            self._credit.clear()
        route: dict[str, str] = {}
        for node, shares in plan.shares.items():
            route[node] = self._pick(node, shares, (avoid or {}).get(node))
            self.owed[(node, route[node])] += 1
        return route

    def answered(self, node: str, device: str) -> None:
        """A frame is no longer owed: answered, or given up."""
        key = (node, device)
        self.owed[key] -= 1
        if self.owed[key] <= 0:
            del self.owed[key]

    def _pick(self, node: str, shares: Mapping[str, float], avoid: str | None) -> str:
        if len(shares) == 1:
            return next(iter(shares))
        total = sum(shares.values())
        weights = {device: share / total for device, share in shares.items()}
        owed = {device: self.owed[(node, device)] for device in weights}
        everything = sum(owed.values())
        fit = [d for d in weights if d != avoid and owed[d] - weights[d] * everything < SLACK]
        for device, weight in weights.items():
            key = (node, device)
            self._credit[key] = min(self._credit.get(key, 0.0) + weight, 1.0)  # what was passed over is not caught up
        chosen = max(fit or weights, key=lambda d: (self._credit[(node, d)], d))
        self._credit[(node, chosen)] = max(self._credit[(node, chosen)] - 1.0, -1.0)  # nor is standing in paid back
        return chosen
