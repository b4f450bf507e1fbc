"""A whole group in this process, frame by frame: the agents' own steps and the pipeline's join, without processes.

Everything that changes an answer is the product's code: networks as `hams-ctl deploy` prepares them, sources, the
runtimes, pre-processing, decoding, crops, the messages between devices, the join. Threads, queues and the broker are
left out: they may lose or delay an answer, but never change it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from hams_agents.backends.base import Backend, ModelFile
from hams_agents.backends.further import tensor_specs
from hams_agents.backends.registry import open_backend
from hams_agents.core import LoadNode, NetworkKey
from hams_agents.devices import parse
from hams_agents.runtime.loaded import Loaded
from hams_agents.runtime.served_node import ServedNode
from hams_agents.runtime.serving import Batch, Piece, finish, infer, prepare
from hams_agents.tasks.input import IDENTITY
from hams_services.models.prepare import prepare_group
from hams_services.pipeline.join import Join
from hams_services.pipeline.sources.opening import open_file
from hams_shared.group.spec import GroupSpec
from hams_shared.runtime.process import cache_folder
from hams_shared.wire.frames import FrameId, Pixels, Work
from hams_shared.wire.messages.plan import Plan

os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
"""INT8 arithmetic saturates on CPUs without VNNI, and was recorded so: OpenVINO does without VNNI here as well."""

OPENVINO, ONNXRUNTIME = "box.openvino.cpu", "box.onnxruntime.cpu"
DEVICES = {OPENVINO: "openvino:CPU", ONNXRUNTIME: "onnxruntime:CPU"}

Bend = Callable[[Work], Work]
"""Changes what a node is given, to show that a test notices."""


def places(spec: GroupSpec, onnx: Collection[str] = ()) -> dict[str, str]:
    """Return node → device id: OpenVINO, and ONNX Runtime for those in `onnx`."""
    return {node: ONNXRUNTIME if node in onnx else OPENVINO for node in spec.nodes}


class Networks:
    """The networks of a group as agents get them, loaded once for all groups that differ from it in the rest only."""

    def __init__(self, spec: GroupSpec, folder: Path) -> None:
        self.record, files = prepare_group(spec, cache_folder(), lambda what, done, total: None)
        self._paths = {
            node: _written(folder / ref.digest, ref.parts, files) for node, ref in self.record.models.items()
        }
        self._loaded: dict[str, Loaded] = {}
        self._epoch = 0

    def onnx(self) -> tuple[str, ...]:
        """Nodes whose network ONNX Runtime reads."""
        return tuple(node for node, path in self._paths.items() if path.suffix == ".onnx")

    def serve(self, spec: GroupSpec, places: dict[str, str]) -> Group:
        """Build the nodes of `spec`, each on its device (node → device id)."""
        self._epoch += 1
        record = self.record.model_copy(update={"spec": spec})
        shares = {node: {device: 1.0} for node, device in places.items()}
        plan = Plan(epoch=self._epoch, group=record, shares=shares, strategy="hfs", fps=1.0)
        return Group(plan, {node: self._served(plan, node, device) for node, device in places.items()})

    def _served(self, plan: Plan, node: str, device: str) -> ServedNode:
        if device not in self._loaded:
            self._loaded[device] = Loaded(_opened(device))
        ref, takes = plan.model_on(node, device), plan.input_on(node, device)
        key = NetworkKey(ref.digest, takes.shape(), takes.dtype, ref.further)
        model = ModelFile(
            ref.name, ref.digest, self._paths[node], key.input_shape, key.dtype, further=tensor_specs(key.further)
        )
        self._loaded[device].load(LoadNode(plan, node, ref, key), device, model)
        return self._loaded[device].nodes[plan.group.spec.name, plan.epoch, node]


class Group:
    """A group that is loaded."""

    def __init__(self, plan: Plan, nodes: dict[str, ServedNode]) -> None:
        self._plan, self.nodes = plan, nodes
        self._frames = 0

    def objects(self, image: Pixels, bend: Bend = lambda work: work) -> list[dict[str, Any]]:
        """Return the joined objects of one frame, H×W×3 B, G, R, as an application gets them.

        Raises:
            AssertionError: a node answered with an error.
        """
        spec, size = self._plan.group.spec, (image.shape[1], image.shape[0])
        frame_id = FrameId(spec.name, "s", self._frames, 0, self._plan.epoch, 0.0)
        self._frames += 1
        join = Join(spec)
        todo = deque([Work(frame_id, spec.root, image[None], IDENTITY[None], [0], size)])
        done = False
        while todo:
            batch = Batch([Piece(self.nodes[work.node], work, 0.0) for work in (bend(todo.popleft()),)])
            prepare(batch)
            infer(batch)
            for one in finish(batch):
                todo.extend(work for _, work in one.children)
                assert one.output.error is None, f"node {one.output.node}: {one.output.error}"
                done = join.add(one.output)
        assert done, f"only {sorted(join.outputs)} have answered"
        return join.objects()


Load = Callable[[str], Networks]
"""Loads the networks of an example group by its name."""


def frames_of(source: str, numbers: Collection[int]) -> Iterator[tuple[int, Pixels]]:
    """Yield frames of a file by the product's own source: their numbers, counted from 0, and pixels."""
    opened = open_file(source, cache_folder())
    try:
        for number in range(max(numbers) + 1):
            picture = opened.read()
            if picture is None:
                return
            if number in numbers:
                yield number, picture.pixels
    finally:
        opened.close()


def _opened(device: str) -> Backend:
    return open_backend(parse(DEVICES[device]))


def _written(folder: Path, parts: Any, files: dict[str, bytes]) -> Path:
    """Write a network's files as an agent's cache holds them; return the main one's path."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"model{part.suffix}" for part in parts]
    for path, part in zip(paths, parts, strict=True):
        path.write_bytes(files[part.digest])
    return paths[0]
