"""What a child process may use, and where it may write; the process sets this itself before it reads anything foreign.

Memory, CPU time and file sizes are the kernel's resource limits. Files and sockets: :mod:`hams_shared.runtime.confine`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hams_shared.runtime.confine import confine


@dataclass(frozen=True)
class Limits:
    """Limits of one child process; 0 means that there is none. The defaults suit a process that reads foreign files."""

    memory_mib: int = 8192
    """Address space; a runtime maps more than it uses."""
    cpu_s: int = 1800
    file_mib: int = 4096
    """Size of one file that the process writes."""
    open_files: int = 512
    wall_s: float = 1800.0
    """Deadline of one request; the parent enforces it."""
    nice: int = 10
    confine: bool = True
    """Whether to confine writing to the process's folder, where the kernel can, and to take all networks from it."""
    writable: tuple[str, ...] = ()
    """More files and folders that it may write, where it is confined: devices."""
    readable: tuple[str, ...] | None = None
    """Files and folders that it may read besides those that it may write, where it is confined; None: all."""
    mapped: bool = True
    """Whether the memory limit is that of the address space; else that of what it writes to: drivers map far more."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


UNLIMITED = Limits(memory_mib=0, cpu_s=0, file_mib=0, open_files=0, nice=0, confine=False)
"""For a child process that reads only our own files; its requests still have a deadline."""


def apply(limits: Limits, folder: Path) -> bool:
    """Set the limits of this process and its children; return whether writing is confined to `folder`."""
    with suppress(ImportError):  # Windows
        import resource

        _lower(resource.RLIMIT_CORE, 0, 0)
        for what, value in (
            (resource.RLIMIT_FSIZE, limits.file_mib << 20),
            (resource.RLIMIT_NOFILE, limits.open_files),
        ):
            if value:
                _lower(what, value, value)
        if limits.cpu_s:
            _lower(resource.RLIMIT_CPU, limits.cpu_s, limits.cpu_s + 5)
        os.nice(limits.nice)
    limit_memory(limits.memory_mib, mapped=limits.mapped)
    if limits.confine:  # where memory runs out, the kernel ends this process before others
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
    return limits.confine and confine([folder, *limits.writable], limits.readable, sockets=False)


def limit_memory(mib: int, *, mapped: bool = True) -> None:
    """Limit the address space of this process to `mib` MiB, or only what it writes to (`mapped` false); 0: no limit.

    A GPU driver maps far more than it uses (CUDA: 17 GB), so processes that use one limit what they write to.
    """
    if mib:
        with suppress(ImportError):  # Windows
            import resource

            _lower(resource.RLIMIT_AS if mapped else resource.RLIMIT_DATA, mib << 20, mib << 20)


def _lower(what: int, soft: int, hard: int) -> None:
    """Set a limit, never above the present one."""
    import resource

    known = resource.getrlimit(what)[1]
    if known != resource.RLIM_INFINITY:
        soft, hard = min(soft, known), min(hard, known)
    resource.setrlimit(what, (soft, hard))
