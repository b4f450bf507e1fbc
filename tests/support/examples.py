"""How many examples hypothesis makes: see the profiles in tests/conftest.py."""

from __future__ import annotations

from hypothesis import settings

USUAL = 100
"""`max_examples` of the profile of fast tests."""


def examples(count: int, **other: object) -> settings:
    """`count` examples in fast tests; in thorough ones more, in proportion. `other`: as :class:`settings` takes it."""
    return settings(max_examples=max(1, count * settings().max_examples // USUAL), **other)  # type: ignore[arg-type]
