"""How a job reports what it does."""

from __future__ import annotations

from typing import Protocol


class ProgressCallback(Protocol):
    """Takes what is being done and, where it is counted, how much of it is done."""

    def __call__(self, text: str, done: int = 0, total: int = 0, /) -> None:
        """Report `done` of `total` units; a `total` of 0 means that nothing is counted."""
