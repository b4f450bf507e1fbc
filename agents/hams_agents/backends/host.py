"""Processor and memory of this host, and this process's use of them."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

from hams_agents import cpus


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
    return min(total, cpus.memory_limit() or total) // 2**20


def memory_share_mib(cores: tuple[int, ...]) -> int:
    """Return the part of the memory that a device pinned to `cores` may count on, MiB; none: all of it."""
    if not cores:
        return memory_mib()
    return memory_mib() * len(cores) // max(len(cpus.here().allowed), len(cores))


def release_memory() -> None:
    """Give freed memory back to the system, so that resident memory means memory in use."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # not glibc
        return
