"""Processor and memory of this host, for all runtimes."""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from pathlib import Path

from hams_agents import cpus

_FLUSH = {"x86_64": (28, 0x8040), "aarch64": (0, 1 << 24)}
"""By machine: where glibc's ``fenv_t`` has the control register (MXCSR, FPCR), and the bits that flush to zero."""
_flushing = threading.local()


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


def ignore_denormals() -> None:
    """Have the calling thread take denormal numbers (below 1.2e-38 in fp32) as zero, from now on.

    A CPU computes with them up to a hundred times slower, and the inputs of some networks lead to many.
    """
    if getattr(_flushing, "on", False):
        return
    _flushing.on = True
    place, bits = _FLUSH.get(platform.machine(), (0, 0))
    try:
        libm = ctypes.CDLL("libm.so.6")
    except OSError:  # not glibc
        return
    environment = (ctypes.c_uint32 * 64)()
    libm.fegetenv(environment)
    environment[place // 4] |= bits
    libm.fesetenv(environment)
