"""Networks and nodes that are loaded on the device; nodes with the same network share it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import NamedTuple

from hams_agents.backends.base import Backend, Generating, ModelFile, Network, generates
from hams_agents.backends.further import examples
from hams_agents.backends.network import noise
from hams_agents.core import LoadNode, NetworkKey
from hams_agents.runtime.finite import checked_outputs, finite
from hams_agents.runtime.further_values import in_image_pixels
from hams_agents.runtime.load_notes import NO_NOTES, LoadNotes
from hams_agents.runtime.progress import FIRST_S, LOAD_S, Progress
from hams_agents.runtime.served_node import ServedNode
from hams_agents.tasks.base import Outputs, Task
from hams_agents.tasks.fitting import try_task, would_fit
from hams_agents.tasks.registry import build_task, gives_objects, threshold_of
from hams_shared.errors import TaskError
from hams_shared.group.node_spec import NodeSpec

NodeKey = tuple[str, int, str]
"""Group, epoch, node."""


class _Loaded(NamedTuple):
    """A network on the device, with its outputs for one image of noise, and its file."""

    network: Network
    outputs: Outputs
    model: ModelFile


class Loaded:
    """Networks and nodes of one device. Loading runs in the loader thread, everything else on the event loop."""

    def __init__(self, backend: Backend, loading: Progress | None = None, notes: LoadNotes = NO_NOTES) -> None:
        self._backend = backend
        self._notes = notes
        self._loading = loading or Progress()
        self.rebuilding = Progress()
        """Of the thread that rebuilds nodes."""
        self._lock = threading.Lock()
        self._networks: dict[NetworkKey, _Loaded] = {}
        self._users: dict[NodeKey, NetworkKey] = {}
        self.nodes: dict[NodeKey, ServedNode] = {}

    def has(self, key: NetworkKey) -> bool:
        """Whether a network is loaded."""
        with self._lock:
            return key in self._networks

    def rebuild(self, command: LoadNode, device: str) -> bool:
        """Build the node of `command` in any thread, if its network is there; return whether it is.

        Raises TaskError: see :meth:`load`.
        """
        with self._lock:
            known = self._networks.get(command.key)
        if known is not None:
            with self.rebuilding.job(f"rebuilding of node {command.node}", LOAD_S):
                self._build(command, device, known)
        return known is not None

    def load(self, command: LoadNode, device: str, model: ModelFile) -> None:
        """Build the node of `command`, loading its network unless it is there already.

        Raises:
            ModelError: the network cannot be loaded here.
            TaskError: the node's task is unknown, has wrong parameters, or cannot read the network's outputs.
        """
        with self._lock:
            known = self._networks.get(command.key)
        loaded = known or self._load(model)
        with self._loading.job(f"building of node {command.node}", LOAD_S):  # imports and tries a task, perhaps foreign
            self._build(command, device, loaded)

    def _build(self, command: LoadNode, device: str, loaded: _Loaded) -> None:
        network, outputs, model = loaded
        spec = command.plan.group.spec
        node = spec.nodes[command.node]
        wanted, threshold = node.task, threshold_of(node.task) if node.track is not None else None
        if node.track is not None and threshold is not None:
            wanted = wanted.model_copy(update={"threshold": min(threshold, node.track.low_score)})
        task = build_task(wanted, node.input, network.metadata, in_image=in_image_pixels(node.inputs))
        children = spec.children(command.node)
        if children and not gives_objects(task):
            raise TaskError(
                f"node {command.node} has children ({', '.join(children)}), but its task {node.task.type} finds no "
                f"objects for them",
                "give them another parent; a landmarks task gives `parts`",
            )
        _try(node, task, outputs, network.metadata)
        answers = _asked(network, task) if generates(network) else network
        checked = checked_outputs(task, outputs)
        sound, low = finite(checked, outputs), threshold or 0.0
        served = ServedNode(device, command.plan, command.node, answers, task, low, checked, model, sound)
        key = (spec.name, command.plan.epoch, command.node)
        with self._lock:
            self._networks[command.key] = loaded
            self._users[key] = command.key
            self.nodes[key] = served

    def _load(self, model: ModelFile) -> _Loaded:
        with self._notes.loading(model.digest, model.name):
            return self._loaded(model)

    def _loaded(self, model: ModelFile) -> _Loaded:
        with self._loading.job(f"loading of {model.name}", LOAD_S):
            network = self._backend.load(model)
        limit_s = LOAD_S if generates(network) else FIRST_S
        with self._loading.job(f"the first inference of {model.name}", limit_s):
            outputs = network.infer(noise(model, 1), further=examples(model, 1))
            return _Loaded(network, {name: value.copy() for name, value in outputs.items()}, model)

    def drop(self, key: NodeKey) -> None:
        """Forget a node. Its network goes with its last user; work under way keeps it until it has ended."""
        with self._lock:
            self.nodes.pop(key, None)
            network = self._users.pop(key, None)
            if network is not None and network not in self._users.values():
                del self._networks[network]

    def all(self) -> list[ServedNode]:
        """Return all nodes that are loaded."""
        with self._lock:
            return list(self.nodes.values())

    def serves(self, group: str) -> bool:
        """Return whether a node of `group` is loaded."""
        with self._lock:
            return any(key[0] == group for key in self.nodes)


def _asked(network: Generating, task: Task) -> Network:
    """Return the network with the question of its task. Raises TaskError: the task has none."""
    question = getattr(task, "question", None)
    if question is None:
        raise TaskError("a vision language model writes text, which this task does not read", "task: {type: describe}")
    return network.asked(question)


def _try(node: NodeSpec, task: Task, outputs: Outputs, metadata: Mapping[str, str]) -> None:
    """Decode once, so that a task that does not fit its network is refused now and not at every frame."""
    try:
        try_task(task, outputs, node.input.size)
    except TaskError as error:
        hints = [would_fit(outputs, node.input, metadata), error.hint]
        raise TaskError(error.text, "; ".join(hint for hint in hints if hint)) from error
