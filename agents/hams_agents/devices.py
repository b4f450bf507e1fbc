"""Device names as people type them: ``openvino:CPU@0``, ``onnxruntime:CUDA:0``, ``emulated:PROFILE.yaml``.

Nothing heavy is imported here, so that an agent can parse its name and pin itself before a runtime starts
threads.

=====================  ==========  ==============================================================
text                   unit        meaning
=====================  ==========  ==============================================================
``openvino:CPU``       ``cpu``     all cores this process may use (:mod:`hams_agents.cpus`)
``openvino:CPU@0``     ``cpu0``    core 0 only
``openvino:CPU@0-3``   ``cpu0-3``  cores 0 to 3
``openvino:CPU@0,2``   ``cpu0_2``  cores 0 and 2
``openvino:GPU.1``     ``gpu1``    OpenVINO's second GPU
``openvino:NPU``       ``npu``     the NPU
``onnxruntime:CUDA:0`` ``cuda0``   the first NVIDIA GPU
``emulated:vpu.yaml``  its name    a device that keeps a stated speed profile
``NAME:TARGET``        its own     a device of the plug-in NAME (:mod:`hams_agents.backend_types`)
=====================  ==========  ==============================================================

``@cores`` behind a device that is not a CPU pins the process that feeds it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from hams_agents import backend_types, cpus
from hams_shared.errors import DeviceSpecError
from hams_shared.wire import subjects

MOST_LANES = 8
MOST_REQUESTS = 4
"""Lanes of a GPU or NPU; each takes a thread of the host and memory of the device."""
_CORES = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")


@dataclass(frozen=True)
class DeviceSpec:
    """A parsed device name."""

    backend: str
    """Its name: ``openvino``, ``onnxruntime``, ``emulated`` or that of a plug-in."""
    target: str
    """The unit as its runtime names it (``CPU``, ``GPU.1``, ``CUDA:0``), or the path of the emulation profile."""
    unit: str
    """The unit's short name, a subject token."""
    cores: tuple[int, ...] = ()
    """Cores the process is to be pinned to, ascending; empty: not pinned."""

    def __str__(self) -> str:
        pinned = f"@{_ranges(self.cores, ',')}" if self.cores else ""
        return f"{self.backend}:{self.target}{pinned}"

    @property
    def threads(self) -> int:
        """CPU threads to compute with: one per pinned or allowed core, within the quota."""
        return cpus.here().within(len(self.cores) or len(allowed_cores()))

    @property
    def limit(self) -> str:
        """The limit that keeps it from all of its cores, as text; empty: none."""
        return cpus.here().limit(len(self.cores))

    def device_id(self, host: str) -> str:
        """Return the device's name in the system, ``host.backend.unit``."""
        return ".".join(subjects.token(part) for part in (host, self.backend, self.unit))


def parse(text: str) -> DeviceSpec:
    """Parse a device name; of an emulated one the profile is read as well.

    Raises:
        DeviceSpecError: it is not a device name, this host lacks such a core, or the profile is missing or
        wrong.
    """
    name, colon, rest = text.strip().partition(":")
    if not colon or not rest:
        raise DeviceSpecError(f"device {text!r} is not BACKEND:TARGET", backend_types.EXAMPLES)
    backend = name.lower()
    target, cores = _split_cores(text, rest)
    try:
        target, unit = backend_types.parse(backend, target)
    except DeviceSpecError as error:
        raise DeviceSpecError(f"device {text!r}: {error.text}", error.hint) from error
    return DeviceSpec(backend, target, unit + _ranges(cores, "_") if unit == "cpu" else unit, cores)


def lanes(threads: int) -> int:
    """Return how many inferences a CPU with that many threads computes at a time, each with an equal part of them.

    One thread per inference wastes none; beyond `MOST_LANES` their working sets push each other out of the caches. At
    most a tenth of the threads is left over.
    """
    return max(n for n in range(1, min(threads, MOST_LANES) + 1) if n * (threads // n) >= 0.9 * threads)


def request_lanes(requests: int, threads: int) -> int:
    """Return how many inferences a GPU or NPU computes at a time that needs so many `requests` to be busy.

    Their inputs are prepared in the lanes, so there are no more than `threads` of the host.
    """
    return max(1, min(requests, threads, MOST_REQUESTS))


def allowed_cores() -> frozenset[int]:
    """Return the cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def pin(cores: Iterable[int]) -> None:
    """Bind this process, all its threads and those they start later, to `cores`; none: leave it as it is.

    Call it first thing: a runtime asks how many cores there are when it starts its threads.

    Raises:
        DeviceSpecError: the system refuses.
    """
    wanted = frozenset(cores)
    if not wanted:
        return
    if not hasattr(os, "sched_setaffinity"):
        raise DeviceSpecError("this system cannot pin a process to cores", "name the device without @cores")
    try:
        for task in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(task), wanted)
    except OSError as error:
        raise DeviceSpecError(
            f"cannot pin to cores {_ranges(tuple(sorted(wanted)), ',')}: {error.strerror}", _core_hint()
        ) from error


def pin_thread(cores: Iterable[int]) -> None:
    """Bind the calling thread, and those it starts later, to `cores`; none: leave it as it is."""
    wanted = frozenset(cores)
    if wanted and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, wanted)


def _split_cores(text: str, rest: str) -> tuple[str, tuple[int, ...]]:
    """Split ``target@cores``. A target that is a path may hold an ``@`` of its own."""
    target, at, listed = rest.rpartition("@")
    if not at or (not _CORES.fullmatch(listed) and re.search(r"[./]", listed)):
        return rest, ()
    if not _CORES.fullmatch(listed):
        raise DeviceSpecError(f"device {text!r}: {listed!r} is not a list of cores", "write @0, @0-3 or @0,2")
    cores: set[int] = set()
    for part in listed.split(","):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if low > high or high > 4095:
            raise DeviceSpecError(f"device {text!r}: {part!r} is not a range of cores", "write @0-3")
        cores.update(range(low, high + 1))
    missing = sorted(cores - allowed_cores())
    if missing:
        raise DeviceSpecError(f"device {text!r}: no core {_ranges(tuple(missing), ',')} for us here", _core_hint())
    return target, tuple(sorted(cores))


def _core_hint() -> str:
    return f"this process may use core {_ranges(tuple(sorted(allowed_cores())), ',')}"


def _ranges(cores: tuple[int, ...], separator: str) -> str:
    """Write ascending `cores` briefly: (0, 1, 2, 5) is ``0-2,5``."""
    runs: list[list[int]] = []
    for core in cores:
        if runs and core == runs[-1][1] + 1:
            runs[-1][1] = core
        else:
            runs.append([core, core])
    return separator.join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
