"""Conditions in a group file: the names that they may use, what is wrong with them, and the values of names. Pure.

A child's ``when`` is about its parent's object; that of an event rule about an object that the root node found.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from math import hypot
from typing import Any

from hams_shared.group.condition_text import ConditionError
from hams_shared.group.event_rules import EventsSpec
from hams_shared.group.expressions import Condition, Fields, Refused, Shape, Texts, compile_condition
from hams_shared.group.findings import Fault
from hams_shared.group.node_faults import Nodes, ancestors
from hams_shared.group.regions import Regions
from hams_shared.group.three_valued import Kind

TRACKED = ("track", "age_s", "velocity", "predicted", "zones")
"""What objects have of the tracker; those found in a crop take it from the object around them."""
_BOX = ("x0", "y0", "x1", "y1", "width", "height", "area", "cx", "cy")
_EMBEDDING = Refused("embeddings cannot be used in conditions", "rules of events know identity and similarity")


def child_condition(nodes: Nodes, child: str, zones: Iterable[str] | None = None) -> Condition | None:
    """The compiled ``when`` of a child; None: it has none. Raises ConditionError; not of circles (see `faults`)."""
    text = nodes[child].when
    return None if text is None else check(text, nodes, child, zones)


def rule_condition(text: str, nodes: Nodes, zones: Iterable[str] | None = None) -> Condition:
    """The compiled ``when`` of an event rule. Raises ConditionError."""
    root = next(name for name, node in nodes.items() if node.parent is None)
    names: dict[str, Shape] = {}
    for name, node in nodes.items():
        if node.parent == root:
            names[name] = _output()
        elif name == root:
            names[name] = Refused(f"events are of objects of {root}", "write score, label … without it")
        else:
            advice = f"nodes that run on objects of {root}: {_listed(n for n in nodes if nodes[n].parent == root)}"
            names[name] = Refused(f"events are of objects of {root}, {name} runs on those of {node.parent}", advice)
    return compile_condition(text, names | _object(nodes, root, zones))


def check(text: str, nodes: Nodes, child: str, zones: Iterable[str] | None = None) -> Condition:
    """Compile `text` as the condition of `child`; `zones`: all there are, if what it compares is to be one of them.

    Raises:
        ConditionError: it is not in the language, or refers to what a condition of `child` cannot know.
    """
    above = ancestors(nodes, child)
    siblings = _siblings(nodes, child)
    names: dict[str, Shape] = {}
    for name, node in nodes.items():
        if name in above:
            names[name] = _above(nodes, name, child)
        elif name in siblings:
            names[name] = _output()
        elif name == child:
            names[name] = Refused(f"{name} refers to itself", "a condition is evaluated before its node runs")
        elif child in ancestors(nodes, name):
            names[name] = Refused(f"{name} runs on what {child} finds", "a condition is evaluated before its node runs")
        else:
            names[name] = Refused(
                f"{name} is neither a sibling nor an ancestor of {child}: it runs on what {node.parent} finds",
                f"there are: {_listed({*above, *siblings})}",
            )
    return compile_condition(text, names | _object(nodes, child, zones))


def waits_for(condition: Condition, nodes: Nodes, child: str) -> tuple[str, ...]:
    """The siblings whose outputs the condition of `child` needs, in file order."""
    return tuple(name for name in _siblings(nodes, child) if name in condition.names)


def faults(nodes: Nodes, streams: Mapping[str, Regions], events: EventsSpec) -> Iterator[Fault]:
    """What is wrong with the conditions of children and of event rules, and with zones that events name."""
    zones = frozenset(zone for stream in streams.values() for zone in stream.zones) if streams else None
    found: dict[str, Condition] = {}
    for name, node in nodes.items():
        if node.when is None:
            continue
        path = ("nodes", name, "when")
        if node.parent is None:
            yield Fault(path, "is for children; for whole frames there is gate of a stream, for events when of a rule")
            continue
        try:
            found[name] = check(node.when, nodes, name, zones)
        except ConditionError as error:
            yield Fault(path, error.message, error.column)
    yield from _circles(nodes, found)
    yield from _events(nodes, zones, events)


def _circles(nodes: Nodes, found: Mapping[str, Condition]) -> Iterator[Fault]:
    """Siblings that wait for each other: a fault of each of them."""
    waits = {name: waits_for(condition, nodes, name) for name, condition in found.items()}
    for name in found:
        way = _way(waits, name)
        if way:
            shown = " → ".join((name, *way))
            text = f"{way[0]} waits for {name}, too: {shown} (leave one of these references out)"
            yield Fault(("nodes", name, "when"), text, found[name].uses[way[0]])


def _way(waits: Mapping[str, tuple[str, ...]], name: str) -> tuple[str, ...]:
    """The shortest way from a node back to it, without its beginning; empty: there is none."""
    ways: list[tuple[str, ...]] = [(one,) for one in waits[name]]
    seen: set[str] = set()
    for way in ways:
        if way[-1] == name:
            return way
        if way[-1] not in seen:
            seen.add(way[-1])
            ways += [(*way, one) for one in waits.get(way[-1], ())]
    return ()


def _events(nodes: Nodes, zones: frozenset[str] | None, events: EventsSpec) -> Iterator[Fault]:
    roots = [name for name, node in nodes.items() if node.parent is None]
    for key in ("rules", "dwell_s"):
        if getattr(events, key) and len(roots) == 1 and nodes[roots[0]].track is None:
            text = f"needs track of node {roots[0]}: events are of objects that are followed (write track: {{}} there)"
            yield Fault(("events", key), text)
    for name, rule in events.rules.items():
        for index, zone in enumerate(rule.zones):
            yield from _unknown_zone(zone, zones, ("events", "rules", name, "zones", index))
        if rule.when is not None and len(roots) == 1:
            try:
                rule_condition(rule.when, nodes, zones)
            except ConditionError as error:
                yield Fault(("events", "rules", name, "when"), error.message, error.column)
    for zone in events.dwell_s:
        yield from _unknown_zone(zone, zones, ("events", "dwell_s", zone))


def _unknown_zone(zone: str, zones: frozenset[str] | None, path: tuple[str | int, ...]) -> Iterator[Fault]:
    if zones is None or zone in zones:
        return
    close = difflib.get_close_matches(zone, sorted(zones), n=1)
    advice = f"did you mean {close[0]}?" if close else f"there are: {_listed(zones)}"
    yield Fault(path, f"no stream of this group has a zone {zone!r} ({advice})")


def _siblings(nodes: Nodes, child: str) -> tuple[str, ...]:
    parent = nodes[child].parent
    return tuple(name for name, node in nodes.items() if node.parent == parent and name != child)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _output(refused: Mapping[str, Refused] | None = None) -> Fields:
    """What a node outputs: any fields, which its task decides."""
    return Fields({"embedding": _EMBEDDING, **(refused or {})}, open=True)


def _above(nodes: Nodes, name: str, child: str) -> Fields:
    """What an ancestor of `child` outputs: its object has the outputs of other nodes, too, which have names here."""
    refused = {"zone": Refused(f"{name} has no field zone", f"write zone, or 'NAME' in {name}.zones")}
    siblings = _siblings(nodes, child)
    for one, node in nodes.items():
        if node.parent == name and one in siblings:
            refused[one] = Refused(f"{one} is a node, not a field of {name}", f"write {one}, without {name}")
        elif node.parent == name:
            refused[one] = Refused(f"{one} is neither a sibling nor an ancestor of {child}")
    return _output(refused)


def _object(nodes: Nodes, node: str, zones: Iterable[str] | None) -> dict[str, Shape]:
    """Names of the object itself, without the outputs of nodes about it."""
    known = None if zones is None else frozenset(zones)
    names: dict[str, Shape] = {
        "score": Kind.NUMBER,
        "label": Kind.TEXT,
        "box": Fields(dict.fromkeys(_BOX, Kind.NUMBER)),
        "age_s": Kind.NUMBER,
        "track": Kind.NUMBER,
        "velocity": Fields(dict.fromkeys(("x", "y", "speed"), Kind.NUMBER)),
        "predicted": Kind.TRUTH,
        "zone": Texts(known, each=True),
        "zones": Texts(known),
        "frame": Fields(dict.fromkeys(("width", "height"), Kind.NUMBER)),
    }
    root = [node, *ancestors(nodes, node)][-1]
    if nodes[root].track is None:
        untracked = Refused(f"objects of {root} are not followed", f"write track: {{}} at node {root}")
        names |= dict.fromkeys(("age_s", "track", "velocity"), untracked)
    return names


def object_values(
    found: Mapping[str, Any], size: tuple[int, int], around: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """What the names of a condition stand for, for one object of a result.

    `found`: the object, with the outputs of the nodes that ran on it; `size`: width and height of its frame, pixels;
    `around`: by node, the parent's own output and the objects that contain this one, with `box` as results have it,
    from the root on. Nothing in them is changed.
    """
    values = _named(found)
    values["frame"] = {"width": size[0], "height": size[1]}
    for name, one in (around or {}).items():
        above = values[name] = _named(one)
        for key in TRACKED:
            if key in above and key not in found:
                values[key] = above[key]
    values.setdefault("predicted", False)
    values["zone"] = values.get("zones")
    return values


def _named(found: Mapping[str, Any]) -> dict[str, Any]:
    """A copy whose box and velocity have fields."""
    values = dict(found)
    box, velocity = values.get("box"), values.get("velocity")
    if isinstance(box, list | tuple) and len(box) == 4:
        x0, y0, x1, y1 = box
        width, height = x1 - x0, y1 - y0
        values["box"] = {
            "x0": x0, "y0": y0, "x1": x1, "y1": y1, "width": width, "height": height, "area": width * height,
            "cx": (x0 + x1) / 2, "cy": (y0 + y1) / 2,
        }  # fmt: skip
    if isinstance(velocity, list | tuple) and len(velocity) == 2:
        values["velocity"] = {"x": velocity[0], "y": velocity[1], "speed": hypot(*velocity)}
    return values
