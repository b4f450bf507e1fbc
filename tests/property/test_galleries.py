"""Whatever happens to a pipeline and its gallery: who was forgotten never comes back, who was saved is not lost."""

from __future__ import annotations

import asyncio

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hams_services.ctl.actions.gallery import ask_gallery
from hams_services.pipeline.gallery import Gallery
from hams_services.pipeline.gallery_keeper import Shelves
from hams_services.pipeline.gallery_store import GalleryStore
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.memory.server import MemoryServer
from hams_shared.errors import NotFoundError
from hams_shared.group.node_spec import GallerySpec
from hams_shared.wire.messages.gallery import GalleryRequest

DIMS = 1024
"""16 vectors to a page, so that the persons lie on several."""
PERSONS = 40
SPEC = GallerySpec(threshold=0.9, keep_days=None)
NETWORKS = ("ab" * 32, "cd" * 32)

STEPS = st.one_of(
    st.tuples(st.just("see"), st.lists(st.integers(0, PERSONS - 1), min_size=1, max_size=20, unique=True)),
    st.tuples(st.just("forget"), st.integers(0, 60)),
    st.tuples(st.just("forget without the pipeline"), st.integers(0, 60)),
    st.tuples(st.sampled_from(["save", "stop", "kill", "other network", "lose the store"]), st.none()),
)


class Life:
    """A gallery over several lives of its pipeline, and what is to be expected of it."""

    def __init__(self, bus: InMemoryBus, server: MemoryServer) -> None:
        self.bus, self.server = bus, server
        self.network = 0
        self.shelves: Shelves
        self.forgotten: set[int] = set()
        self.saved: tuple[set[int], set[int]] = set(), set()
        """By network: what must be there."""

    def known(self) -> set[int]:
        return {one.identity for one in self.shelves.galleries["who"].known.values()}

    async def start(self) -> None:
        store = await GalleryStore.open(self.bus, "g")
        self.shelves = Shelves(store, {"who": Gallery(SPEC, NETWORKS[self.network])})
        await self.shelves.load(0.0)
        assert not self.shelves.damaged
        assert self.saved[self.network] <= self.known()

    async def save(self) -> None:
        await self.shelves.save(0.0)
        self.saved[self.network].update(self.known())

    async def forget(self, identity: int, *, by_pipeline: bool) -> None:
        request = GalleryRequest(verb="forget", identity=identity)
        try:
            if by_pipeline:
                await self.shelves.answer(request, 0.0)
                self.saved[self.network].update(self.known())
            else:
                await ask_gallery(self.bus, "g", request)
        except NotFoundError:
            return
        self.forgotten.add(identity)
        for saved in self.saved:
            saved.discard(identity)

    async def step(self, what: str, argument: object) -> None:
        match what, argument:
            case "see", list() as persons:
                self.shelves.galleries["who"].identify(np.eye(DIMS)[persons], 1.0)
            case "forget", int() as identity:
                await self.forget(identity, by_pipeline=True)
            case "forget without the pipeline", int() as identity:
                await self.save()
                await self.forget(identity, by_pipeline=False)
                await self.save()
                await self.start()
            case "save", _:
                await self.save()
            case "stop", _:
                await self.save()
                await self.start()
            case "kill", _:
                await self.start()
            case "other network", _:
                await self.save()
                self.network = 1 - self.network
                await self.start()
            case "lose the store", _:
                self.server.stop()
                self.server.start(empty=True)
                self.saved = set(), set()
                await self.save()


async def live(steps: list[tuple[str, object]]) -> None:
    server = MemoryServer()
    async with InMemoryBus(server) as bus:
        life = Life(bus, server)
        await life.start()
        for what, argument in steps:
            await life.step(what, argument)
            assert not life.known() & life.forgotten, (what, argument)
        await life.save()
        await life.start()
        everything = life.known().union(
            *({k.identity for k in g.known.values()} for g in (await life.shelves.aside()).values())
        )
        assert not everything & life.forgotten


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_forgotten_stays_forgotten_and_saved_is_kept(steps: list[tuple[str, object]]) -> None:
    asyncio.run(live(steps))
