"""What an agent advertises of its device when it starts."""

from __future__ import annotations

import time
import uuid

import hams_shared
from hams_agents.backends.base import Backend
from hams_agents.fingerprint import fingerprint
from hams_shared.wire import subjects
from hams_shared.wire.messages.agents import DeviceRecord


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
        limit=able.limit,
        memory_mib=able.memory_mib,
        precisions=able.precisions,
        runtime=able.runtime,
        fingerprint=fingerprint(able),
        emulated=able.emulated,
        version=hams_shared.__version__,
        started_at=time.time(),
    )
