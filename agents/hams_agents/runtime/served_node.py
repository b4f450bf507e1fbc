"""A node that a device serves: its network, its task, its part of the plan."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from hams_agents.backends.base import ModelFile, Network
from hams_agents.runtime.fair_queue import Terms
from hams_agents.runtime.further_values import FurtherValues
from hams_agents.runtime.progress import NetworkId
from hams_agents.tasks.base import DescriptionTask, DetectionTask, Task
from hams_agents.tasks.registry import gives_objects, is_detection
from hams_shared.group.node_spec import InputSpec, NodeSpec
from hams_shared.wire.messages.plan import Plan


@dataclass(frozen=True)
class ServedNode:
    """A node that is loaded and ready."""

    device: str
    plan: Plan
    node: str
    network: Network
    task: Task
    threshold: float = 0.0
    """The task's own, where its detections from a lower one on are given to the tracker."""
    checked: frozenset[str] = frozenset()
    """Outputs of its network that must be finite numbers."""
    model: ModelFile | None = None
    """Its network's file."""
    sound: bool = True
    """Whether those outputs were finite for the image of noise that the network ran when it was loaded."""

    @property
    def spec(self) -> NodeSpec:
        """The node's part of the group file."""
        return self.plan.group.spec.nodes[self.node]

    @cached_property
    def key(self) -> tuple[str, str]:
        """Its group and node."""
        return self.plan.group.spec.name, self.node

    @cached_property
    def digest(self) -> str:
        """That of its network."""
        return self.plan.model_on(self.node, self.device).digest

    @cached_property
    def network_id(self) -> NetworkId:
        """Its network, and the size that it is loaded for."""
        return self.digest, self.takes.shape()

    @cached_property
    def detector(self) -> DetectionTask | None:
        """Its task, where that finds objects."""
        return self.task if is_detection(self.task) else None

    @cached_property
    def describer(self) -> DescriptionTask | None:
        """Its task, where that describes images."""
        return None if is_detection(self.task) else self.task

    @cached_property
    def finds_objects(self) -> bool:
        """Whether its outputs hold objects, so that it may have children."""
        return gives_objects(self.task)

    @cached_property
    def slow(self) -> bool:
        """Whether it has a budget, and runs beside the device's lanes."""
        return self.spec.budget is not None

    @cached_property
    def children(self) -> tuple[str, ...]:
        """The children that are given work here; the pipeline gives the others theirs."""
        spec = self.plan.group.spec
        return tuple(child for child in spec.children(self.node) if child not in spec.chosen)

    @cached_property
    def takes(self) -> InputSpec:
        """The input of its network."""
        return self.plan.input_on(self.node, self.device)

    @cached_property
    def further(self) -> FurtherValues | None:
        """What feeds its network's further inputs; None: it has none."""
        specs = self.plan.model_on(self.node, self.device).further
        detects = self.detector is not None
        return FurtherValues(specs, self.spec.inputs, self.takes, detects=detects) if specs else None

    @cached_property
    def terms(self) -> Terms:
        """The terms on which its work waits.

        A turn has the pieces of work that the group's frames bring here, per frame, times what its frames weigh. A
        frame brings one piece to each node, however many crops it has, or none by the node's cadence.
        """
        spec = self.plan.group.spec
        plan = self.plan
        here = sum(plan.share(node, self.device) * plan.pieces.get(node, 1.0) for node in plan.shares)
        return Terms(
            priority=spec.priority,
            pieces=here * (spec.target_fps or 1.0) * spec.share,
            depth=spec.depth(self.node),
            joins=self.network.dynamic_batch,
            wait_s=self.spec.max_wait_ms / 1e3,
        )
