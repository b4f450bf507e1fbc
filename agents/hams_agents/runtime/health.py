"""The record of a device's faults in KV, kept by its agent; and how an agent ends when its device hangs, fails or is
gone."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from contextlib import aclosing, suppress

from hams_agents.runtime import health_rules
from hams_agents.runtime.load_notes import EarlierLife
from hams_agents.runtime.progress import Hang
from hams_shared.bus.protocol import Bus, Entry, KeyValue
from hams_shared.bus.records import opened
from hams_shared.errors import HamsError, HungError, MessageError, RefusedError
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.agents import DeviceHealth

log = logging.getLogger("hams.agent")

REPORT_S = 3.0
"""A fault is reported within this time, or not at all, s."""
RENEW_S = 5.0
"""How often it is looked whether the time of a network's fault is over, s."""
WRITES = 5
"""How often a change is tried that others come before."""


class HealthBook:
    """What is recorded of one device. `now` returns the Unix time, s."""

    def __init__(self, bus: Bus, device: str, runtime: str, now: Callable[[], float] = time.time) -> None:
        self._bus, self._device, self._runtime, self._now = bus, device, runtime, now
        self._changing = asyncio.Lock()
        self.health = DeviceHealth(device=device)
        """As last written or seen."""

    async def change(self, change: Callable[[DeviceHealth, float], DeviceHealth]) -> DeviceHealth:
        """Read, change and write the record; an empty one is deleted.

        What others write meanwhile is read and changed instead: `hams-ctl devices resume` is not undone. Raises
        HamsError.
        """
        async with self._changing:
            bucket = await self._bus.kv(subjects.bucket("health"))
            for tries in itertools.count(1):
                entry = await bucket.get(self._device)
                before = self._decoded(entry.value if entry is not None else None)
                health = change(before, self._now())
                try:
                    if health != before:
                        await _write(bucket, health, entry)
                    break
                except RefusedError:
                    if tries == WRITES:
                        raise
            self.health = health
            return health

    async def at_start(self) -> None:
        """The device is opened: it is not gone, and faults of other runtimes are over. Raises HamsError."""
        await self.change(lambda health, now: health_rules.at_start(health, self._runtime, now))

    async def take_out(self, digest: str, model: str, reason: str, *, aborts: bool = False) -> None:
        """A network gets no more work on the device. Raises HamsError."""
        network = health_rules.Network(digest, model, self._runtime)
        await self.change(lambda health, now: health_rules.taken_out(health, network, reason, now, aborts=aborts))
        log.error("%s takes no work for network %s: %s", self._device, model, reason)

    def fault(self, digest: str) -> str:
        """Return why a network gets no work here; empty: it does."""
        return self.health.faulty.get(digest, "")

    async def after(self, life: EarlierLife) -> None:
        """Record how the last process ended. Raises HamsError."""
        for load in life.loads:
            await self.take_out(load.digest, load.model, load.reason, aborts=True)
        if life.crash:
            text = f"the process ended by {life.crash} while {self._device} served"
            await self.change(lambda health, now: health_rules.after_failure(health, text, now))

    async def follow(self) -> None:
        """Keep up with the record, which `hams-ctl devices resume` deletes, and end faults when their time is over."""
        async with asyncio.TaskGroup() as owner:
            owner.create_task(self._renew())
            bucket = await opened(self._bus.kv, subjects.bucket("health"))
            async with aclosing(bucket.watch(self._device)) as changes:
                async for entry in changes:
                    if entry is not None and not entry.lost:
                        self.health = self._decoded(entry.value)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            if health_rules.after_time(self.health, self._now()) != self.health:
                with suppress(HamsError):  # the next turn tries again
                    await self.change(health_rules.after_time)

    def _decoded(self, value: bytes | None) -> DeviceHealth:
        if value is not None:
            try:
                return codec.decode(DeviceHealth, value)
            except MessageError as error:
                log.error("the record of earlier faults cannot be read: %s", error)
        return DeviceHealth(device=self._device)


async def _write(bucket: KeyValue, health: DeviceHealth, read: Entry | None) -> None:
    """Replace what was `read`. Raises RefusedError: somebody else has replaced it."""
    if health_rules.empty(health):
        await bucket.delete(health.device, read.revision if read is not None else None)
    elif read is None:
        await bucket.create(health.device, codec.encode(health))
    else:
        await bucket.update(health.device, codec.encode(health), read.revision)


class EndReporter:
    """Ends this process for its device's sake, once the fault is recorded: only a new process frees the device.

    Called in any thread but the event loop's. `end` is given the exit code and does not return in a real agent.
    """

    def __init__(
        self, bus: Bus, book: HealthBook, device: str, loop: asyncio.AbstractEventLoop, end: Callable[[int], None]
    ) -> None:
        self._bus, self._book, self._device, self._loop, self._end = bus, book, device, loop, end

    def hung(self, hang: Hang) -> None:
        """Something does not end."""
        what = str(hang)
        self._report(what, lambda health, now: health_rules.after_hang(health, what, now))

    def failed(self, what: str) -> None:
        """Inferences fail."""
        self._report(what, lambda health, now: health_rules.after_failure(health, what, now))

    def gone(self, what: str) -> None:
        """The device is not there any more; its record stays, so that it is shown as gone."""
        self._report(what, lambda health, _: health.model_copy(update={"gone": what}), leaves=False)

    def _report(self, what: str, change: Callable[[DeviceHealth, float], DeviceHealth], *, leaves: bool = True) -> None:
        error = HungError(f"{self._device}: {what}", "the agent ends itself and is started again")
        log.critical("%s", error)
        report = asyncio.run_coroutine_threadsafe(self._record(change, leaves=leaves), self._loop)
        try:
            report.result(REPORT_S)
        except Exception as failed:
            log.error("the fault could not be reported: %s", failed or type(failed).__name__)
        self._end(error.exit_code)

    async def _record(self, change: Callable[[DeviceHealth, float], DeviceHealth], *, leaves: bool) -> None:
        health = await self._book.change(change)
        if health.quarantined:
            log.critical("%s is quarantined: %s", self._device, health.reason)
        if leaves:  # a goodbye: others need not wait for missing heartbeats
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
        log.error("the record of earlier faults cannot be read: %s", error)
        return False
