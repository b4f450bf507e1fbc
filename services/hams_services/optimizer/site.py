"""Which formats and precisions the devices of a site read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hams_shared.wire.messages.agents import DeviceRecord


@dataclass(frozen=True)
class SiteFormats:
    """What the devices of a site read: ``openvino``, ``onnx``."""

    read: frozenset[str] = frozenset(("openvino", "onnx"))
    half: frozenset[str] = frozenset()
    """Those in which fp16 is worth a trial: some device that reads them is no CPU."""
    bf16: bool = True
    """Whether some device that reads OpenVINO's computes in bf16."""

    @classmethod
    def of(cls, devices: Iterable[DeviceRecord]) -> SiteFormats:
        """From the devices there are; all formats where none is known."""
        names = {"openvino": "openvino", "onnxruntime": "onnx"}
        known = [(names[device.backend], device) for device in devices if device.backend in names]
        if not known:
            return cls()
        return cls(
            frozenset(f for f, _ in known),
            frozenset(f for f, device in known if device.kind != "cpu"),
            any(f == "openvino" and "bf16" in device.precisions for f, device in known),
        )
