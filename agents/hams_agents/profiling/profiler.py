"""One cell of the FPS matrix: loads a model, has it measured alone, and returns a record, also when it cannot run.

A record that the device cannot run a model is kept for good, and counts for all equal devices. So a benchmark that
fails for a reason that may pass (no memory, a device that is lost or gone, a network that is out) is an error instead.

:mod:`hams_agents.profiling.measurement` measures; here is also how much other processes used the cores meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hams_agents.backends.base import Backend, ModelFile, Network, counts, generates
from hams_agents.cpus import here
from hams_agents.profiling.measurement import SamplerLimits, profile_steps
from hams_agents.runtime.device_faults import DeviceFaults
from hams_agents.runtime.executor import Executor
from hams_agents.runtime.load_notes import NO_NOTES
from hams_agents.runtime.progress import LOAD_S, Progress
from hams_shared.errors import ModelError, RefusedError
from hams_shared.wire.messages.agents import DeviceRecord, ProfileRecord

log = logging.getLogger("hams.agent")

STAT = Path("/proc/stat")
FEW = SamplerLimits(warm_up_runs=1, warm_up_s=0.0, min_runs=3, min_s=0.0, max_s=10.0, few_runs=3, precision=0.1)
"""For networks that write text, seconds a picture: the device's lanes wait meanwhile."""
BUSY = (0, 1, 2, 5, 6, 7)
"""Fields of a CPU's line that are not idle: user, nice, system, irq, softirq, and what other virtual machines took."""


@dataclass(frozen=True)
class Profiler:
    """Measures models on one device; loading runs in `loader`, measuring in the device's thread."""

    backend: Backend
    device: DeviceRecord
    loader: ThreadPoolExecutor
    loading: Progress
    executor: Executor
    faults: DeviceFaults | None = None
    """None: loads are not noted."""

    async def measure(self, model: ModelFile, baseline: ModelFile | None = None) -> ProfileRecord:
        """Load `model` next to what is served, measure it, in turns with `baseline` if given, and drop both.

        A model that this device cannot run gives a record with ``reason`` and no number.

        Raises:
            RefusedError: the network is out on this device; it may run later.
            ModelError: the device failed, or is short of memory; so may it.
        """
        if self.faults is not None and (reason := self.faults.health.fault(model.digest)):
            raise RefusedError(reason, f"hams-ctl devices resume {self.device.device} tries it again")
        record = ProfileRecord(
            digest=model.digest,
            model_name=model.name,
            input_shape=model.input_shape,
            fingerprint=self.device.fingerprint,
            runtime=self.device.runtime,
            precision=self.device.precisions[0],
            measured_on=self.device.device,
            measured_at=time.time(),
        )
        notes = self.faults.notes if self.faults is not None else NO_NOTES
        try:
            with notes.loading(model.digest, model.name):
                network = await self._load(model)
                try:
                    return record.model_copy(update=await self._measured(network, model, baseline))
                finally:
                    network.close()
        except ModelError as error:
            if self.faults is not None and self.faults.concerns_device(error):
                raise
            return record.model_copy(update={"reason": error.text})

    async def _measured(self, network: Network, model: ModelFile, baseline: ModelFile | None) -> dict[str, object]:
        """Return the fields of the record that are measured."""
        other = await self._baseline(baseline)
        try:
            pair = (other, baseline) if other is not None and baseline is not None else None
            before = cpu_use()
            slow = generates(network)
            lanes, limits = (1, FEW) if slow else (self.backend.capabilities.lanes, None)
            steps = profile_steps(network, model, self.executor.clock.now, limits, baseline=pair, lanes=lanes)
            measured = await self.executor.run_steps(steps)
            used = 0.0
            if not self.device.emulated:
                used = used_by_others(before, cpu_use(), self.device.cores or here().allowed)
        finally:
            if other is not None:
                other.close()
        return {**vars(measured), "baseline": pair[1].digest if pair is not None else "", "load": round(used, 3)}

    async def _load(self, model: ModelFile) -> Network:
        def load() -> Network:
            with self.loading.job(f"loading of {model.name}", LOAD_S):
                return self.backend.load(model)

        network = await asyncio.get_running_loop().run_in_executor(self.loader, load)
        if counts(network):
            network.leave_out()
        return network

    async def _baseline(self, model: ModelFile | None) -> Network | None:
        """Load the baseline; None where that fails: then the other is measured without."""
        try:
            return None if model is None else await self._load(model)
        except ModelError as error:
            log.warning("measured without the baseline %s: %s", model.name if model else "", error)
            return None


@dataclass(frozen=True)
class CpuUse:
    """Counters at one moment, s."""

    at: float
    busy: dict[int, float]
    """By core: how long it was busy since the host started."""
    own: float
    """CPU time of this process."""


def cpu_use() -> CpuUse:
    """Read the counters; no cores where the host does not give them."""
    try:
        text = STAT.read_text(encoding="ascii")
    except OSError:
        text = ""
    return CpuUse(time.monotonic(), parse_stat(text, os.sysconf("SC_CLK_TCK")), time.process_time())


def parse_stat(text: str, per_second: int) -> dict[int, float]:
    """Understand ``/proc/stat``: by core, seconds that it was busy."""
    busy = {}
    for line in text.splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdecimal():
            busy[int(name[3:])] = sum(int(fields[i]) for i in BUSY if i < len(fields)) / per_second
    return busy


def used_by_others(before: CpuUse, after: CpuUse, cores: Iterable[int]) -> float:
    """The part of `cores` (none: all) that other processes used meanwhile, 0-1."""
    among = set(cores) & after.busy.keys() or after.busy.keys()
    seconds = after.at - before.at
    if not among or seconds <= 0:
        return 0.0
    used = sum(after.busy[core] - before.busy.get(core, after.busy[core]) for core in among)
    return min(max(used - (after.own - before.own), 0.0) / (len(among) * seconds), 1.0)
