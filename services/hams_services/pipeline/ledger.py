"""The frame ledger: every frame ends as exactly one of delivered, gated, dropped(reason), failed(reason). Pure.

The invariant, at all times and checked by :meth:`Ledger.validate`:

    submitted = delivered + gated + dropped + failed + in flight
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


class LedgerError(AssertionError):
    """A frame was closed twice or never opened: a defect, never a condition of the outside world."""


@dataclass
class Ledger:
    """The account of one stream's frames."""

    submitted: int = 0
    delivered: int = 0
    gated: int = 0
    """Not computed, since nothing moved."""
    dropped: Counter[str] = field(default_factory=Counter)
    """By reason."""
    failed: Counter[str] = field(default_factory=Counter)
    """By reason."""
    open: set[int] = field(default_factory=set)
    """Frames in flight."""
    _next: int = 0

    def submit(self) -> int:
        """Open the next frame and return its number; frames count from 0."""
        frame = self._next
        self._next += 1
        self.submitted += 1
        self.open.add(frame)
        return frame

    def resume(self, frame: int, gated: int, dropped: Mapping[str, int], failed: Mapping[str, int]) -> None:
        """Go on at `frame` with the counts of an earlier life: what was not left out was delivered."""
        self._next = self.submitted = frame
        self.gated, self.dropped, self.failed = gated, Counter(dropped), Counter(failed)
        others = self.gated + self.dropped.total() + self.failed.total()
        if others > frame:  # some of the frames that come again had ended so
            self.gated, self.dropped, self.failed, others = 0, Counter(), Counter(), 0
        self.delivered = frame - others

    def withdraw(self, reason: str) -> None:
        """A frame that was delivered is dropped after all: nobody got its result. Raises LedgerError: none was."""
        if not self.delivered:
            raise LedgerError("no frame was delivered")
        self.delivered -= 1
        self.dropped[reason] += 1

    def deliver(self, frame: int) -> None:
        """Close `frame` as delivered. Raises LedgerError when it is not open."""
        self._close(frame)
        self.delivered += 1

    def gate(self, frame: int) -> None:
        """Close `frame` as not computed. Raises LedgerError when it is not open."""
        self._close(frame)
        self.gated += 1

    def drop(self, frame: int, reason: str) -> None:
        """Close `frame` as dropped on purpose. Raises LedgerError when it is not open."""
        self._close(frame)
        self.dropped[reason] += 1

    def fail(self, frame: int, reason: str) -> None:
        """Close `frame` as failed. Raises LedgerError when it is not open."""
        self._close(frame)
        self.failed[reason] += 1

    def _close(self, frame: int) -> None:
        if frame not in self.open:
            raise LedgerError(f"frame {frame} is not in flight")
        self.open.remove(frame)

    def validate(self) -> None:
        """Raise LedgerError unless frames are conserved."""
        closed = self.delivered + self.gated + self.dropped.total() + self.failed.total()
        if self.submitted != closed + len(self.open):
            raise LedgerError(f"{self.submitted} submitted, {closed} closed, {len(self.open)} in flight")
