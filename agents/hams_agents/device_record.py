"""The record that an agent advertises of its device, and the fingerprint that alike devices share."""

from __future__ import annotations

import hashlib
import time
import uuid

import hams_shared
from hams_agents.backends.base import Backend, Capabilities
from hams_agents.cpus import here
from hams_shared.wire import subjects
from hams_shared.wire.messages.agents import DeviceRecord
from hams_shared.wire.protocol import SPOKEN


def device_record(backend: Backend, host: str) -> DeviceRecord:
    """Describe the opened device; each call begins a new life (incarnation)."""
    able = backend.capabilities
    return DeviceRecord(
        device=f"{subjects.token(host)}.{subjects.token(able.backend)}.{subjects.token(able.unit)}",
        incarnation=uuid.uuid4().hex,
        host=host,
        backend=able.backend,
        unit=able.unit,
        kind=able.kind,
        name=able.name,
        cores=able.cores,
        host_cores=round(here().time, 2),
        lanes=able.lanes,
        limit=able.limit,
        memory_mib=able.memory_mib,
        precisions=able.precisions,
        runtime=able.runtime,
        fingerprint=fingerprint(able),
        emulated=able.emulated,
        idle_w=able.idle_w,
        busy_w=able.busy_w,
        version=hams_shared.__version__,
        protocol=SPOKEN,
        started_at=time.time(),
    )


def fingerprint(capabilities: Capabilities) -> str:
    """Return 16 hex digits of what a device's speed depends on; a profile holds for all devices with the same ones.

    That is its backend, hardware, CPU threads, lanes, precision and emulation profile. The host's name, the choice
    among equal cores and the runtime's version do not count; a profile's key holds that version, too.
    """
    parts = (
        capabilities.backend,
        capabilities.kind,
        capabilities.name,
        str(capabilities.threads),
        str(capabilities.lanes),
        capabilities.precisions[0],
        capabilities.variant,
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
