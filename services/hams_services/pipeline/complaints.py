"""Why frames of a stream failed: the newest reason for `status`, and not all of them in the log."""

from __future__ import annotations

import logging
from dataclasses import dataclass


@dataclass
class Complaints:
    """Of the stream called `name`."""

    name: str
    log: logging.LoggerAdapter[logging.Logger]
    text: str = ""
    """Why the newest failed frame failed."""

    def take(self, frame: int, why: str, failures: int, error: Exception | None = None) -> None:
        """Take a failed frame, the one that makes them `failures`; `error`: with its traceback in the log."""
        self.text = f"frame {frame} failed: {why}"
        if failures & (failures - 1) == 0:  # 1, 2, 4, 8 …: a broken node does not fill the log
            self.log.warning("stream %s: %s (%d so far)", self.name, self.text, failures, exc_info=error)
