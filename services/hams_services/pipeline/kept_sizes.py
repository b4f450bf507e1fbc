"""How much a group has stored of its results, and which are to be discarded when it is too much. Pure.

The broker's journal is of all groups, and bounds the whole only. So the pipeline counts the bytes of each group, in
PIECES pieces, and discards the oldest piece when there is one too many. Results that the broker has discarded by their
age are counted until then, which is harmless: they are the oldest.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

PIECES = 16
OVERHEAD = 160
"""What a message takes besides its data, bytes."""


@dataclass
class KeptSizes:
    """The stored results of one group; `most`: bytes."""

    most: int
    pieces: deque[tuple[int, int]] = field(default_factory=deque)
    """Sequence of the last result of each, and its bytes."""
    newest: int = 0
    """Bytes of the piece that is being filled."""

    def load(self, pieces: Iterable[tuple[int, int]]) -> None:
        """Take over what an earlier life has counted, where the broker has not lost its store since."""
        first = self.pieces[0][0] if self.pieces else math.inf
        self.pieces.extendleft(reversed([one for one in pieces if one[0] < first]))

    def stored(self, sequence: int, size: int) -> bool:
        """Count a result of `size` bytes; return whether a piece is full: :meth:`discard` is due."""
        if self.pieces and sequence <= self.pieces[0][0]:
            self.pieces.clear()  # the broker lost its store, and counts from 1 again
        self.newest += size + OVERHEAD
        if self.newest < self.most / PIECES:
            return False
        self.pieces.append((sequence, self.newest))
        self.newest = 0
        return True

    def discard(self) -> int:
        """Forget the oldest pieces that are too much; return the first sequence that is kept, 0: all are."""
        before, total = 0, self.newest + sum(size for _, size in self.pieces)
        while self.pieces and total > self.most - self.most / PIECES:
            sequence, size = self.pieces.popleft()
            before, total = sequence + 1, total - size
        return before
