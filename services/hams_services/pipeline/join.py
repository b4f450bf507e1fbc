"""The join: the outputs of all nodes for one frame become one result. Pure.

Outputs arrive in any order. A frame is complete when every node of the group has answered; a node without crops answers
too. The root's objects are the result's ``objects``. A describing child adds its map, under its own name, to the object
that its crop shows. A detecting child adds ``{"objects": […]}``; its own children extend those entries likewise. A
describing node may return parts of its crop as ``objects`` in its map: its children extend those.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from hams_shared.errors import MessageError
from hams_shared.group.spec import GroupSpec
from hams_shared.wire.frames import FrameId, Output
from hams_shared.wire.results import FrameResult, NodeReport, ResultObject


@dataclass
class Join:
    """Gathers one attempt at one frame."""

    spec: GroupSpec
    outputs: dict[str, Output] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all nodes have answered."""
        return len(self.outputs) == len(self.spec.nodes)

    def add(self, output: Output) -> bool:
        """Take a node's output; True when it was the last one missing. A second answer of a node is ignored."""
        if output.node in self.spec.nodes:
            self.outputs.setdefault(output.node, output)
        return self.complete

    def found_by(self, node: str) -> tuple[list[dict[str, Any]], list[int]]:
        """Return all objects that `node` found in the frame, and which of its parent's objects each is in."""
        objects: list[dict[str, Any]] = []
        parents: list[int] = []
        output = self.outputs[node]
        for source, item in zip(output.sources or range(len(output.items)), output.items, strict=False):
            found = _parts(answer_of(item))
            objects += found
            parents += [source] * len(found)
        return objects, parents

    def objects(self) -> list[dict[str, Any]]:
        """Put the outputs together. Raises MessageError when they contradict each other."""
        root = self.outputs[self.spec.root]
        if len(root.items) != 1 or not isinstance(root.items[0], list):
            described = [item for item in root.items if isinstance(item, dict)]
            self._extend(self.spec.root, [part for item in described for part in _parts(item)])
            return [{self.spec.root: item} for item in described]
        objects = root.items[0]
        self._extend(self.spec.root, objects)
        return objects

    def _extend(self, parent: str, objects: list[dict[str, Any]]) -> None:
        for child in self.spec.children(parent):
            output = self.outputs[child]
            found: list[dict[str, Any]] = []
            for source, item in zip(output.sources, output.items, strict=False):
                if source >= len(objects):
                    raise MessageError(f"node {child} refers to object {source}, its parent found {len(objects)}")
                objects[source][child] = answer = answer_of(item)
                found += _parts(answer)
            self._extend(child, found)

    def nodes(self) -> dict[str, NodeReport]:
        """Return the device and timings in ms of each node that was asked."""
        return {
            name: cast(NodeReport, {"device": output.device, **output.timing})
            for name, output in sorted(self.outputs.items())
            if output.device
        }


def answer_of(item: Any) -> Any:
    """Return what a child output for one object as it stands in the object: of a detector the list gets a key."""
    return {"objects": item} if isinstance(item, list) else item


def _parts(item: Any) -> list[dict[str, Any]]:
    """Return the parts in a describing node's map."""
    parts = item.get("objects") if isinstance(item, dict) else None
    return parts if isinstance(parts, list) else []


def frame_result(
    id: FrameId,
    join: Join,
    objects: list[dict[str, Any]],
    size: tuple[int, int],
    media_time_s: float | None,
    latency_ms: float,
    run: str = "",
    traceparent: str = "",
    group_version: int = 0,
) -> FrameResult:
    """Return the result of one frame, as applications get it; `size` is the frame's width and height in pixels.

    Where the root describes the whole frame, its one object is the frame.
    """
    whole = ResultObject(box=(0, 0, *size), score=1.0, label="frame")
    result = FrameResult(
        version=1,
        group=id.group,
        stream=id.stream,
        frame=id.frame,
        captured=id.captured,
        media_time_s=media_time_s,
        latency_ms=round(latency_ms, 3),
        epoch=id.epoch,
        width=size[0],
        height=size[1],
        objects=[cast(ResultObject, one if "box" in one else {**whole, **one}) for one in objects],
        nodes=join.nodes(),
    )
    if run:
        result["run"] = run
    if traceparent:
        result["traceparent"] = traceparent
    if group_version:
        result["group_version"] = group_version
    return result
