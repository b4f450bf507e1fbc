"""A candidate for a group: its name, its group file while it is tried and once it serves, and the rule on it. Pure.

A candidate is planned as one more group. While it is tried it has the streams of the group that serves as push streams:
nothing reads them, and their places (zones, tiles, …) stand, which decide how agents pass crops on.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

from pydantic import ValidationError

from hams_shared.errors import BadInputError, GroupSpecError
from hams_shared.group.condition_text import ConditionError
from hams_shared.group.expressions import Condition, Refused, Shape, compile_condition
from hams_shared.group.findings import describe_all
from hams_shared.group.spec import GroupSpec
from hams_shared.group.stream_spec import StreamSpec
from hams_shared.group.three_valued import Kind

Mode = Literal["shadow", "canary"]
"""shadow: it computes frames that what serves computes as well, and nothing of it is published; canary: the results of
its frames are published instead of those of what serves."""
Verdict = Literal["kept", "broken"]

SUFFIX = "--candidate"
"""Ends the name of a candidate, and of no other group."""
LONGEST = 48 - len(SUFFIX)
"""Most characters in the name of a group that gets a candidate."""
LOWEST = -100
"""Priority of a shadow, below all groups that serve."""
_MANY = 1e12
"""More frames than any rule waits for."""
_RATIO = ("p50", "p95", "p99")
_NUMBERS = {
    "frames",
    "failed",
    "skipped",
    *(f"{what}_{part}" for what in ("latency", "work") for part in _RATIO),
}
_NO_AGREEMENT = Refused(
    "no agreement is measured of a canary: its frames are computed once", "deploy with --shadow to compare results"
)


def candidate_name(group: str) -> str:
    """The name of the candidate for `group`. Raises BadInputError: that would be too long."""
    if len(group) > LONGEST:
        text = f"the name of group {group} is too long for a candidate: at most {LONGEST} characters"
        raise BadInputError(text, "deploy the group under a shorter name")
    return group + SUFFIX


def is_candidate(name: str) -> bool:
    """Whether a group of this name is a candidate."""
    return name.endswith(SUFFIX)


def check_name(name: str) -> None:
    """Raise GroupSpecError when a user's group has a candidate's name."""
    if is_candidate(name):
        text = f"name: {name!r} ends with {SUFFIX}, which names the candidate for a group"
        raise GroupSpecError(text, f"write {name.removesuffix(SUFFIX)!r} and deploy it with --shadow or --canary")


def tried_spec(spec: GroupSpec, serving: GroupSpec, mode: Mode, share: float) -> GroupSpec:
    """The group file `spec` as a candidate for `serving`, while it is tried on a `share` of its frames.

    Its target is that share of what serves, so that plans weigh its frames as what they are. A shadow has the lowest
    priority; a canary's frames are served, so it has the priority of the group.
    """
    streams = {
        name: StreamSpec(
            source="push",
            mode="live" if mode == "shadow" else one.mode,
            mask=one.mask,
            roi=one.roi,
            tiles=one.tiles,
            zones=one.zones,
            lines=one.lines,
        )
        for name, one in serving.streams.items()
    }
    return _changed(
        spec,
        name=candidate_name(serving.name),
        streams=streams,
        strategy=serving.strategy,
        priority=LOWEST if mode == "shadow" else serving.priority,
        target_fps=share * (serving.target_fps or 1.0),
        share=serving.share,
    )


def promoted_spec(tried: GroupSpec, serving: GroupSpec, own: Mapping[str, Any]) -> GroupSpec:
    """The candidate as the group that serves: with `own` keys of its file, and the streams of `serving`.

    Raises GroupSpecError: it does not go with these streams, of which a zone may be gone, for example.
    """
    return _changed(tried, name=serving.name, streams=serving.streams, **own)


def _changed(spec: GroupSpec, **keys: Any) -> GroupSpec:
    """`spec` with other keys, checked as a whole: what is derived from the keys is derived anew."""
    try:
        return GroupSpec.model_validate({**spec.model_dump(), **keys})
    except ValidationError as error:
        text = describe_all(error.errors(include_url=False), "group", GroupSpec)
        raise GroupSpecError(f"the candidate for {keys['name'].removesuffix(SUFFIX)}: {text}") from None


def canary_fits(tried: GroupSpec, serving: GroupSpec) -> str:
    """Why frames of `serving` cannot be served by the candidate one by one; empty: they can.

    Where the pipeline follows objects, or chooses what nodes look at, both must have the same nodes and rules: one
    stream has one tracker, whichever network finds the objects. Nodes with a budget answer later than their frame.
    """
    chooses = tried.chosen or serving.chosen or any(one.nodes[one.root].track for one in (tried, serving))
    if tried.slow or serving.slow:
        return f"node {min(tried.slow | serving.slow)} has a budget: its answers come later than their frame"
    if not chooses:
        return _other_views(tried, serving)
    mine, other = _rules(tried), _rules(serving)
    names = sorted(name for name in mine.keys() | other.keys() if mine.get(name) != other.get(name))
    if not names:
        return _other_views(tried, serving)
    return f"it has tracks, cadences or conditions, and not the same rules as what serves at node {', '.join(names)}"


def _other_views(tried: GroupSpec, serving: GroupSpec) -> str:
    """Why agents of the candidate would look at other parts of the frames than what serves; empty: they do not."""
    for name, one in sorted(tried.streams.items()):
        now = serving.streams.get(name, one)
        if (one.mask, one.roi, one.tiles) != (now.mask, now.roi, now.tiles):
            return f"mask, roi or tiles of stream {name} have changed: deploy the candidate again"
    if tried.chosen != serving.chosen:
        return "other nodes' objects are chosen by the pipeline now: deploy the candidate again"
    return ""


def _rules(spec: GroupSpec) -> dict[str, Any]:
    return {
        name: (node.parent, node.track, node.cadence, node.when, node.crop.labels) for name, node in spec.nodes.items()
    }


@lru_cache(maxsize=64)
def compile_rule(text: str, mode: Mode) -> Condition:
    """Compile the rule on a candidate. Raises BadInputError with the column."""
    names: dict[str, Shape] = dict.fromkeys(sorted(_NUMBERS), Kind.NUMBER)
    names["agreement"] = Kind.NUMBER if mode == "shadow" else _NO_AGREEMENT
    try:
        return compile_condition(text, names)
    except ConditionError as error:
        text = f"rule: column {error.column}: {error.message}"
        raise BadInputError(text, "see docs/candidates.md for its names") from None


def judge(rule: Condition, values: Mapping[str, float | None], after: int) -> Verdict | None:
    """Whether a rule is kept or broken once `after` frames were tried; None: not decided yet.

    A rule that only waits for more frames is not broken. One that nothing is known for, since every frame failed, is.
    """
    frames = values.get("frames") or 0.0
    if frames < after:
        return None
    found = rule.value(values)
    if found is None:
        return "broken" if values.get("failed") == 1.0 else None
    if found:
        return "kept"
    return None if rule.value({**values, "frames": _MANY}) else "broken"
