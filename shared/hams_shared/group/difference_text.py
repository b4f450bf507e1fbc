"""A difference of two groups in words: what each change touches, and all of it in one line. Pure; shows no secrets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from hams_shared.group.camera_url import redacted
from hams_shared.group.difference import MODELS, Change, Difference, Effect, is_part
from hams_shared.group.spec import GroupSpec

LONGEST = 60
"""Longest value that is shown whole, characters."""
DIGITS = 12
"""Of a digest."""
FEW = 3
"""Entries of a list, or changes, that are shown one by one."""
ADDRESSES = ("source", "substream", "model")


class Touched(NamedTuple):
    """Changes that touch the same."""

    sentence: str
    changes: tuple[Change, ...]


def touched(found: Difference) -> list[Touched]:
    """Return what the changes touch, the strongest effects first, each with its changes."""
    parts: dict[tuple[int, str], list[Change]] = {}
    for change in found.changes:
        parts.setdefault((-change.effect.strength, _sentence(change)), []).append(change)
    return [Touched(sentence, tuple(parts[key])) for key in sorted(parts, key=lambda k: k[0]) for sentence in [key[1]]]


def stays(found: Difference, old: GroupSpec | None, new: GroupSpec) -> str:
    """Return which streams go on as they are, in a sentence; empty: there are none."""
    there = set(old.streams) & set(new.streams) if old is not None else set()
    moved = found.streams(Effect.STREAM) | {c.stream for c in found.changes if c.keys[2:] == ("paused",)}
    stay = sorted(there - moved)
    if not stay:
        return ""
    if len(stay) == len(new.streams):
        return "all streams stay: no frame is lost"
    stays, of = ("stays", "it") if len(stay) == 1 else ("stay", "them")
    return f"{_named('stream', stay)} {stays}: no frame of {of} is lost"


def summary(found: Difference) -> str:
    """Return the whole difference in one short line."""
    if not found:
        return "nothing changed"
    texts = [in_short(change) for change in found.changes[:FEW]]
    more = len(found.changes) - FEW
    return "; ".join([*texts, f"and {more} more"] if more > 0 else texts)


def in_short(change: Change) -> str:
    """Return one change in a short text."""
    if is_part(change.keys):
        word = "added" if change.old is None else "removed"
        return f"{change.keys[0][:-1]} {change.keys[1]} {word}"
    return f"{change.path}: {values(change)}"


def values(change: Change) -> str:
    """Return old and new value: ``0.5 → 0.6``; of long lists what was added and removed."""
    if change.keys[0] == MODELS:
        return f"{str(change.old)[:DIGITS]} → {str(change.new)[:DIGITS]}, another network"
    if is_part(change.keys):
        return shown(change.keys, change.old if change.new is None else change.new)
    if isinstance(change.old, list) and isinstance(change.new, list):
        text = _lists(change.old, change.new)
        if text:
            return text
    old, new = (shown(change.keys, one) for one in (change.old, change.new))
    if old == new:
        return f"{new}, with other secrets" if change.keys[-1] in ADDRESSES else f"{new}, in what is not shown"
    return f"{old} → {new}"


def shown(keys: tuple[str, ...], value: Any) -> str:
    """Return a value as a short text without secrets."""
    if value is None:
        return "none"
    if len(keys) == 2 and isinstance(value, dict):
        value = {key: one for key, one in value.items() if one not in (None, [], {}, False) and key in _TELLING}
    text = _plain(keys[-1], value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


_TELLING = ("model", "parent", "task", *ADDRESSES, "mode", "fps", "paused")
"""Keys of a whole node or stream that are shown."""


def _plain(key: str, value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_plain(name, one)}" for name, one in value.items()) or "{}"
    if isinstance(value, str):
        return redacted(value) if key in ADDRESSES else value or '""'
    return json.dumps(value, ensure_ascii=False)


def without_secrets(keys: tuple[str, ...], value: Any) -> Any:
    """Return a value of a change, as JSON, without secrets."""
    if isinstance(value, dict):
        return {key: without_secrets((*keys, key), one) for key, one in value.items()}
    return redacted(value) if isinstance(value, str) and keys[-1] in ADDRESSES else value


def _lists(old: list[Any], new: list[Any]) -> str:
    """What was added and removed, where the lists are long; empty: they are short, or of other things than texts."""
    if max(len(json.dumps(one, ensure_ascii=False)) for one in (old, new)) <= LONGEST // 2:
        return ""
    if not all(isinstance(one, str) for one in (*old, *new)):
        return f"{len(old)} → {len(new)} entries" if len(old) != len(new) else f"{len(new)} entries, others than before"
    came, went = [one for one in new if one not in old], [one for one in old if one not in new]
    if not came and not went:
        return f"{len(new)} entries in another order"
    return f"{len(old)} → {len(new)} entries: {', '.join([*_few('+', came), *_few('-', went)])}"


def _few(sign: str, names: list[str]) -> Iterator[str]:
    yield from (f"{sign}{name}" for name in names[:FEW])
    if len(names) > FEW:
        yield f"{sign}{len(names) - FEW} more"


def _named(what: str, names: Iterable[str]) -> str:
    *before, last = list(names)
    return f"{what}s {', '.join(before)} and {last}" if before else f"{what} {last}"


def _sentence(change: Change) -> str:
    """What a change touches."""
    whole = is_part(change.keys)
    if change.effect is Effect.STREAM:
        return f"stream {change.stream} {_stream(change) if whole else 'alone is opened anew'}"
    if change.effect is Effect.GRAPH:
        return _graph(change, whole)
    if change.effect is Effect.LOAD:
        return f"node {change.node}: loaded beside the old one, then switched between two frames"
    if change.effect is Effect.DECODE:
        return f"node {change.node}: its outputs are read, or its crops cut, otherwise; nothing is loaded"
    if change.keys[2:] == ("paused",):
        return f"stream {change.stream} {'pauses' if change.new else 'goes on'}"
    return _OTHERS[change.effect]


_OTHERS = {
    Effect.PLAN: "the scheduler plans anew; frames are served meanwhile",
    Effect.FRAMES: "the pipeline takes it between two frames",
    Effect.NONE: "nothing by itself: where a network comes from",
}


def _stream(change: Change) -> str:
    return "is opened" if change.old is None else "is closed"


def _graph(change: Change, whole: bool) -> str:
    if change.stream:
        what = f"stream {change.stream} {_stream(change)}, and " if whole else ""
        return f"{what}the pipeline chooses crops otherwise: the graph is switched with the plan"
    if whole and change.old is None:
        return f"node {change.node} is new: loaded beside what runs, then switched with the plan"
    if whole:
        return f"node {change.node} goes: switched with the plan"
    return f"node {change.node or change.path} is wired otherwise: loaded beside the old one, switched with the plan"
