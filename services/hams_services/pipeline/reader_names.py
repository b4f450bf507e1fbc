"""Which durable readers of a group give their names up where it has too many. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

from hams_shared.wire.messages.results import ReaderRecord


@dataclass(frozen=True)
class Named:
    """A reader that has a name, as the broker stores it."""

    key: str
    revision: int
    """Grows with each write of the bucket: the least is of the reader that has moved least lately."""
    place: ReaderRecord | None
    """None: it cannot be read."""


def least_needed(readers: Iterable[Named], active: Container[str], first: int, journal: str) -> list[Named]:
    """Return the readers that may be forgotten, those that need their place least first.

    First come readers that missed results: what followed their place was discarded. Then those that have not moved for
    the longest time. Those whose keys are `active` are not among them.

    Args:
        first: sequence of the group's oldest stored result; 0: none is stored.
        journal: the present one; places in another were lost with it.
    """

    def order(one: Named) -> tuple[bool, int]:
        place = one.place
        missed = place is None or place.journal not in ("", journal) or place.after + 1 < first
        return not missed, one.revision

    return sorted((one for one in readers if one.key not in active), key=order)
