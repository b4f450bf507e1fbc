"""An agent's records in KV: its device and its measurements, written again when the broker may have lost them."""

from __future__ import annotations

import asyncio
import logging

from hams_shared.bus.protocol import Bus
from hams_shared.bus.records import restore
from hams_shared.errors import HamsError
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.agents import DeviceRecord, ProfileRecord, profile_key_begin, profile_key_end
from hams_shared.wire.messages.group import ModelRef

log = logging.getLogger("hams.agent")


class Registration:
    """The records of one agent."""

    def __init__(self, bus: Bus, record: DeviceRecord, *, may_write_profiles: bool) -> None:
        self.measured: dict[str, ProfileRecord] = {}  # bounded by the models there are
        self._bus = bus
        self._record = record
        self._may_write_profiles = may_write_profiles  # else the schedulers write them back
        self._lost = asyncio.Event()
        self._lost.set()

    async def announce(self) -> None:
        """Write the device's record. Raises HamsError."""
        devices = await self._bus.kv(subjects.bucket("devices"))
        await devices.put(self._record.device, codec.encode(self._record))

    async def end(self) -> None:
        """Delete the device's record, so that the device counts as gone at once.

        Raises HamsError.
        """
        await (await self._bus.kv(subjects.bucket("devices"))).delete(self._record.device)

    async def restore_profiles(self) -> None:
        """Write back the measurements that the broker lost. Raises HamsError."""
        if self._may_write_profiles and self.measured:
            profiles = await self._bus.kv(subjects.bucket("profiles"))
            for key, record in list(self.measured.items()):
                await restore(profiles, key, codec.encode(record))

    async def lanes(self, model: ModelRef, shape: tuple[int, ...]) -> int:
        """Return how many inferences of a network at a time are best by its measurement on this device; 0: not
        known."""
        device = self._record
        begin = profile_key_begin(model.digest, shape, model.further_key)
        key = f"{begin}.{profile_key_end(device.fingerprint, device.runtime, device.precisions[0])}"
        try:
            if key not in self.measured:
                entry = await (await self._bus.kv(subjects.bucket("profiles"))).get(key)
                if entry is None or entry.value is None:
                    return 0
                return codec.decode(ProfileRecord, entry.value).lanes
        except HamsError as error:
            log.warning("the measurement of network %s cannot be read: %s", model.digest[:12], error)
            return 0
        return self.measured[key].lanes

    def lost(self) -> None:
        """The broker may have lost what was written."""
        self._lost.set()

    async def wait_until_lost(self) -> None:
        """Wait until the broker does not hold what this agent has: at the start, and after :meth:`lost`."""
        await self._lost.wait()
        self._lost.clear()
