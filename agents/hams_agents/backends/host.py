"""What this host has and what this process uses of it: processor, memory."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

from hams_agents.devices import allowed_cores


def cpu_name() -> str:
    """Return the processor's own name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def memory_mib() -> int:
    """Return the memory of this host, or the container's limit where that is less, MiB."""
    total: int = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        limit = "max"
    if limit.isdigit():
        total = min(total, int(limit))
    return total // 2**20


def memory_share_mib(cores: tuple[int, ...]) -> int:
    """Return the part of the memory that a device pinned to `cores` may count on, MiB; none: all of it."""
    if not cores:
        return memory_mib()
    every = os.cpu_count() or len(allowed_cores())
    return memory_mib() * len(cores) // max(every, len(cores))


def trim() -> None:
    """Give freed memory back to the system, so that resident memory means memory in use."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # not glibc
        return
