"""Which formats and precisions the devices of a site read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hams_shared.wire.messages.agents import DeviceRecord
from hams_shared.wire.variants import READ


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
        """From the devices there are; all formats where none is known.

        No variant is made for devices that read none: they run networks as the group file names them.
        """
        known = [(READ[device.backend][:1], device) for device in devices if device.backend in READ]
        if not known:
            return cls()
        return cls(
            frozenset(f for made, _ in known for f in made),
            frozenset(f for made, device in known for f in made if device.kind != "cpu"),
            any("openvino" in made and "bf16" in device.precisions for made, device in known),
        )
