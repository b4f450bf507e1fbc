"""What an agent does about the faults of its device: it records them, and ends where only a new process helps."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from hams_agents.runtime.failures import device_lost, names_device
from hams_agents.runtime.health import EndReporter, HealthBook
from hams_agents.runtime.load_notes import LoadNotes
from hams_agents.runtime.presence import Presence, back
from hams_agents.runtime.served_node import ServedNode
from hams_shared.bus.protocol import Bus
from hams_shared.bus.records import opened
from hams_shared.errors import (
    BrokerError,
    DeadlineError,
    DigestError,
    HamsError,
    ModelError,
    ModelFetchError,
    NoSpaceError,
    RefusedError,
    UnsupportedModelError,
)
from hams_shared.runtime.backoff import Backoff
from hams_shared.runtime.clock import Clock
from hams_shared.wire import subjects
from hams_shared.wire.messages.agents import DeviceRecord
from hams_shared.wire.messages.group import ModelRef

log = logging.getLogger("hams.agent")

_OF_FILES = (DigestError, ModelFetchError, UnsupportedModelError)
"""Errors that do not pass with time."""
_PASSING = (ModelError, BrokerError, DeadlineError, RefusedError)
"""Errors that do, but for those of files: of the runtime, the broker, and a lack of memory (RefusedError)."""
TRIES = 5
"""How often it is tried to record how the last life ended."""
LOOK_S = 0.5
"""How often it is looked whether the device is there, s."""
RECORD_AGAIN = Backoff(first=1.0, longest=30.0)
"""Pauses between tries to record that a network is out, s: the broker is away, or its store is full."""


def may_pass(error: HamsError) -> bool:
    """Whether a load that failed by `error` may succeed later on the same device: it is tried again after minutes."""
    return isinstance(error, NoSpaceError) or (isinstance(error, _PASSING) and not isinstance(error, _OF_FILES))


def wall_time(clock: Clock) -> Callable[[], float]:
    """Return a function that returns the Unix time, s: that of now, and what `clock` counts from now on."""
    offset = time.time() - clock.now()
    return lambda: offset + clock.now()


class DeviceFaults:
    """The faults of one device, from one life of its agent to the next. Made on the event loop.

    Args:
        folder: where the next life finds notes of this one.
        file: it is there while the device is; empty: none is known.
        end: ends this process with an exit code.
    """

    def __init__(
        self, bus: Bus, record: DeviceRecord, folder: Path, file: str, end: Callable[[int], None], clock: Clock
    ) -> None:
        self._bus, self._folder, self._device = bus, folder, record.device
        self.notes = LoadNotes(folder, record.device)
        self.health = HealthBook(bus, record.device, record.runtime, wall_time(clock))
        self._reporter = EndReporter(bus, self.health, record.device, asyncio.get_running_loop(), end)
        self.hung = self._reporter.hung
        self._presence = Presence(file)
        self._ending: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Why the device is out, as found on the event loop."""
        self._out: dict[str, tuple[str, str]] = {}
        """By digest: model and reason of networks that are out and not recorded yet; bounded by what is loaded."""
        self._news = asyncio.Event()

    async def begin(self, stop: asyncio.Event, *, own_process: bool) -> None:
        """Record how the last life ended, before this one loads anything. Raises HamsError: there is no store."""
        await opened(self._bus.kv, subjects.bucket("health"), stop)
        back(self._folder, self._device)
        life = self.notes.earlier_life()
        for tries in range(1, TRIES + 1):
            try:
                await self.health.at_start()
                await self.health.after(life)
                break
            except HamsError as error:  # a full disk of the broker keeps no agent from serving
                log.warning("the faults of %s cannot be recorded (try %d of %d): %s", self._device, tries, TRIES, error)
                await asyncio.sleep(LOOK_S)
        self.notes.begin(own_process=own_process)

    async def run(self) -> None:
        """Record networks that are out, and look whether the device is there, until cancelled."""
        async with asyncio.TaskGroup() as owner:
            for job in (self.health.follow, self._record, self._look, self._end):
                owner.create_task(job())

    def network_out(self, served: ServedNode, why: str) -> None:
        """A network fails: it is recorded soon. Called on the event loop."""
        self._take_out(served.digest, served.plan.model_on(served.node, self._device).name, why)

    def load_failed(self, model: ModelRef, error: HamsError) -> bool:
        """A network did not load; return whether it, not the group, is out on the device. Called on the event loop.

        It is tried again later: memory may be free then, or the disk.
        """
        if self.health.fault(model.digest):
            return True
        if not may_pass(error):
            return False
        if isinstance(error, ModelError) and device_lost(error.text) and not self._ending.done():
            self._ending.set_result(f"model {model.name} does not load: {error.text}")
        self._take_out(model.digest, model.name, f"it does not load: {error.text}")
        return True

    def _take_out(self, digest: str, model: str, why: str) -> None:
        self._out.setdefault(digest, (model, why))
        self._news.set()

    def concerns_device(self, error: HamsError) -> bool:
        """Whether a benchmark failed for want of the device, its memory, or the disk: it may succeed later."""
        short = isinstance(error, NoSpaceError) or not isinstance(error, ModelError)
        return short or names_device(error.text) or bool(self._presence.missing)

    def device_out(self, why: str) -> None:
        """The device fails, or is not there any more: the process ends. Called in a thread of the device."""
        if gone := self._presence.missing:
            self._gone(gone)
        else:
            self._reporter.failed(why)

    def _gone(self, why: str) -> None:
        self._presence.note(self._folder, self._device)
        self._reporter.gone(why)

    async def _record(self) -> None:
        failures = 0
        while True:
            await self._news.wait()
            self._news.clear()
            if await self._recorded():
                failures = 0
                continue
            failures += 1
            await asyncio.sleep(RECORD_AGAIN.pause(failures))
            self._news.set()

    async def _recorded(self) -> bool:
        """Record the networks that are out; return False when one was not: schedulers then never hear of its end."""
        for digest, (model, why) in list(self._out.items()):
            try:
                await self.health.take_out(digest, model, why)
            except HamsError as error:
                log.error("the fault of %s cannot be recorded, it is tried again: %s", model, error)
                return False
            del self._out[digest]
        return True

    async def _end(self) -> None:
        await asyncio.to_thread(self.device_out, await self._ending)

    async def _look(self) -> None:
        if not self._presence.watched:
            return
        while not (gone := self._presence.gone()):  # noqa: ASYNC110 (nothing tells that a file disappears)
            await asyncio.sleep(LOOK_S)
        await asyncio.to_thread(self._gone, gone)
