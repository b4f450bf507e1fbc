"""Networks that may serve nodes, and the cells of the FPS matrix that hold how fast they are. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

from hams_shared.group.node_spec import InputSpec
from hams_shared.wire.messages.agents import DeviceRecord, profile_key_begin, profile_key_end
from hams_shared.wire.messages.group import ModelRef

_key_end = lru_cache(1024)(profile_key_end)
"""Of a device: of each, it is needed for all networks."""


def device_key(device: DeviceRecord) -> str:
    """The part of a measurement's key that names the device."""
    return _key_end(device.fingerprint, device.runtime, device.precisions[0])


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the FPS matrix: the key of its measurement, and how to request it."""

    key: str
    model: str
    digest: str
    input_shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Network:
    """A network that may serve a node: its source, or a variant of that."""

    model: ModelRef
    input: InputSpec
    label: str = ""
    """Empty: the source."""
    agreement: float = 1.0
    own_input: bool = False
    """Whether `input` differs from the node's."""

    def cell(self, device: DeviceRecord) -> Cell:
        """The cell that holds how fast the network is on `device`."""
        return Cell(self.key(device), self.model.name, self.model.digest, self.input.shape(), self.input.dtype)

    def key(self, device: DeviceRecord) -> str:
        """The key of that cell."""
        return f"{self.key_begin}.{device_key(device)}"

    @cached_property
    def key_begin(self) -> str:
        """The part of the key that names the network."""
        return profile_key_begin(self.model.digest, self.input.shape(), self.model.further_key)
