"""The shortest sequence of faults that still fails: delta debugging (Zeller and Hildebrandt, 2002, ddmin). Pure.

The one who runs a sequence is the caller: :func:`shrink` is a generator that yields sequences to try and is sent
whether each failed. The last fault fails most often alone, so suffixes come first.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeVar

T = TypeVar("T")


def shrink(failing: Sequence[T], tries: int) -> Generator[tuple[T, ...], bool, tuple[T, ...]]:
    """Return the shortest sequence found to fail in at most `tries` runs; `failing` itself if nothing shorter did."""
    best = tuple(failing)
    length = 1
    while length < len(best) and tries > 0:
        tries -= 1
        if (yield best[-length:]):
            best = best[-length:]
            break
        length *= 2
    parts = 2
    while len(best) >= 2 and tries > 0:
        size = -(-len(best) // parts)
        for start in range(0, len(best), size):
            rest = best[:start] + best[start + size :]
            if not rest or tries <= 0:
                continue
            tries -= 1
            if (yield rest):
                best, parts = rest, max(parts - 1, 2)
                break
        else:
            if size == 1:
                break
            parts = min(parts * 2, len(best))
    return best
