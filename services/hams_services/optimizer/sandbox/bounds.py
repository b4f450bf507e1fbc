"""When the work of a job must end: it was cancelled, or its budget is spent."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field

from hams_shared.errors import BadInputError, DeadlineError

POLL_S = 0.25
"""How often who waits for a child process looks whether it must end, s."""


@dataclass
class Bounds:
    """Shared by all that a job starts; :meth:`cancel` may be called in any thread."""

    until: float = math.inf
    """When the budget is spent, monotonic s."""
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """End what is under way; nothing new begins."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether it was."""
        return self._cancelled.is_set()

    @property
    def spent(self) -> bool:
        """Whether the budget is."""
        return time.monotonic() >= self.until

    def check(self, what: str) -> None:
        """Raise BadInputError when the job was cancelled, DeadlineError when `what` has no time left."""
        if self.cancelled:
            raise BadInputError("cancelled")
        if self.spent:
            raise DeadlineError(f"{what}: the budget is spent", "a larger --budget")
