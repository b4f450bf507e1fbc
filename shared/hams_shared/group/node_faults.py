"""What is wrong with the nodes of a group among each other: parents, names, tracks and cadences. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

from hams_shared.group.findings import Fault
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
