"""Models as files: where they come from, the cache, and what `deploy` needs of them (cut, ONNX dimensions)."""

from hams_shared.runtime.no_telemetry import forbid_telemetry

forbid_telemetry()
