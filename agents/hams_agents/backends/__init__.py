"""Inference runtimes, one file each, behind :class:`hams_agents.backends.base.Backend`."""

from hams_shared.runtime.no_telemetry import forbid_telemetry

forbid_telemetry()
