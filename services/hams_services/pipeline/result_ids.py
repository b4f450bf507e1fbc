"""Ids of kept results, and what they say. Pure.

``<group>.<stream>.<series>.<frame>``; the parts of one that is larger than the broker takes have further
``.<making>.<index>.<count>``: parts that were made by two lives of a pipeline do not fit each other.
"""

from __future__ import annotations

from collections.abc import Sequence

WHOLE, PART = 4, 7
"""Tokens of an id."""


def result_id(group: str, stream: str, series: str, frame: int) -> str:
    """Return the id of a frame's result."""
    return f"{group}.{stream}.{series}.{frame}"


def message_ids(id: str, making: str, count: int) -> list[str]:
    """Return the ids of the messages that a result with `id` is stored as: `count` parts, or itself."""
    return [id] if count == 1 else [f"{id}.{making}.{index}.{count}" for index in range(count)]


def stored_of(ids: Sequence[str], newest: str) -> int:
    """Return how many of `ids` are stored, where `newest` is the id of their subject's newest message.

    They are stored one after the other, and nothing follows until all are.
    """
    return ids.index(newest) + 1 if newest in ids else 0


def stored_frame(id: str, series: str) -> int:
    """Return the newest frame of `series` whose result is stored whole, where `id` is of the newest stored message.

    -1: none, since it is of another series or no id of a result.
    """
    tokens = id.split(".")
    if (
        len(tokens) not in (WHOLE, PART)
        or tokens[2] != series
        or not all(t.isdecimal() for t in (tokens[3], *tokens[5:]))
    ):
        return -1
    frame = int(tokens[3])
    return frame - 1 if len(tokens) == PART and int(tokens[5]) + 1 < int(tokens[6]) else frame
