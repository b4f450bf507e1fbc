"""What a test does with a world: deploy, push, listen, ask, wait, and check the books at the end."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hams_client import Result
from hams_client.client import Hams
from hams_shared.bus.control import Control
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.errors import HamsError
from hams_shared.group.node_spec import Precision
from hams_shared.group.spec import GroupSpec
from hams_shared.wire.messages.group import GroupRecord, ModelPart, ModelRef
from hams_shared.wire.messages.pipeline import StreamView
from hams_shared.wire.messages.scheduler import GroupView, SchedulerView
from hams_shared.wire.variants import Agreement, Made, VariantRecord, task_key
from support.world.parts import World
from support.world.stub import StubDevice

SIZE = (64, 48)
STEP = 4
"""Picture n is grey of value STEP × n."""


def picture(number: int) -> np.ndarray:
    """A grey picture by which its frame can be told."""
    return np.full((SIZE[1], SIZE[0], 3), number % 60 * STEP, np.uint8)


def pictures(folder: Path, numbers: Iterable[int]) -> Path:
    """Write pictures to a folder, in the order of their numbers, and return it."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        cv2.imwrite(str(folder / f"{number:03}.png"), picture(number))
    return folder


def model(text: str) -> tuple[ModelRef, bytes]:
    """A stub's model file; see :mod:`support.world.stub`."""
    data = text.encode()
    digest = hashlib.sha256(data).hexdigest()
    return ModelRef(
        name=text.split()[0], digest=digest, parts=(ModelPart(suffix=".onnx", digest=digest, size=len(data)),)
    ), data


def light(
    stream: dict[str, Any] | None = None,
    *,
    name: str = "grey",
    streams: int = 1,
    node: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A group of one node that gives the brightness of pushed frames, losslessly unless `stream` says otherwise."""
    node = {"model": "brightness", "input": {"size": [8, 8]}, "task": {"type": "regression"}, **(node or {})}
    one = {"source": "push", "mode": "lossless", **(stream or {})}
    return {"name": name, "nodes": {"light": node}, "streams": {f"s{i}": one for i in range(streams)}, **more}


def boxes_and_light(stream: dict[str, Any] | None = None, *, name: str = "grey", **more: Any) -> dict[str, Any]:
    """A group of a detector and, for each object, how bright it is."""
    group = light(stream, name=name, **more)
    detector = {
        "model": "boxes",
        "input": {"size": [16, 16]},
        "task": {"type": "detection_output", "labels": {1: "thing"}},
    }
    return {**group, "nodes": {"find": detector, "light": {**group["nodes"]["light"], "parent": "find"}}}


class System(World):
    """A world with a client in it."""

    async def __aenter__(self) -> System:
        self.bus = await InMemoryBus(self.server).__aenter__()
        self.control = Control(self.bus)
        self.hams = Hams(self.bus)
        self._tasks: list[asyncio.Task[None]] = []
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        try:
            if kind is None:
                self.check_books()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self.end()
            await self.bus.__aexit__(None, None, None)

    # ── doing ─────────────────────────────────────────────────────────────────────────────────────────────────

    def record(self, spec: dict[str, Any]) -> tuple[GroupRecord, dict[str, bytes]]:
        """A group as `hams-ctl deploy` sends it, and its model files by digest."""
        group = GroupSpec.model_validate(spec)
        made = {node: model(part.model) for node, part in group.nodes.items()}
        models = {node: ref for node, (ref, _) in made.items()}
        files = {ref.digest: data for ref, data in made.values()}
        return GroupRecord(spec=group, models=models, deployed_at=self.clock.now()), files

    async def deploy(self, spec: dict[str, Any], *, within: float = 60) -> GroupRecord:
        """Deploy a group, and wait until it serves."""
        record, files = self.record(spec)
        await self.control.upload(files, lambda *_: None)
        record = await self.control.deploy(record)
        async with asyncio.timeout(within):
            async for _ in self.control.follow(record):
                pass
        return record

    async def add_variant(
        self, group: GroupRecord, text: str, agreement: float, *, node: str = "light", precision: Precision = "int8"
    ) -> VariantRecord:
        """Register a stub's model as a variant of a node's, and return what was registered."""
        source, (ref, data) = group.models[node], model(text)
        found = Agreement(value=agreement, samples=100, samples_digest="0" * 64)
        record = VariantRecord(
            model=ref,
            made=Made(source_digest=source.digest, source_format="onnx", format="onnx", precision=precision),
            agreements={task_key(group.spec.nodes[node]): found},
        )
        await self.control.add_variant(source, record, {ref.digest: data}, lambda *_: None)
        return record

    def play(self, group: str = "grey", stream: str = "s0", *, count: int = 10**6, fps: float = 0.0) -> Player:
        """Push pictures in a task: as fast as there is room, or `fps` of them a second."""
        player = Player(self.hams, group, stream, count, fps)
        self._tasks.append(asyncio.get_running_loop().create_task(player.run()))
        return player

    async def listen(self, group: str = "grey") -> Listener:
        """Collect a group's results."""
        listener = Listener(self.hams, group)
        self._tasks.append(asyncio.get_running_loop().create_task(listener.run()))
        await self.until(lambda: listener.ready, what="the listener")
        return listener

    # ── asking ────────────────────────────────────────────────────────────────────────────────────────────────

    async def view(self) -> SchedulerView:
        """What the leading scheduler knows."""
        return await self.control.view()

    async def group(self, name: str = "grey") -> GroupView:
        """One group."""
        return next(g for g in (await self.view()).groups if g.name == name)

    async def stream(self, stream: str = "s0", group: str = "grey") -> StreamView:
        """One stream."""
        views = (await self.control.streams()).streams
        return next(s for s in views if (s.group, s.stream) == (group, stream))

    async def states(self) -> dict[str, str]:
        """All devices that are known, and how they are."""
        return {d.record.device: d.state for d in (await self.view()).devices}

    async def box(self, **devices: StubDevice) -> None:
        """Start all parts of a box, an agent for each device, and wait until the devices are alive."""
        self.scheduler()
        self.pipeline()
        for unit, device in devices.items():
            self.agent(unit, device)
        await self.alive(len(devices))

    async def alive(self, count: int) -> None:
        """Wait until so many devices are alive."""

        async def enough() -> bool:
            return list((await self.states()).values()).count("alive") == count

        await self.until(enough, what=f"{count} devices alive", every=0.1)

    async def until(
        self,
        condition: Callable[[], object | Awaitable[object]],
        within: float = 60,
        what: str = "",
        every: float = 0.02,
    ) -> Any:
        """Wait, in the world's time, until `condition` is true; return what it gave. It may fail until then.

        It is looked at `every` so many seconds: to ask a part costs real time.
        """
        end = self.clock.now() + within
        seen: object = None
        while True:
            self.check_books()
            try:
                seen = condition()
                if isinstance(seen, Awaitable):
                    seen = await seen
                if seen:
                    return seen
            except (HamsError, StopIteration, RuntimeError, IndexError) as error:
                seen = error
            assert self.clock.now() < end, f"not within {within:g} s: {what or condition}; last: {seen!r}"
            await asyncio.sleep(every)

    async def later(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)

    def check_books(self) -> None:
        """Frame conservation in every stream of every pipeline that runs; every state is as its core wants it."""
        for part in self.parts.values():
            if part.runs and hasattr(part, "service"):  # one that has just been started has none
                part.service.validate()


class Player:
    """Pushes pictures."""

    def __init__(self, hams: Hams, group: str, stream: str, count: int, fps: float) -> None:
        self.pushed = 0
        self.overloaded = 0
        self.refused: list[HamsError] = []
        self._hams = hams
        self._where = group, stream
        self._count = count
        self._period = 1 / fps if fps else 0.0

    async def run(self) -> None:
        """Push until all is pushed; one that is refused is pushed again."""
        while self.pushed < self._count:
            try:
                taken = await self._hams.push(*self._where, picture(self.pushed))
            except HamsError as error:
                self.refused.append(error)
                await asyncio.sleep(0.1)
                continue
            self.pushed += 1
            self.overloaded += taken.overloaded
            await asyncio.sleep(self._period)


class Listener:
    """Collects results."""

    def __init__(self, hams: Hams, group: str) -> None:
        self.received: list[Result] = []
        self.ready = False
        self._hams = hams
        self.group = group

    async def run(self) -> None:
        """Listen until cancelled."""
        async with self._hams.results(self.group, limit=100_000) as results:
            self.ready = True
            async for result in results:
                self.received.append(result)

    @property
    def frames(self) -> list[int]:
        """The frames' numbers as they came."""
        return [result.frame for result in self.received]

    @property
    def devices(self) -> list[str]:
        """Which device did the light of each."""
        return [str(result.nodes["light"]["device"]) for result in self.received]

    @property
    def owners(self) -> dict[int, set[str]]:
        """Which devices did the light, by epoch."""
        owners: dict[int, set[str]] = {}
        for result in self.received:
            owners.setdefault(int(result.data["epoch"]), set()).add(str(result.nodes["light"]["device"]))
        return owners

    def check(self, *, whole: bool = True, one_owner: bool = True) -> None:
        """Each frame once and in order (none missing where `whole`), epochs only grow, each with one owner.

        Of a node with replicas (not `one_owner`), a frame may be done under an older plan than the frame before it.
        """
        frames = self.frames
        assert frames == (list(range(len(frames))) if whole else sorted(set(frames)))
        if one_owner:
            epochs = [int(r.data["epoch"]) for r in self.received]
            assert epochs == sorted(epochs)
            assert all(len(devices) == 1 for devices in self.owners.values()), self.owners


def values(results: Iterable[Result]) -> list[float]:
    """How bright each frame was said to be."""
    return [float(r.objects[0]["light"]["value"]) for r in results]
