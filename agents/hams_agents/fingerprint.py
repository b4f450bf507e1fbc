"""Which devices are alike: a measurement made on one holds for all with the same fingerprint."""

from __future__ import annotations

import hashlib

from hams_agents.backends.base import Capabilities


def fingerprint(capabilities: Capabilities) -> str:
    """Return 16 hex digits of what a device's speed depends on.

    That is its backend, hardware, number of CPU threads, precision and emulation profile; not the host's
    name, nor which of its equal cores it uses, nor the runtime's version, which a profile's key holds beside
    the fingerprint.
    """
    parts = (
        capabilities.backend,
        capabilities.kind,
        capabilities.name,
        str(capabilities.threads),
        capabilities.precisions[0],
        capabilities.variant,
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
