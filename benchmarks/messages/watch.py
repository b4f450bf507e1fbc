"""What must not happen while parts are fuzzed: tracebacks in the log, and memory that grows."""

from __future__ import annotations

import gc
import logging
import os
from collections import Counter
from pathlib import Path


class Tracebacks(logging.Handler):
    """Keeps the first log record of each kind that has a traceback: an error that HAMS has no name for."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.seen: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Note one record."""
        if not record.exc_info or record.exc_info[1] is None:
            return
        error, at = record.exc_info[1], record.exc_info[2]
        while at is not None and at.tb_next is not None:
            at = at.tb_next
        where = "" if at is None else f"{Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}"
        kind = f"{type(error).__name__} at {where}"
        self.seen[kind] += 1
        if kind not in self.first:
            formatter = logging.Formatter()
            self.first[kind] = f"{record.getMessage()[:300]}\n{formatter.formatException(record.exc_info)[-2500:]}"


def rss_mib() -> float:
    """Resident memory of this process, MiB, garbage collected."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
