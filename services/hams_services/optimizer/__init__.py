"""NCO, the neural computing optimizer: brings networks into the form each device wants."""

from hams_shared.runtime.no_telemetry import forbid_telemetry

forbid_telemetry()
