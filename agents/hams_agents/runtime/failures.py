"""When a network that fails is put to the test, and whether it, its device or the frame is at fault. Pure.

Errors alone do not say whose fault they are: a frame may fail everywhere. So the decision has two steps:

1. Errors are counted per node. Successes release a part of them, so that both errors in a row and an error rate reach
   the limit. An error that names the device (lost, out of resources, a CUDA context that is broken) weighs more.
2. At the limit the node's network runs an input that it ran when it was loaded: the *self-test*. If it passes, the
   frames are at fault: nothing is taken out. If it fails, the network is out on this device. The device itself is out
   if the error names it or another of its networks fails its self-test, too.

A frame that fails on the device a second time brings the self-test forward; if it passes, the frame fails for good.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum

LIMIT = 5.0
"""After so many failures a network is tested."""
RELEASED = 0.25
"""Failures that a success releases: what fails more often than every fifth time reaches the limit."""
NAMED = 2.0
"""What a failure weighs whose error names the device."""
RETEST_S = 10.0
"""Pause after a passed self-test before the next one of the same node, s."""
FRAMES = 64
"""Failed frames that are remembered per node."""
SEVERAL_S = 900.0
"""Networks that fail within this time are a device that fails, s."""

_LOST = re.compile(
    r"CL_(DEVICE_NOT_AVAILABLE|INVALID_COMMAND_QUEUE|INVALID_CONTEXT|DEVICE_LOST)"
    r"|ZE_RESULT_ERROR_(DEVICE_LOST|UNINITIALIZED|DEVICE_REQUIRES_RESET)"
    r"|CUDA (error|failure)|CUDA_ERROR_|cudaError|CUDNN_STATUS_|CUBLAS_STATUS_"
    r"|illegal memory access|unspecified launch failure|device-side assert|uncorrectable ECC"
    r"|VK_ERROR_DEVICE_LOST|DXGI_ERROR_DEVICE_(REMOVED|HUNG|RESET)"
    r"|HAILO_(INTERNAL_FAILURE|DRIVER_\w+|CONNECTION_REFUSED|STREAM_ABORT)"
    r"|device[ _-](is |was )?(lost|gone|removed|disconnected|hung|not found|not available)"
    r"|no such device|GPU has fallen off the bus",
    re.IGNORECASE,
)
"""Texts of OpenCL, Level Zero, CUDA, Vulkan, Direct3D and Hailo: the device is lost, or its context is broken."""
_SHORT = re.compile(
    r"CL_(OUT_OF_RESOURCES|OUT_OF_HOST_MEMORY|MEM_OBJECT_ALLOCATION_FAILURE)"
    r"|ZE_RESULT_ERROR_OUT_OF_\w+|VK_ERROR_OUT_OF_\w+|out of (\w+ )?(memory|resources)"
    r"|fail(ed|ure|s)? to allocate|bad[ _]alloc|memory runs out",
    re.IGNORECASE,
)
"""Texts of a device, or a host, without memory or other resources left."""
Key = tuple[str, str, int]
"""Group, node and epoch."""


class Verdict(Enum):
    """What follows from a failure."""

    COUNTED = "counted"
    TEST = "test"
    """The network is to run its self-test now."""
    FRAME = "frame"
    """The frame is at fault: it failed here before, and the network has passed its self-test since."""


class Fault(Enum):
    """What is taken out."""

    NETWORK = "network"
    DEVICE = "device"


def device_lost(text: str) -> bool:
    """Whether an error's text says that the device is lost, or its context broken."""
    return _LOST.search(text) is not None and _SHORT.search(text) is None


def names_device(text: str) -> bool:
    """Whether an error's text says that the device, not the network, is at fault.

    That counts for networks that ran: one that is loaded may be too large for the device.
    """
    return _LOST.search(text) is not None or _SHORT.search(text) is not None


@dataclass
class _Account:
    """The failures of one node."""

    weight: float = 0.0
    errors: int = 0
    """Since the last success of a self-test."""
    named: bool = False
    """Whether the newest error names the device."""
    tested_at: float | None = None
    """When it last passed a self-test, s."""
    frames: deque[Hashable] = field(default_factory=lambda: deque(maxlen=FRAMES))


@dataclass
class Failures:
    """The failures on one device. `now` is a monotonic time, s."""

    _accounts: dict[Key, _Account] = field(default_factory=dict)
    """Of the nodes that failed; bounded by what is served."""
    _networks: dict[str, float] = field(default_factory=dict)
    """By digest: when it failed its self-test, s."""

    def succeeded(self, key: Key) -> None:
        """Take an inference that succeeded."""
        account = self._accounts.get(key)
        if account is not None:
            account.weight = max(0.0, account.weight - RELEASED)

    def failed(self, key: Key, frame: Hashable, text: str, now: float) -> Verdict:
        """Take an inference for `frame` that failed with the error `text`."""
        account = self._accounts.setdefault(key, _Account())
        again = frame in account.frames
        account.frames.append(frame)
        account.named = names_device(text)
        account.weight += NAMED if account.named else 1.0
        account.errors += 1
        if account.tested_at is not None and now - account.tested_at < RETEST_S:
            return Verdict.FRAME if again else Verdict.COUNTED
        return Verdict.TEST if again or account.weight >= LIMIT else Verdict.COUNTED

    def errors(self, key: Key) -> int:
        """Return how many inferences of a node have failed since its last self-test."""
        account = self._accounts.get(key)
        return account.errors if account is not None else 0

    def passed(self, key: Key, now: float) -> None:
        """The network has passed its self-test: what failed is the frames' fault."""
        account = self._accounts.setdefault(key, _Account())
        account.weight, account.errors, account.tested_at = 0.0, 0, now

    def proven(self, key: Key, digest: str, now: float) -> Fault:
        """The network `digest` has failed its self-test; return what is at fault."""
        account = self._accounts.setdefault(key, _Account())
        self._networks = {one: at for one, at in self._networks.items() if now - at <= SEVERAL_S}
        self._networks[digest] = now
        account.weight, account.errors = 0.0, 0
        return Fault.DEVICE if account.named or len(self._networks) > 1 else Fault.NETWORK

    def forget(self, group: str) -> None:
        """Drop the accounts of a group that is no longer served here."""
        self._accounts = {key: one for key, one in self._accounts.items() if key[0] != group}
