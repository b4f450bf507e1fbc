"""The agent's shell: one process, one device, on the bus.

    subjects in:  profile requests (micro service); plans (KV watch)
    subjects out: heartbeats

Decisions are in :mod:`hams_agents.core`. Frames do not pass here: :mod:`hams_agents.runtime.data_plane` takes them.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import hams_shared
from hams_agents import core
from hams_agents.backends.base import Backend, ModelFile
from hams_agents.backends.further import tensor_specs
from hams_agents.backends.replay import replays_of
from hams_agents.device_record import device_record
from hams_agents.profiling.profiler import Profiler
from hams_agents.registration import Registration
from hams_agents.runtime.data_plane import DataPlane
from hams_agents.runtime.device_faults import DeviceFaults
from hams_agents.runtime.executor import Executor
from hams_agents.runtime.failure_watch import FailureWatch
from hams_agents.runtime.health import until_resumed
from hams_agents.runtime.loaded import Loaded
from hams_agents.runtime.progress import Progress
from hams_agents.runtime.served_node import ServedNode
from hams_agents.runtime.watchdog import Watchdog
from hams_agents.tasks.plugins import Changes
from hams_shared.bus.mailbox import Mailboxes
from hams_shared.bus.model_store import ModelStore
from hams_shared.bus.protocol import Bus, Message
from hams_shared.bus.records import opened, watched
from hams_shared.errors import HamsError, UnsupportedModelError, as_hams_error
from hams_shared.runtime.clock import SYSTEM_CLOCK, Clock
from hams_shared.runtime.lifecycle import ended, log_always
from hams_shared.runtime.process import resident_mib
from hams_shared.wire import codec, subjects
from hams_shared.wire.frame_pool import FOLDER, FrameReader
from hams_shared.wire.messages.agents import Heartbeat, ProfileRequest
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.plan import PlanRecord

log = logging.getLogger("hams.agent")

DRAIN_S = 5.0
"""How long a stopping agent may take to finish its queue, s."""

NOTES = "notes"
"""Folder in the cache: what an agent's next life needs to know."""
TICK_S = 0.5
"""How often decisions that depend on time are made, and answers that still wait are sent, s."""
REGISTER_S = 1.0
"""Pause between two announcements, s."""


class AgentService:
    """One agent process."""

    _store: ModelStore | None = None
    """Opened by :meth:`run`."""
    _connections = 1
    """To a broker, so far."""

    def __init__(
        self,
        bus: Bus,
        backend: Backend,
        host: str,
        cache: Path,
        pin: Callable[[], None],
        end: Callable[[int], None] = os._exit,
        *,
        may_write_profiles: bool = True,
        clock: Clock = SYSTEM_CLOCK,
        own_process: bool = True,
        memory: Path = FOLDER,
        mailboxes: Path | None = FOLDER,
        device_file: str = "",
    ) -> None:
        self._bus, self._cache, self._own_process = bus, cache, own_process
        self._record = device_record(backend, host)
        self._state, self._announce = core.AgentState(self.device), asyncio.Event()
        self._clock, self._started = clock, clock.now()
        self._unread: dict[str, WireError] = {}  # by group: why its newest plan cannot be read
        self._loads: asyncio.Queue[core.LoadNode] = asyncio.Queue()  # bounded by the plans' nodes
        self._rebuilds: asyncio.Queue[core.LoadNode] = asyncio.Queue()  # of loaded networks: wait for no benchmark
        # Loading starts the runtimes' own threads, which inherit the cores of the thread that starts them.
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader", initializer=pin)
        self._loop = asyncio.get_running_loop()
        self._broken: asyncio.Future[None] = self._loop.create_future()
        able, loading = backend.capabilities, Progress()
        self._faults = DeviceFaults(bus, self._record, cache / NOTES, able.device_file or device_file, end, clock)
        self._loaded = Loaded(backend, loading, self._faults.notes)
        self._frames, self._mailboxes = FrameReader(memory), Mailboxes(mailboxes)
        failures = FailureWatch(self._loaded.all, self._network_out, self._faults.device_out, clock, able.lanes)
        executor = partial(Executor, pin=pin, lanes=able.lanes, failures=failures, ended=self._broke, clock=clock)
        self._data = DataPlane(bus, self._mailboxes, self._frames, self._state, self._loaded, executor, clock)
        self.executor = self._data.executor
        self._profiler = Profiler(backend, self._record, self._loader, loading, self.executor, self._faults)
        jobs = (*self.executor.progress, loading, self._loaded.rebuilding)
        self._watchdog = Watchdog(jobs, self._faults.hung, clock, own_process=own_process)
        self._changes, self._replays = Changes(), replays_of(backend)
        self._registration = Registration(bus, self._record, may_write_profiles=may_write_profiles)

    @property
    def device(self) -> str:
        """The device's id."""
        return self._record.device

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then finish what is queued and leave."""
        try:
            await self._run(stop)
        finally:  # also when it is cancelled or fails: no thread outlives it
            self._watchdog.stop()
            self.executor.stop(0)
            self._loader.shutdown(wait=False, cancel_futures=True)
            self._mailboxes.close()
            self._faults.notes.end()

    async def _run(self, stop: asyncio.Event) -> None:
        log_always(device=self.device)
        objects = await opened(self._bus.objects, subjects.MODEL_STORE, stop)
        self._store = ModelStore(objects, self._cache / "models")
        await self._faults.begin(stop, own_process=self._own_process)
        self.executor.start()
        self._watchdog.start()
        async with asyncio.TaskGroup() as owner:
            loads = (self._watch_plans, self._load_nodes, self._rebuild_nodes)
            jobs = (*loads, self._tick, self._data.run, self._faults.run)
            tasks = [owner.create_task(job()) for job in jobs]
            await self._data.listen()
            about = {
                "device": self.device,
                "name": self._record.name,
                "emulated": str(self._record.emulated).lower(),
            }
            profile = (subjects.profile(self.device), self._on_profile)
            await self._bus.serve("hams-agent", hams_shared.__version__, about, {"profile": profile})
            tasks += [owner.create_task(job()) for job in (self._until_broken, self._heartbeats)]
            registered = owner.create_task(self._keep_registered())
            log.info("%s serves %s (%s)", self.device, self._record.name, self._record.runtime)
            await stop.wait()
            await ended((registered,))
            try:
                await self._registration.end()
                await self._hand_over()
            except HamsError as error:
                log.warning("leaves without a goodbye: %s", error)
            await asyncio.to_thread(self.executor.stop, DRAIN_S)
            await self._data.flush()
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    await self._data.drained()
            await ended(tasks)
        with suppress(HamsError):  # without a broker no part listens
            await self._bus.flush()

    async def _until_broken(self) -> None:
        """Raises InternalError when a thread of the device has ended: who supervises starts the agent anew."""
        await self._broken

    async def _hand_over(self) -> None:
        """Serve on while others load what this device serves."""
        handover = core.Handover(self._state, self._clock.now())
        while not handover.ended(self._clock.now()):  # noqa: ASYNC110 (time ends it as well as plans)
            await asyncio.sleep(0.02)
        if handover.remaining:
            log.info("no other device takes over %s", ", ".join(sorted(handover.remaining)))
        if handover.taken:
            log.info("other devices serve now: %s", ", ".join(sorted(handover.taken)))

    def validate(self) -> None:
        """Raise AssertionError when the state is not as its core wants it; for tests."""
        self._state.validate()

    def on_disconnect(self) -> None:
        """The broker is away: what fails to load meanwhile is tried until it is back."""
        self._do(core.BrokerSeen(there=False))

    def on_reconnect(self) -> None:
        """The broker is back: its store may be empty, so what this agent holds is announced again."""
        self._connections += 1
        self._do(core.BrokerSeen(there=True))
        self._registration.lost()
        self._announce.set()

    async def _keep_registered(self) -> None:
        """Announce the device; after each reconnect also its measurements, and the model files that the store lacks."""
        while True:
            await self._registration.wait_until_lost()
            try:
                await self._registration.announce()
                self._announce.set()
                await self._registration.restore_profiles()
                await self._restore_models()
                log.info("the broker has what this agent holds")
            except HamsError as error:
                log.warning("cannot announce what this agent holds: %s", error)
                self._registration.lost()
            await asyncio.sleep(REGISTER_S)

    async def _restore_models(self) -> None:
        assert self._store is not None
        models = {m.digest: m for a in self._state.assignments.values() for m in a.plan.all_models}
        if models:  # agents come back together: one upload of a file is enough
            await asyncio.sleep(random.uniform(0, REGISTER_S))
        for model in models.values():
            if await self._store.give_back(model):
                log.warning("the broker lost model %s: uploaded again", model.name)

    # ── out ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _network_out(self, served: ServedNode, error: HamsError) -> None:
        """A network fails here. Called in a lane."""
        group, epoch = served.plan.group.spec.name, served.plan.epoch
        self._in_loop(self._faults.network_out, served, error.text)
        self._in_loop(self._do, core.NodeFailed(group, epoch, served.node, error, served.digest))

    def _broke(self, error: HamsError) -> None:
        """Called in the executor's threads; the first error counts."""
        self._in_loop(lambda: None if self._broken.done() else self._broken.set_exception(error))

    def _in_loop(self, do: Callable[..., object], *args: object) -> None:
        """Have `do` called in the loop, from another thread."""
        with suppress(RuntimeError):  # the loop is closed: the agent has ended
            self._loop.call_soon_threadsafe(do, *args)

    async def _heartbeats(self) -> None:
        await self._announce.wait()  # for the device's record to be there
        for sequence in itertools.count(1):
            self._announce.clear()
            beat = Heartbeat(
                device=self.device,
                incarnation=self._record.incarnation,
                sequence=sequence,
                connections=self._connections,
                assignments=self._state.view(),
                epoch=self._state.epoch,
                nodes=self.executor.loads(),
                queue=self.executor.waiting,
                busy_s=round(self.executor.busy_s, 6),
                cpu_s=round(time.process_time(), 3),
                lanes=self.executor.lanes,
                uptime_s=round(self._clock.now() - self._started, 3),
                memory_mib=round(resident_mib(), 1),
                memory_domain=self._frames.domain,
                mailbox=self._data.mailbox.address,
                replayed=self._replays.replayed,
                misses=self._replays.misses,
                remarks=(*self._changes.check(self._clock.now()), *self._replays.remarks(), *self._remarks()),
            )
            try:
                await self._bus.publish(subjects.heartbeat(self.device), codec.encode(beat))
            except HamsError as error:
                log.warning("no heartbeat: %s", error)
            try:
                async with asyncio.timeout(subjects.HEARTBEAT_S):  # wait_for of Python 3.11 may lose a cancellation
                    await self._announce.wait()
            except TimeoutError:
                continue

    # ── in ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _on_profile(self, message: Message) -> None:
        """Measure; a model this device cannot run is an answer with its reason, not an error."""
        request = codec.decode(ProfileRequest, message.data)
        log.info("benchmark of %s", request.model.name)
        model = await self._model_file(request)
        baseline = await self._model_file(request.baseline) if request.baseline is not None else None
        record = await self._profiler.measure(model, baseline)
        record = record.model_copy(update={"further": request.model.further_key})
        self._registration.measured[record.key] = record
        await message.respond(codec.encode(record))

    async def _model_file(self, request: ProfileRequest) -> ModelFile:
        assert self._store is not None
        path = await self._store.path(request.model)
        about, further = request.model, tensor_specs(request.model.further)
        return ModelFile(about.name, about.digest, path, request.input_shape, request.dtype, further=further)

    async def _watch_plans(self) -> None:
        bucket = await opened(self._bus.kv, subjects.bucket("plans"))
        await until_resumed(await opened(self._bus.kv, subjects.bucket("health")), self.device)
        async for group, record in watched(bucket, PlanRecord, unread=self._unread):
            self._do(core.PlanSeen(group, record))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._do(core.Tick())
            await self._data.flush()

    # ── decisions, carried out ────────────────────────────────────────────────────────────────────────────────

    def _do(self, event: core.Event) -> None:
        for command in core.step(self._state, event, self._clock.now()):
            match command:
                case core.LoadNode():
                    (self._rebuilds if self._loaded.has(command.key) else self._loads).put_nowait(command)
                case core.DropNode(group, epoch, node):
                    self._loaded.drop((group, epoch, node))
                    if not self._loaded.serves(group):
                        self.executor.forget(group)
                case core.Announce():
                    self._announce.set()

    async def _load_nodes(self) -> None:
        while True:
            await self._built(await self._loads.get(), self._load_node, "loaded")

    async def _rebuild_nodes(self) -> None:
        while True:
            await self._built(await self._rebuilds.get(), self._rebuild_node, "rebuilt")

    async def _built(
        self, command: core.LoadNode, build: Callable[[core.LoadNode], Awaitable[bool]], what: str
    ) -> None:
        """Have a node built, and report how that ended, unless another queue takes it."""
        group, epoch, model = command.plan.group.spec.name, command.plan.epoch, command.model
        if (group, epoch) not in self._state.assignments:
            return  # replaced while it waited
        error: HamsError | None = None
        about = {"group": group, "node": command.node, "epoch": epoch}
        try:
            if not await build(command):
                return
            log.info("%s %s/%s for epoch %d", what, group, command.node, epoch, extra=about)
        except Exception as caught:
            if not isinstance(caught, HamsError):
                log.exception("loading %s/%s", group, command.node, extra=about)
            error = as_hams_error(caught)
            log.error("cannot load %s/%s: %s", group, command.node, error, extra=about)
        excused = error is not None and self._state.excuses(group, epoch, command.node, error)
        failed = error is not None and not excused and self._faults.load_failed(model, error)
        self._do(core.NodeLoaded(group, epoch, command.node, error, model.digest if failed else ""))

    async def _rebuild_node(self, command: core.LoadNode) -> bool:
        if await asyncio.to_thread(self._loaded.rebuild, command, self.device):
            return True
        self._loads.put_nowait(command)  # its network was dropped meanwhile
        return False

    async def _load_node(self, command: core.LoadNode) -> bool:
        assert self._store is not None
        if fault := self._faults.health.fault(command.model.digest):
            raise UnsupportedModelError(fault, f"hams-ctl devices resume {self.device} tries it again")
        path = await self._store.path(command.model)
        key = command.key
        lanes, further = await self._registration.lanes(command.model, key.input_shape), tensor_specs(key.further)
        model = ModelFile(command.model.name, command.model.digest, path, key.input_shape, key.dtype, lanes, further)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._loader, self._loaded.load, command, self.device, model)
        return True

    def _remarks(self) -> Iterator[str]:
        yield from self._state.remarks()
        for group, error in self._unread.items():
            yield f"the plan of group {group} cannot be read: {error.text}; {error.hint}"
