"""One cell of the FPS matrix: load a model, measure it alone, say what came out, also when nothing did."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor

from hams_agents.backends.base import Backend, ModelFile, Network
from hams_agents.cpus import here
from hams_agents.profiling.cpu_use import cpu_use, others
from hams_agents.profiling.profiler import ModelProfile, profile_steps
from hams_agents.runtime.executor import Executor
from hams_agents.runtime.loaded import load
from hams_agents.runtime.progress import Progress
from hams_shared.errors import ModelError
from hams_shared.wire.messages.agents import DeviceRecord, ProfileRecord

log = logging.getLogger("hams.agent")


async def benchmark(
    backend: Backend,
    device: DeviceRecord,
    model: ModelFile,
    loop: asyncio.AbstractEventLoop,
    loader: ThreadPoolExecutor,
    executor: Executor,
    loading: Progress,
    beside: ModelFile | None = None,
) -> ProfileRecord:
    """Load `model` next to what is served, measure it in the device thread, in turns with `beside`, drop both.

    A model that this device cannot run gives a record with ``reason`` and no number.
    """
    empty = ProfileRecord(
        digest=model.digest,
        model_name=model.name,
        input_shape=model.input_shape,
        fingerprint=device.fingerprint,
        runtime=device.runtime,
        precision=device.precisions[0],
        measured_on=device.device,
        measured_at=time.time(),
    )
    try:
        network = await loop.run_in_executor(loader, load, backend, model, loading)
        try:
            other = await loop.run_in_executor(loader, _load_beside, backend, beside, loading)
            try:
                pair = (other, beside) if other is not None and beside is not None else None
                before = cpu_use()
                measured = await executor.run_steps(profile_steps(network, model, executor.clock.now, beside=pair))
                used = 0.0 if device.emulated else others(before, cpu_use(), device.cores or here().allowed)
            finally:
                if other is not None:
                    other.close()
        finally:
            network.close()
    except ModelError as error:
        return empty.model_copy(update={"reason": error.text})
    return _filled(empty, measured, pair[1].digest if pair is not None else "", used)


def _filled(empty: ProfileRecord, measured: ModelProfile, beside: str, load: float) -> ProfileRecord:
    """The record of a measurement, in turns with `beside`, while others used `load` of the cores."""
    return empty.model_copy(
        update={
            "fps": measured.fps,
            "p50_ms": measured.p50_ms,
            "p99_ms": measured.p99_ms,
            "fps_batch": measured.fps_batch,
            "load_ms": measured.load_ms,
            "memory_mib": measured.memory_mib,
            "runs": measured.runs,
            "stable": measured.stable,
            "beside": beside,
            "beside_fps": measured.beside_fps,
            "load": round(load, 3),
        }
    )


def _load_beside(backend: Backend, model: ModelFile | None, loading: Progress) -> Network | None:
    """Load what is measured beside another; None where that fails: then the other is measured without."""
    if model is None:
        return None
    try:
        return load(backend, model, loading)
    except ModelError as error:
        log.warning("measured without %s beside it: %s", model.name, error)
        return None
