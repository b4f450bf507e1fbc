"""What differs between a group as it runs and as it is to run, key by key, and what each change touches. Pure.

:data:`EFFECTS` is the one table of the effect of every key of group.yaml. What is not changed is not touched; a change
with a weak effect needs nothing of a stronger one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from pydantic import BaseModel

from hams_shared.group.spec import GroupSpec

Keys = tuple[str, ...]
"""Keys from the top of the group file."""


class Effect(StrEnum):
    """What a change touches, the weakest first."""

    NONE = "none"
    """Nothing that runs: a description, or another source of the same network."""
    FRAMES = "frames"
    """The pipeline takes it between two frames; streams, tracks and galleries stay."""
    DECODE = "decode"
    """Agents read the outputs of networks, or cut crops, in another way; nothing is loaded."""
    PLAN = "plan"
    """The scheduler plans anew; frames are served meanwhile."""
    STREAM = "stream"
    """This stream alone is opened, closed, or opened anew."""
    LOAD = "load"
    """The node's network or its input changes: it is loaded beside the old one and switched between two frames."""
    GRAPH = "graph"
    """Nodes are added, removed or wired otherwise: loaded beside, switched with the plan."""

    @property
    def strength(self) -> int:
        """Its place among the effects, the weakest 0."""
        return _ORDER[self]


_ORDER = {effect: place for place, effect in enumerate(Effect)}

MODELS = "models"
"""First key of a change of a network's content; the group file has no such key."""

EFFECTS: Mapping[str, Effect] = {
    "name": Effect.GRAPH,
    "strategy": Effect.PLAN,
    "target_fps": Effect.PLAN,
    "priority": Effect.PLAN,
    "share": Effect.PLAN,
    "deadline_s": Effect.FRAMES,
    "in_flight": Effect.FRAMES,
    "results": Effect.FRAMES,
    "nodes.*": Effect.GRAPH,
    "nodes.*.model": Effect.NONE,  # where it comes from: what it is, is `models.*`
    "nodes.*.sha256": Effect.NONE,
    "nodes.*.sha384": Effect.NONE,
    "nodes.*.outputs": Effect.NONE,  # a network that is cut elsewhere has another digest
    "models.*": Effect.LOAD,
    "nodes.*.parent": Effect.GRAPH,
    "nodes.*.input": Effect.LOAD,
    "nodes.*.inputs": Effect.LOAD,
    "nodes.*.crop": Effect.DECODE,
    "nodes.*.task": Effect.DECODE,
    "nodes.*.task.type": Effect.LOAD,
    "nodes.*.task.gallery": Effect.FRAMES,
    "nodes.*.weight": Effect.PLAN,
    "nodes.*.max_wait_ms": Effect.DECODE,
    "nodes.*.pin": Effect.PLAN,
    "nodes.*.track": Effect.FRAMES,
    "nodes.*.track.low_score": Effect.DECODE,
    "nodes.*.cadence": Effect.FRAMES,
    "nodes.*.budget": Effect.PLAN,
    "nodes.*.when": Effect.FRAMES,
    "nodes.*.min_agreement": Effect.PLAN,
    "nodes.*.variants": Effect.PLAN,
    "streams.*": Effect.STREAM,
    "streams.*.source": Effect.STREAM,
    "streams.*.substream": Effect.STREAM,
    "streams.*.transport": Effect.STREAM,
    "streams.*.decode": Effect.STREAM,
    "streams.*.mode": Effect.STREAM,
    "streams.*.pace": Effect.STREAM,
    "streams.*.loop": Effect.STREAM,
    "streams.*.fps": Effect.STREAM,
    "streams.*.paused": Effect.FRAMES,
    "streams.*.gate": Effect.FRAMES,
    "streams.*.mask": Effect.FRAMES,
    "streams.*.roi": Effect.FRAMES,
    "streams.*.tiles": Effect.FRAMES,
    "streams.*.zones": Effect.FRAMES,
    "streams.*.lines": Effect.FRAMES,
    "events.rules": Effect.FRAMES,
    "events.dwell_s": Effect.FRAMES,
    "events.time_zone": Effect.FRAMES,
    "events.update_s": Effect.FRAMES,
    "events.crop": Effect.FRAMES,
}
"""The effect of each key; ``*`` is any name. A key has the effect of the longest entry that it begins with. Beyond it,
:func:`_rewires` finds the changes that decide whether agents or the pipeline give a node its work: these are `graph`.
"""
NAMED = ("nodes", "streams")
"""Maps of parts that are added and removed as a whole."""


class Network(Protocol):
    """A network of a deployed group."""

    @property
    def digest(self) -> str:
        """Of its content."""
        ...


class Deployed(Protocol):
    """A group with its networks: a :class:`hams_shared.wire.messages.group.GroupRecord`."""

    @property
    def spec(self) -> GroupSpec:
        """The group."""
        ...

    @property
    def models(self) -> Mapping[str, Network]:
        """By node."""
        ...


@dataclass(frozen=True)
class Change:
    """One key that differs. A list is one value; a map that is there on one side only is one, too."""

    keys: Keys
    old: Any
    """As in JSON; None: not there."""
    new: Any
    effect: Effect

    @property
    def path(self) -> str:
        """The keys as people write them: ``nodes.face.task.threshold``."""
        return ".".join(self.keys)

    @property
    def node(self) -> str:
        """The node that it is of; empty: of none."""
        return self.keys[1] if self.keys[0] in ("nodes", MODELS) else ""

    @property
    def stream(self) -> str:
        """The stream that it is of; empty: of none."""
        return self.keys[1] if self.keys[0] == "streams" else ""


@dataclass(frozen=True)
class Difference:
    """All changes, in the order of the group file's keys, names sorted; false where there is none."""

    changes: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes)

    def nodes(self, *effects: Effect) -> frozenset[str]:
        """Return the nodes with a change of these effects."""
        return frozenset(one.node for one in self.changes if one.effect in effects and one.node)

    def streams(self, *effects: Effect) -> frozenset[str]:
        """Return the streams with a change of these effects."""
        return frozenset(one.stream for one in self.changes if one.effect in effects and one.stream)

    @property
    def strongest(self) -> Effect:
        """The strongest effect; `none` where nothing differs."""
        return strongest(change.effect for change in self.changes)


def strongest(effects: Iterable[Effect]) -> Effect:
    """Return the strongest of `effects`; `none` of none."""
    return max(effects, key=lambda one: one.strength, default=Effect.NONE)


def difference(old: Deployed | None, new: Deployed) -> Difference:
    """Return what differs between `old`, None where nothing runs yet, and `new`.

    Version, time and person of a deployment are not compared, nor is the order of nodes and streams.
    """
    before = _nothing(new.spec.name) if old is None else _plain(old.spec)
    changes = [
        Change(keys, a, b, strongest([effect_of(keys, a, b), _rewired(old, new, keys)]))
        for keys, a, b in _walk((), before, _plain(new.spec))
    ]
    return Difference((*changes, *_networks({} if old is None else old.models, new.models)))


def _networks(old: Mapping[str, Network], new: Mapping[str, Network]) -> Iterator[Change]:
    """Networks of nodes that stay whose content differs, by digest."""
    for node in sorted(old.keys() & new.keys()):
        if old[node].digest != new[node].digest:
            yield Change((MODELS, node), old[node].digest, new[node].digest, EFFECTS["models.*"])


def effect_of(keys: Keys, old: Any, new: Any) -> Effect:
    """Return what the table gives for a change at `keys`: of a map, the strongest of all that is in it."""
    below = [] if is_part(keys) else [EFFECTS[p] for p in _below(keys, [v for v in (old, new) if isinstance(v, dict)])]
    return strongest([_of_path(keys), *below])


def _of_path(keys: Keys) -> Effect:
    for length in range(len(keys), 0, -1):
        effect = EFFECTS.get(_pattern(keys[:length]))
        if effect is not None:
            return effect
    raise KeyError(f"{'.'.join(keys)} is not in the table of effects")


def _pattern(keys: Keys) -> str:
    """The entry of the table that `keys` may have: the second key is a name in maps of parts."""
    named = keys[0] in (*NAMED, MODELS)
    return ".".join("*" if named and place == 1 else key for place, key in enumerate(keys))


def _below(keys: Keys, values: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The entries of the table within the maps `values` at `keys`."""
    prefix = _pattern(keys) + "."
    present = {prefix + key for value in values for key in value}
    return (pattern for pattern in EFFECTS if pattern.startswith(prefix) and pattern in present)


def is_part(keys: Keys) -> bool:
    """Whether a whole node or stream is at `keys`."""
    return len(keys) == 2 and keys[0] in NAMED


def _nothing(name: str) -> dict[str, Any]:
    """A group without nodes and streams, all other keys as where the group file does not give them."""
    fields = {key: one.default for key, one in GroupSpec.model_fields.items() if not one.is_required()}
    plain = {key: one.model_dump(mode="json") if isinstance(one, BaseModel) else one for key, one in fields.items()}
    return {"name": name, "nodes": {}, **plain}


def _plain(spec: GroupSpec) -> dict[str, Any]:
    data: dict[str, Any] = spec.model_dump(mode="json")
    return data


def _walk(keys: Keys, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[Keys, Any, Any]]:
    """The keys at which `old` and `new` differ, with both values: those of fields in their order, then others."""
    for key in _ordered(keys, old, new):
        a, b, here = old.get(key), new.get(key), (*keys, key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _walk(here, a, b)
        elif a != b or isinstance(a, bool) is not isinstance(b, bool):  # 1 == True
            yield here, a, b


def _ordered(keys: Keys, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    found = list({**old, **new} if keys else {**new, **old})
    return sorted(found) if len(keys) == 1 and keys[0] in NAMED else found


def _rewired(old: Deployed | None, new: Deployed, keys: Keys) -> Effect:
    return Effect.GRAPH if old is not None and _rewires(old.spec, new.spec, keys) else Effect.NONE


def _rewires(old: GroupSpec, new: GroupSpec, keys: Keys) -> bool:
    """Whether the change at `keys` decides who gives nodes their work, or whether frames wait for their answers."""
    if len(keys) < 2:
        return False
    first, name, key = keys[0], keys[1], keys[2] if len(keys) > 2 else ""
    if first == "nodes" and name in old.nodes and name in new.nodes:
        a, b = old.nodes[name], new.nodes[name]
        if key in ("when", "cadence"):
            return (name in old.chosen) != (name in new.chosen)
        if key == "budget":
            return (a.budget is None) != (b.budget is None)
        return key == "track" and (a.track is None) != (b.track is None)
    if first != "streams" or key not in ("", "mask", "roi", "tiles"):
        return False
    if all(spec.nodes[spec.root].track is not None for spec in (old, new)):
        return False  # the pipeline chooses their objects anyway
    views = [spec.streams[name].changes_view if name in spec.streams else False for spec in (old, new)]
    return views[0] != views[1] and _views(old) != _views(new)


def _views(spec: GroupSpec) -> bool:
    return any(stream.changes_view for stream in spec.streams.values())
