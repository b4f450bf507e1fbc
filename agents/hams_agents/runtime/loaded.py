"""Networks and nodes that are loaded on the device; nodes with the same network share it."""

from __future__ import annotations

import threading

import numpy as np

from hams_agents.backends.base import Backend, ModelFile, Network
from hams_agents.backends.network import noise
from hams_agents.core import LoadNode, NetworkKey
from hams_agents.runtime.progress import FIRST_S, LOAD_S, Progress
from hams_agents.runtime.serving import ServedNode
from hams_agents.tasks.base import Outputs, Task
from hams_agents.tasks.registry import build_task, gives_objects, is_detection, threshold_of
from hams_shared.errors import TaskError

NodeKey = tuple[str, int, str]
"""Group, epoch, node."""


class Loaded:
    """Networks and nodes of one device. Loading runs in the loader thread, everything else on the event loop."""

    def __init__(self, backend: Backend, loading: Progress | None = None) -> None:
        self._backend = backend
        self._loading = loading or Progress()
        self._lock = threading.Lock()
        self._networks: dict[NetworkKey, tuple[Network, Outputs]] = {}
        """With the outputs of each for one image of noise."""
        self._users: dict[NodeKey, NetworkKey] = {}
        self.nodes: dict[NodeKey, ServedNode] = {}

    def load(self, command: LoadNode, device: str, model: ModelFile) -> None:
        """Build the node of `command`, loading its network unless it is there already.

        Raises:
            ModelError: the network cannot be loaded here.
            TaskError: the node's task is unknown, has wrong parameters, or cannot read the network's outputs.
        """
        spec = command.plan.group.spec
        node = spec.nodes[command.node]
        with self._lock:
            known = self._networks.get(command.key)
        network, outputs = known or self._load(model)
        wanted, threshold = node.task, threshold_of(node.task) if node.track is not None else None
        if node.track is not None and threshold is not None:
            wanted = wanted.model_copy(update={"threshold": min(threshold, node.track.low_score)})
        task = build_task(wanted, node.input, network.metadata)
        children = spec.children(command.node)
        if children and not gives_objects(task):
            raise TaskError(
                f"node {command.node} has children ({', '.join(children)}), but its task {node.task.type} finds no "
                f"objects for them",
                "give them another parent; a landmarks task gives `parts`",
            )
        _try(task, outputs, node.input.size)
        served = ServedNode(device, command.plan, command.node, network, task, threshold or 0.0)
        key = (spec.name, command.plan.epoch, command.node)
        with self._lock:
            self._networks[command.key] = network, outputs
            self._users[key] = command.key
            self.nodes[key] = served

    def _load(self, model: ModelFile) -> tuple[Network, Outputs]:
        with self._loading.job(f"loading of {model.name}", LOAD_S):
            network = self._backend.load(model)
        with self._loading.job(f"the first inference of {model.name}", FIRST_S):
            return network, {name: value.copy() for name, value in network.infer(noise(model, 1)).items()}

    def drop(self, key: NodeKey) -> None:
        """Forget a node. Its network goes with its last user; work under way keeps it until it has ended."""
        with self._lock:
            self.nodes.pop(key, None)
            network = self._users.pop(key, None)
            if network is not None and network not in self._users.values():
                del self._networks[network]

    def serves(self, group: str) -> bool:
        """Return whether a node of `group` is loaded."""
        with self._lock:
            return any(key[0] == group for key in self.nodes)


def _try(task: Task, outputs: Outputs, size: tuple[int, int]) -> None:
    """Decode once, so that a task that does not fit its network is refused now and not at every frame."""
    to_frame = [np.eye(2, 3)]
    if is_detection(task):
        task.detect(outputs, to_frame, size)
    else:
        task.describe(outputs, to_frame)
