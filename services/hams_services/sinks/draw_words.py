"""The words of an object on a picture: the outputs of child nodes, or its own label and score."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from hams_services.sinks.draw_text import printable
from hams_services.sinks.quantity import quantity
from hams_shared.group.node_spec import RESERVED_NODE_NAMES

SEEN = 0.5
"""Flags and points with a lower score are not shown: the network found nothing there."""
BETWEEN = " · "
MOST_SHARES = 3
"""Of the classes of an image, the largest ones."""


class Words(NamedTuple):
    """One of the parts that a caption is made of."""

    text: str
    carried: bool
    """Whether it is of an earlier frame."""


def caption(one: Mapping[str, Any]) -> str:
    """Return the outputs of child nodes for an object, e.g. ``female 97% · 31 y · happy 83%``.

    Without any in words or numbers it is the object's own label and score. The outputs for objects found in it follow:
    ``car 87% · AB 123 98%``.
    """
    return BETWEEN.join(part.text for part in captions(one))


def captions(one: Mapping[str, Any]) -> list[Words]:
    """Return the parts of :func:`caption`."""
    found = [Words(text, is_carried(child)) for child in children(one) if (text := _words(child))]
    if not found and (own := _words({**one, "identity": None, "name": None})):
        found = [Words(own, one.get("predicted") is True)]
    if own := _who(one):
        found.append(Words(own, False))
    return [Words(printable(text), carried) for text, carried in [*found, *_deeper(one)]]


def children(one: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the outputs of an object's child nodes."""
    return (value for key, value in one.items() if key not in RESERVED_NODE_NAMES and isinstance(value, Mapping))


def inner_objects(child: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the objects that a child node found in an object; none where a task of one's own means something else."""
    found = child.get("objects")
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list | tuple) else []


def is_carried(child: Mapping[str, Any]) -> bool:
    """Return whether a child node's output is of an earlier frame."""
    return child.get("from_frame") is not None


def number(value: Any, default: float) -> float:
    """Return `value` if it is a finite number, else `default`."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else default


def _deeper(one: Mapping[str, Any], carried: bool = False) -> Iterator[Words]:
    """Yield the outputs for the objects that child nodes found in `one`, on all levels."""
    for child in children(one):
        old = carried or is_carried(child)
        for inner in inner_objects(child):
            for output in children(inner):
                if part := _words(output):
                    yield Words(part, old or is_carried(output))
            yield from _deeper(inner, old)


def _words(item: Mapping[str, Any]) -> str:
    if isinstance(item.get("shares"), Mapping):
        return BETWEEN.join(
            f"{label} {number(share, 0.0):.0%}" for label, share in [*item["shares"].items()][:MOST_SHARES]
        )
    text = next((item[key] for key in ("text", "label") if isinstance(item.get(key), str) and item[key]), None)
    score = item.get("score")
    if text is not None:
        return f"{text} {score:.0%}" if isinstance(score, int | float) and math.isfinite(score) else text
    value = item.get("value")
    if isinstance(value, int | float) and math.isfinite(value):
        return quantity(value, str(item.get("unit") or ""))
    if isinstance(item.get("attributes"), Mapping):
        return " ".join(_attributes(item["attributes"]))
    return _who(item)


def _who(item: Mapping[str, Any]) -> str:
    """Return the name of whom a gallery knows, else the number."""
    name = item.get("name")
    if isinstance(name, str) and name:
        return name
    return f"#{item['identity']}" if isinstance(item.get("identity"), int) else ""


def _attributes(attributes: Mapping[str, Any]) -> Iterator[str]:
    """Yield the values of classes, and the names of flags that are set."""
    for name, value in attributes.items():
        if isinstance(value, Mapping):
            yield str(value.get("label", ""))
        elif number(value, 0.0) >= SEEN:
            yield name
