"""The parts of a world: each a real service on a bus of its own, that may be stopped, killed and started again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from hams_agents.backends.emulated import EmulatedBackend
from hams_agents.devices import DeviceSpec
from hams_agents.service import AgentService
from hams_scheduler.service import SchedulerService
from hams_services.pipeline.service import PipelineService
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.memory.server import MemoryServer
from hams_shared.runtime.lifecycle import DRAIN_S
from hams_shared.wire.frame_pool import FOLDER
from support.world.clock import WorldClock
from support.world.stub import StubBackend, StubDevice


class Service(Protocol):
    """What every part's shell has."""

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set."""
        ...

    def validate(self) -> None:
        """Raise AssertionError when its state is not as its core wants it."""
        ...


S = TypeVar("S", bound=Service)


class Part(Generic[S]):
    """One part. Like a process under a supervisor, it may live several times; `service` is its newest life."""

    def __init__(self, name: str, server: MemoryServer, make: Callable[[InMemoryBus], S]) -> None:
        self.name = name
        self.lives = 0
        self.restarts = False
        """Whether it is started again when it ends by itself or is killed, as `hams-ctl up` does."""
        self.bus: InMemoryBus
        self.service: S
        self._server = server
        self._make = make
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def runs(self) -> bool:
        """Whether it is alive."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Begin a life."""
        assert not self.runs, f"{self.name} runs already"
        self.lives += 1
        self._stop = asyncio.Event()
        self.bus = InMemoryBus(
            self._server,
            on_disconnect=lambda: self._hook("on_disconnect"),
            on_reconnect=lambda: self._hook("on_reconnect"),
        )
        self._task = asyncio.get_running_loop().create_task(self._live(), name=self.name)

    def _hook(self, name: str) -> None:
        hook = getattr(self.service, name, None)
        if hook is not None:
            hook()

    async def _live(self) -> None:
        async with self.bus:
            self.service = self._make(self.bus)
            await self.service.run(self._stop)

    async def stop(self) -> None:
        """End it as SIGTERM does, and wait for its end."""
        assert self._task is not None
        self._stop.set()
        async with asyncio.timeout(DRAIN_S):
            await self._task

    async def kill(self) -> None:
        """End it as ``kill -9`` does: nothing it had to say is heard."""
        assert self._task is not None
        self.bus.crash()
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled() and (error := self._task.exception()) is not None:
            raise error
        if self.restarts:
            self.start()

    def ended_by(self) -> BaseException:
        """The error that ended its newest life."""
        error = self._task.exception() if self._task is not None else None
        assert error is not None, f"{self.name} ended by no error"
        return error

    def ends(self, _code: int) -> None:
        """The part ends its own process; called in any of its threads."""
        loop = self._task.get_loop() if self._task is not None else None
        assert loop is not None
        loop.call_soon_threadsafe(lambda: setattr(self, "_ending", loop.create_task(self.kill())))


class World:
    """Broker, clock and parts; see :mod:`support.world.system` for what a test does with them."""

    def __init__(self, folder: Path, clock: WorldClock) -> None:
        self.folder = folder
        self.clock = clock
        self.mailboxes: Path | None = None
        """Where mailboxes lie; None: all messages go by the broker, where a test sees them."""
        self.server = MemoryServer()
        self.parts: dict[str, Part[Any]] = {}
        self.devices: dict[str, StubDevice] = {}
        self.backends: dict[str, StubBackend] = {}

    def scheduler(self, name: str = "scheduler") -> Part[SchedulerService]:
        """Start a scheduler."""
        return self._started(Part(name, self.server, lambda bus: SchedulerService(bus, self.clock)))

    def pipeline(self, name: str = "pipeline") -> Part[PipelineService]:
        """Start a pipeline."""
        folder, clock, mailboxes = self.folder, self.clock, self.mailboxes
        return self._started(Part(name, self.server, lambda bus: PipelineService(bus, folder, clock, "box", mailboxes)))

    def agent(
        self,
        unit: str = "sim",
        device: StubDevice | None = None,
        host: str = "box",
        memory: Path = FOLDER,
        profile: Path | None = None,
    ) -> Part[AgentService]:
        """Start the agent of a stub device; it is called ``host.stub.unit``. It looks for shared frames in `memory`.

        With an emulation `profile` the device is called ``host.emulated.unit``, and the stub computes its outputs.
        """
        stub = device or StubDevice()
        name = f"{host}.stub.{unit}"

        def make(bus: InMemoryBus) -> AgentService:
            inner = self.backends[name] = StubBackend(unit, stub, self.clock)
            agent = AgentService(
                bus,
                inner if profile is None else self._emulated(unit, profile, inner),
                host,
                self.folder,
                lambda: None,
                part.ends,
                clock=self.clock,
                own_process=False,
                memory=memory,
                mailboxes=self.mailboxes,
            )
            executor = agent.executor

            def busy(sleeps: Callable[[int], bool]) -> bool:
                return not bus.closed and any(t.is_alive() and not sleeps(t.ident or 0) for t in executor.threads)

            self.clock.busy.append(busy)
            return agent

        part = Part(name, self.server, make)
        self.devices[name] = stub
        return self._started(part)

    def _emulated(self, unit: str, profile: Path, inner: StubBackend) -> EmulatedBackend:
        spec = DeviceSpec("emulated", str(profile), unit)
        records = self.folder / "outputs"
        return EmulatedBackend(spec, lambda _: inner, records, self.clock.now, self.clock.sleep)

    def _started(self, part: Part[S]) -> Part[S]:
        assert part.name not in self.parts, part.name
        self.parts[part.name] = part
        part.start()
        return part

    async def end(self) -> None:
        """Stop all parts, agents first, as `hams-ctl up` does."""
        for backend in self.backends.values():
            backend.release()
        for part in sorted(self.parts.values(), key=lambda p: ".stub." not in p.name):
            part.restarts = False
            if part.runs:
                await part.kill() if ".stub." in part.name else await part.stop()
