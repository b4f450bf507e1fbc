"""The join: the outputs of all nodes for one frame become one result. Pure.

Outputs arrive in any order. A frame is complete when every node of the group has answered, which it does even when it
had no crops. Objects of the root are the result's ``objects``; a describing child adds its map under its own name to
the object it looked at; a detecting child adds ``{"objects": […]}``, whose entries its own children extend likewise. A
describing node may tell parts of what it looked at, as ``objects`` in its map: its children extend those.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hams_shared.errors import MessageError
from hams_shared.group.spec import GroupSpec
from hams_shared.wire.frames import Output


@dataclass
class Join:
    """Gathers one attempt at one frame."""

    spec: GroupSpec
    outputs: dict[str, Output] = field(default_factory=dict)

    def add(self, output: Output) -> bool:
        """Take a node's output; True when it was the last one missing. A second answer of a node is ignored."""
        if output.node in self.spec.nodes:
            self.outputs.setdefault(output.node, output)
        return len(self.outputs) == len(self.spec.nodes)

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
                    raise MessageError(f"node {child} speaks of object {source}, its parent found {len(objects)}")
                if isinstance(item, list):
                    objects[source][child] = {"objects": item}
                    found += item
                else:
                    objects[source][child] = item
                    found += _parts(item)
            self._extend(child, found)

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Per node: its device and timings in ms."""
        return {name: {"device": o.device, **o.timing} for name, o in sorted(self.outputs.items())}


def _parts(item: Any) -> list[dict[str, Any]]:
    """Return the parts that a describing node's map tells."""
    parts = item.get("objects") if isinstance(item, dict) else None
    return parts if isinstance(parts, list) else []
