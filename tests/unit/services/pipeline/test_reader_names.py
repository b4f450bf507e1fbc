"""Which durable readers give their names up: tables."""

from __future__ import annotations

import pytest

from hams_services.pipeline.reader_names import Named, least_needed
from hams_shared.wire.messages.results import ReaderRecord


def named(key: str, revision: int, after: int, journal: str = "j") -> Named:
    return Named(key, revision, ReaderRecord(after=after, journal=journal))


A, B, C, D = named("a", 4, 120), named("b", 3, 200), named("c", 2, 99), named("d", 5, 40)
LOST, DAMAGED = named("lost", 6, 300, "before"), Named("damaged", 7, None)


@pytest.mark.parametrize(
    ("active", "first", "given_up"),
    [
        ("", 100, ["d", "lost", "damaged", "c", "b", "a"]),  # c has had all before the 100th
        ("", 0, ["lost", "damaged", "c", "b", "a", "d"]),  # nothing is stored: nobody misses anything
        ("", 500, ["c", "b", "a", "d", "lost", "damaged"]),
        ("cb", 0, ["lost", "damaged", "a", "d"]),
    ],
)
def test_who_gives_its_name_up(active: str, first: int, given_up: list[str]) -> None:
    assert [one.key for one in least_needed([A, B, C, D, LOST, DAMAGED], active, first, "j")] == given_up
