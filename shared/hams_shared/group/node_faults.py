"""What is wrong with the nodes of a group among each other: parents, names, tracks and cadences. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

from hams_shared.group.findings import Fault
from hams_shared.group.input_sources import OBJECT
from hams_shared.group.node_spec import RESERVED_NODE_NAMES, NodeSpec

Nodes = Mapping[str, NodeSpec]
"""The nodes of a group by name."""


def faults(nodes: Nodes) -> Iterator[Fault]:
    """What is wrong with the graph, and with each node's tracks and cadence."""
    roots = [name for name, node in nodes.items() if node.parent is None]
    if len(roots) != 1:
        found = ", ".join(roots) or "none"
        yield Fault(("nodes",), f"a group has exactly one node without parent, this one has {len(roots)}: {found}")
    for name, node in nodes.items():
        yield from _place(nodes, name)
        if node.track is not None and node.parent is not None:
            yield Fault(("nodes", name, "track"), "is for the node without parent, which sees whole frames")
        if text := _cadence(nodes, node):
            yield Fault(("nodes", name, "cadence"), text)
        if text := _budget(nodes, name):
            yield Fault(("nodes", name, "budget"), text)


def ancestors(nodes: Nodes, name: str) -> list[str]:
    """The parents of a node up to the root, its own first; up to where they form a circle or end, if they do."""
    found: list[str] = []
    parent = nodes[name].parent
    while parent is not None and parent in nodes and parent not in (name, *found):
        found.append(parent)
        parent = nodes[parent].parent
    return found


def _place(nodes: Nodes, name: str) -> Iterator[Fault]:
    """What is wrong with a node's place in the group."""
    if name in RESERVED_NODE_NAMES:
        yield Fault(("nodes", name), f"a node cannot be called {name!r}: results use that key")
    parent = nodes[name].parent
    if parent is not None and parent not in nodes:
        close = difflib.get_close_matches(parent, list(nodes), n=1)
        meant = f" (did you mean {close[0]}?)" if close else ""
        yield Fault(("nodes", name, "parent"), f"its parent {parent!r} is not a node of this group{meant}")
    last = nodes[[name, *ancestors(nodes, name)][-1]].parent
    if last is not None and last in nodes:
        yield Fault(("nodes", name, "parent"), "its parents form a circle")


def _budget(nodes: Nodes, name: str) -> str:
    """Why a node whose answers come later cannot be where it is."""
    node = nodes[name]
    if node.budget is None:
        return "the task describe needs one, and a parent with track" if node.task.type == "describe" else ""
    if node.parent is None or node.cadence is None:
        return "needs a cadence, and a parent with track: its answers come later, and a track carries them on"
    below = [child for child, one in nodes.items() if one.parent == name]
    return f"a node with a budget has no children; {', '.join(below)} would wait for it" if below else ""


def _cadence(nodes: Nodes, node: NodeSpec) -> str:
    cadence, of = node.cadence, nodes.get(node.parent or "")
    if cadence is None:
        return ""
    if node.parent is None:
        if cadence.track:
            return "track is for children; a detector takes frames, seconds, auto or max"
        if node.track is None and not cadence.every_frame:
            return "needs track: boxes between two detections are predicted by the tracker"
    elif cadence.auto or cadence.max:
        return f"{'auto' if cadence.auto else 'max'} is for the detector; a child takes track, frames or seconds"
    elif of is not None and of.track is None:
        return f"needs a parent with track, which carries answers on; {node.parent} has none"
    return ""


def inputs(nodes: Nodes, chosen: frozenset[str]) -> Iterator[Fault]:
    """What is wrong with what feeds further inputs; `chosen`: nodes whose objects the pipeline chooses."""
    for name, node in nodes.items():
        for key, source in node.inputs.items():
            at = ("nodes", name, "inputs", key)
            if source.from_parent and node.parent is None:
                yield Fault(at, f"{source.text}: this node has no parent")
            elif source.from_parent and name in chosen and source.parent not in OBJECT:
                why = "of objects that tracks, cadence or when choose, only these go to a child"
                yield Fault(at, f"{source.text}: {why}: {', '.join(OBJECT)}")
