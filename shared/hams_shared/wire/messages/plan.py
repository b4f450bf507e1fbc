"""Plans: the scheduler writes them; agents, the pipeline and hams-ctl read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from hams_shared.errors import MessageError
from hams_shared.group.node_spec import InputSpec
from hams_shared.wire.messages.base import BRIEF, Wire
from hams_shared.wire.messages.group import GroupRecord, ModelRef


class VariantChoice(Wire):
    """A variant that stands for a node's network on one device; see :mod:`hams_shared.wire.variants`."""

    model: ModelRef
    label: str = Field(description="short, e.g. int8")
    agreement: float = Field(description="with its source, 0-1")
    input: Annotated[InputSpec, BRIEF] | None = Field(None, description="its input, where that is not the node's")
    fps: float = Field(0.0, description="images/s alone on that device")
    source_fps: float = Field(0.0, description="of the source there; 0: it does not run there")


class Plan(Wire):
    """A placement: node → {device: share}, under an epoch that only grows. It holds all that agents need."""

    epoch: int = Field(ge=1)
    group: GroupRecord
    shares: dict[str, dict[str, float]]
    variants: dict[str, dict[str, VariantChoice]] = Field(
        {}, description="node → device → what is loaded there instead of the group's own model"
    )
    strategy: str
    fps: float = Field(description="predicted group FPS")
    bound_fps: float = Field(0.0, description="proven upper bound of this group's own; 0: none is known")
    reason: str = Field("", description="why this plan was made")
    explanation: dict[str, str] = Field({}, description="by node: why it is where it is")
    pieces: dict[str, float] = Field(
        {}, description="by node: pieces of work per frame, where cadences, conditions or gates leave some out; else 1"
    )
    unmet: bool = Field(False, description="whether the group's target cannot be met")
    made_at: float = 0.0

    @property
    def whole(self) -> bool:
        """Whether it places each node of its group, and no other, with shares that are numbers above 0."""
        placed = all(
            places and all(0 < share < math.inf for share in places.values()) for places in self.shares.values()
        )
        return placed and self.shares.keys() == self.group.spec.nodes.keys()

    @property
    def devices(self) -> frozenset[str]:
        """Devices that serve some node."""
        return frozenset(device for places in self.shares.values() for device in places)

    def model_on(self, node: str, device: str) -> ModelRef:
        """The network that `device` loads for `node`."""
        choice = self.variants.get(node, {}).get(device)
        return choice.model if choice else self.group.models[node]

    def input_on(self, node: str, device: str) -> InputSpec:
        """Return the input of that network."""
        choice = self.variants.get(node, {}).get(device)
        return (choice.input if choice else None) or self.group.spec.nodes[node].input

    @property
    def all_models(self) -> tuple[ModelRef, ...]:
        """The group's own networks and the variants that stand for them."""
        variants = (v.model for places in self.variants.values() for v in places.values())
        return (*self.group.models.values(), *variants)

    def variants_on(self, device: str) -> frozenset[str]:
        """Digests of the variants that `device` loads."""
        return frozenset(places[device].model.digest for places in self.variants.values() if device in places)

    @property
    def models(self) -> dict[str, dict[str, str]]:
        """Node → device → digest of the network it loads."""
        return {n: {d: self.model_on(n, d).digest for d in places} for n, places in self.shares.items()}

    def share(self, node: str, device: str) -> float:
        """The part of `node`'s frames that `device` takes, 0–1."""
        places = self.shares.get(node, {})
        total = sum(places.values())
        return places.get(device, 0.0) / total if total > 0 else 0.0

    def device_of(self, node: str, route: Mapping[str, str]) -> str:
        """Return the device that does `node`'s part of a frame. Raises MessageError: `route` does not fit the plan."""
        places = self.shares[node]
        if len(places) == 1:
            return next(iter(places))
        device = route.get(node, "")
        if device not in places:
            raise MessageError(f"the frame's route has no device of the plan for node {node}")
        return device

    def nodes_on(self, device: str) -> tuple[str, ...]:
        """Nodes that `device` serves, parents first."""
        return tuple(n for n in self.group.spec.depth_first() if device in self.shares.get(n, {}))


class PlanRecord(Wire):
    """KV ``plans/<group>``: the plan in force and, while agents load it, the next one."""

    group: str
    active: Plan | None = None
    next: Plan | None = None
    term: int = Field(0, description="of the leading scheduler that wrote it")

    def belongs(self, key: str) -> bool:
        """Whether it and its plans are of group `key`, and place all of it."""
        plans = [plan for plan in (self.active, self.next) if plan]
        return self.group == key and all(plan.group.spec.name == key and plan.whole for plan in plans)

    @property
    def newest(self) -> int:
        """Highest epoch in the record; 0 when empty."""
        return max((p.epoch for p in (self.active, self.next) if p), default=0)

    @property
    def in_force(self) -> int:
        """Epoch of the active plan; 0 when there is none."""
        return self.active.epoch if self.active else 0
