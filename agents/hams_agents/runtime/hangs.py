"""What an agent does when its device hangs: count it where it outlives the process, say goodbye, end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing

from hams_agents.runtime.progress import Hang
from hams_agents.runtime.quarantine import after_hang
from hams_shared.bus.protocol import Bus, KeyValue
from hams_shared.errors import HungError, MessageError
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.agents import DeviceHealth

log = logging.getLogger("hams.agent")

REPORT_S = 3.0
"""A hang is reported within this time, or not at all, s."""


async def until_resumed(bucket: KeyValue, device: str) -> None:
    """Wait while `device` is quarantined: the plan that it hung under may still be in force, for want of another."""
    quarantined = complete = False
    async with aclosing(bucket.watch(device)) as changes:
        async for entry in changes:
            if entry is None:
                complete = True
            elif not entry.lost:
                quarantined = entry.value is not None and _quarantined(entry.value)
            if complete and not quarantined:
                return
            if complete:
                log.warning("%s is quarantined: it takes no work until `hams-ctl devices resume %s`", device, device)


def _quarantined(value: bytes) -> bool:
    try:
        return codec.decode(DeviceHealth, value).quarantined
    except MessageError as error:
        log.error("the record of earlier hangs cannot be read: %s", error)
        return False


class HangReporter:
    """Called by the watchdog, in its thread; `end` is given the exit code and does not return in a real agent."""

    def __init__(self, bus: Bus, device: str, loop: asyncio.AbstractEventLoop, end: Callable[[int], None]) -> None:
        self._bus = bus
        self._device = device
        self._loop = loop
        self._end = end

    def __call__(self, hang: Hang) -> None:
        """Say so, and end this process: only a new one frees the device."""
        error = HungError(f"{self._device}: {hang}", "the agent ends itself and is started again")
        log.critical("%s", error)
        report = asyncio.run_coroutine_threadsafe(self._report(str(hang)), self._loop)
        try:
            report.result(REPORT_S)
        except Exception as failed:
            log.error("the hang could not be reported: %s", failed or type(failed).__name__)
        self._end(error.exit_code)

    async def _report(self, what: str) -> None:
        bucket = await self._bus.kv(subjects.bucket("health"))
        entry = await bucket.get(self._device)
        health = DeviceHealth(device=self._device)
        if entry is not None and entry.value is not None:
            try:
                health = codec.decode(DeviceHealth, entry.value)
            except MessageError as error:
                log.error("the record of earlier hangs cannot be read: %s", error)
        health = after_hang(health, what, time.time())
        await bucket.put(self._device, codec.encode(health))
        if health.quarantined:
            log.critical("%s is quarantined: %s", self._device, health.reason)
        # a goodbye: nobody need wait for silence
        await (await self._bus.kv(subjects.bucket("devices"))).delete(self._device)
