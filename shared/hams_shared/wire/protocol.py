"""Which messages parts understand. Pure.

A protocol's number grows when a message changes so that a part of the number before would refuse or misread it. A
field that may be missing, or a key of group files that travels only where it is used, changes nothing. Parts state the
range that they speak, oldest and newest; two parts work together where their ranges meet, so that a system is upgraded
part by part. Parts from before numbers were counted state none, which is 0.
"""

from __future__ import annotations

SPOKEN = (0, 1)
"""The oldest and the newest protocol of this version."""

HISTORY = {
    0: "before protocols were counted (until 2026-11-30)",
    1: "group records leave out what has its default; parts state their protocol",
}


def common(one: tuple[int, int], other: tuple[int, int]) -> int | None:
    """Return the newest protocol that both ranges (oldest, newest) hold; None: they do not meet."""
    newest = min(one[1], other[1])
    return newest if newest >= max(one[0], other[0]) else None


def misfit(part: str, version: str, spoken: tuple[int, int]) -> str:
    """Return why this version cannot work with `part`, and which is to be upgraded; empty: it can."""
    if common(spoken, SPOKEN) is not None:
        return ""
    older = "upgrade it" if spoken[1] < SPOKEN[0] else "upgrade the rest of the system first"
    return f"{part} {version or 'of an unknown version'} speaks protocol {_text(spoken)}, this {_text(SPOKEN)}: {older}"


def _text(spoken: tuple[int, int]) -> str:
    return str(spoken[0]) if spoken[0] == spoken[1] else f"{spoken[0]} to {spoken[1]}"
