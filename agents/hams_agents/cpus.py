"""How much CPU this process may use: its affinity, and the quota and the cpuset of its control groups (v1 and v2).

A container with ``--cpus 2`` on a host of 16 cores sees all 16: with a thread for each it is stopped for most of every
tenth of a second. So threads are as many as the quota gives whole cores.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
NICE = 10
"""How far threads that give way are behind the others (nice): they get about a tenth of a core that both want."""


@dataclass(frozen=True)
class Cpus:
    """CPUs that a process may use."""

    present: int
    """Cores of the host."""
    allowed: frozenset[int]
    """Cores it may run on, by affinity and cpuset."""
    quota: float | None = None
    """Cores whose time its control groups give it, maybe a part of one; None: no limit."""
    cpuset: frozenset[int] | None = None
    """Cores of its control group's cpuset; None: unknown."""

    @property
    def count(self) -> int:
        """Cores that can be busy all the time: threads that compute at once."""
        return self.within(len(self.allowed))

    @property
    def time(self) -> float:
        """Cores whose time it may use, maybe a part of one."""
        return len(self.allowed) if self.quota is None else min(len(self.allowed), self.quota)

    def within(self, cores: int) -> int:
        """As many of `cores` as the quota lets be busy all the time, one at least."""
        return max(1, cores if self.quota is None else min(cores, int(self.quota + 0.01)))

    def limit(self, pinned: int = 0) -> str:
        """Return what limits a device's (or its `pinned`) cores: ``2 of 16 cores (cgroup quota)``; empty: nothing."""
        whole = pinned or self.present
        usable = self.within(pinned) if pinned else self.count
        if usable >= whole:
            return ""
        if usable < (pinned or len(self.allowed)):
            why = "cgroup quota"
        else:
            why = "cgroup cpuset" if self.cpuset == self.allowed else "affinity"
        return f"{usable} of {whole} cores ({why})"

    def __str__(self) -> str:
        return self.limit() or f"{self.present} core{'s' * (self.present != 1)}"


@functools.cache
def here() -> Cpus:
    """Return the CPUs that this process could use at the first call; call it before pinning."""
    return detect(os.cpu_count() or 1, _affinity(), ROOT)


def detect(present: int, affinity: frozenset[int], root: Path) -> Cpus:
    """Read the control groups of this process below `root`."""
    quotas = [quota for folder in _folders(root, "cpu") if (quota := _quota(folder)) is not None]
    sets = [cores for folder in _folders(root, "cpuset") if (cores := _cpuset(folder)) is not None]
    cpuset = frozenset.intersection(*sets) if sets else None
    allowed = affinity & cpuset if cpuset is not None and affinity & cpuset else affinity
    return Cpus(max(present, len(allowed)), allowed, min(quotas, default=None), cpuset)


def memory_limit(root: Path = ROOT) -> int | None:
    """The least memory limit of this process's control groups, bytes; None: no limit."""
    texts = [
        text
        for folder in _folders(root, "memory")
        for name in ("memory.max", "memory.limit_in_bytes")
        if (text := _read(folder / name)).isdigit()
    ]
    return min(map(int, texts), default=None)


def _affinity() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's group and of those above it, for `controller`.

    In a container without a namespace for control groups the path is the host's, and what is mounted begins at the
    container's own group: so what does not exist is passed over, and the mount itself is always looked at.
    """
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        listed, _, path = rest.partition(":")
        if number == "0" and not listed:
            tops = [mount, mount / "unified"]
        elif controller in listed.split(","):
            tops = [mount / listed, mount / controller]
        else:
            continue
        inner = Path(path.lstrip("/"))
        for top in tops:
            for part in (inner, *inner.parents):
                if ".." not in part.parts and (top / part).is_dir():
                    yield top / part


def _quota(folder: Path) -> float | None:
    """The quota of one group, cores."""
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    if not quota:
        quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    if not quota.isdigit() or not period.isdigit() or not int(quota) or not int(period):
        return None  # "max", "-1", or no such file
    return int(quota) / int(period)


def _cpuset(folder: Path) -> frozenset[int] | None:
    """The cpuset of one group; None where it has none of its own."""
    for name in ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"):
        text = _read(folder / name)
        if text:
            try:
                return frozenset(_cores(text))
            except ValueError:
                return None
    return None


def _cores(text: str) -> Iterator[int]:
    """Cores of a list such as ``0-3,8``."""
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def give_way() -> None:
    """Have the calling thread, and those that it starts, give way to the device's other threads, from now on.

    On Linux each thread has a nice value of its own, which its children inherit; only root may lower it again.
    """
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
