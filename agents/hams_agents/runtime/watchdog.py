"""The thread that looks whether the others make progress, and what the agent does when the device hangs.

A hang is counted in KV, where the count outlives the process; then the agent announces its end and exits. A last resort
ends the process when this thread cannot run.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import threading
import time
from collections.abc import Callable
from contextlib import aclosing

from hams_agents.runtime.progress import Hang, Progress, after_hang
from hams_shared.bus.protocol import Bus, KeyValue
from hams_shared.errors import HungError, MessageError
from hams_shared.runtime.clock import SYSTEM_CLOCK, Clock
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.agents import DeviceHealth

log = logging.getLogger("hams.agent")

LOOK_S = 0.25
STUCK_S = 60.0
"""When nothing of Python has run for so long (a native call that keeps its lock), the process ends with a traceback."""
REARM_S = 5.0
REPORT_S = 3.0
"""A hang is reported within this time, or not at all, s."""


class Watchdog:
    """Calls `on_hang`, once and in its own thread, when something watched does not end."""

    def __init__(
        self,
        watched: tuple[Progress, ...],
        on_hang: Callable[[Hang], None],
        clock: Clock = SYSTEM_CLOCK,
        *,
        own_process: bool = True,
    ) -> None:
        self._watched = watched
        self._on_hang = on_hang
        self._clock = clock
        self._own_process = own_process
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            self._look()
        finally:
            if self._own_process:
                faulthandler.cancel_dump_traceback_later()

    def _look(self) -> None:
        last = self._clock.now()
        armed = last - REARM_S
        while self._waited():
            now = self._clock.now()
            if self._own_process and now - armed >= REARM_S:
                armed = now
                faulthandler.dump_traceback_later(STUCK_S, exit=True)
            for progress in self._watched:
                hang = progress.tick(now - last)
                if hang is not None:
                    self._on_hang(hang)
                    return
            last = now

    def _waited(self) -> bool:
        """Wait until it is time to look; False at the end."""
        with self._changed:
            if not self._stopping:
                self._clock.wait(self._changed, LOOK_S)
            return not self._stopping


class HangReporter:
    """Called by the watchdog, in its thread; `end` is given the exit code and does not return in a real agent."""

    def __init__(self, bus: Bus, device: str, loop: asyncio.AbstractEventLoop, end: Callable[[int], None]) -> None:
        self._bus = bus
        self._device = device
        self._loop = loop
        self._end = end

    def __call__(self, hang: Hang) -> None:
        """Report the hang and end this process: only a new one frees the device."""
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
        # a goodbye: others need not wait for missing heartbeats
        await (await self._bus.kv(subjects.bucket("devices"))).delete(self._device)


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
