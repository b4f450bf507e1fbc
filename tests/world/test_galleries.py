"""Galleries of a running group: they outlive the pipeline, the group and the store, and who is forgotten stays so."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest

from hams_services.ctl.actions.gallery import ask_gallery
from hams_services.pipeline.gallery import DAY_S
from hams_services.pipeline.gallery_janitor import sweep
from hams_services.pipeline.gallery_keeper import SAVE_S
from hams_services.pipeline.gallery_pages import key
from hams_services.pipeline.gallery_store import GalleryStore
from hams_services.pipeline.service import PipelineService
from hams_shared.errors import NotFoundError
from hams_shared.wire import subjects
from hams_shared.wire.messages.gallery import GalleryAnswer, GalleryRequest
from hams_shared.wire.messages.group import GroupRecord
from support.world.parts import Part
from support.world.stub import PERSONS
from support.world.system import SIZE, System, boxes_and_light, light


def image(who: int) -> np.ndarray:
    """An image of the person `who`, 0 to 7."""
    return np.full((SIZE[1], SIZE[0], 3), who * 256 // PERSONS + 10, np.uint8)


def group(model: str = "person", **gallery: Any) -> dict[str, Any]:
    """A group that recognises persons, with two cameras."""
    node = {"model": model, "task": {"type": "embedding", "gallery": {"threshold": 0.9, **gallery}}}
    return light(streams=2, node=node)


class Site:
    """A box, its pipeline, and its group."""

    def __init__(self, world: System, pipeline: Part[PipelineService], record: GroupRecord) -> None:
        self.world, self.pipeline, self.record = world, pipeline, record

    async def sees(self, who: int, stream: str = "s0") -> dict[str, Any]:
        """Show a person to a camera; return the output about it."""
        async with self.world.hams.results("grey") as results:
            await self.world.hams.push("grey", stream, image(who))
            result = await anext(results)
        return dict(result.data["objects"][0]["light"])

    async def ask(self, **request: Any) -> GalleryAnswer:
        """What `hams-ctl gallery` asks for."""
        return await ask_gallery(self.world.bus, "grey", GalleryRequest(**request))

    async def names(self) -> dict[int, str]:
        """The names of all identities of the gallery in use."""
        views = (await self.ask(verb="list")).galleries
        return {one.identity: one.name for view in views if not view.aside for one in view.identities}

    async def restart(self) -> None:
        """Stop the pipeline, and start it again."""
        await self.pipeline.stop()
        self.pipeline.start()
        await self.world.until(self.world.stream, what="the pipeline")

    async def redeploy(self, spec: dict[str, Any]) -> None:
        """Deploy the group anew."""
        self.record = await self.world.deploy(spec)

    @property
    def head(self) -> str:
        """The key of the gallery in use."""
        return key("grey", "light", self.record.models["light"].digest)


async def site(world: System, **gallery: Any) -> Site:
    """A box that serves the group."""
    world.scheduler()
    pipeline = world.pipeline()
    world.agent("sim")
    await world.alive(1)
    return Site(world, pipeline, await world.deploy(group(**gallery)))


async def test_identities_and_names_outlive_pipeline_and_group_and_are_those_of_all_cameras(world: System) -> None:
    box = await site(world)
    assert [(await box.sees(who))["identity"] for who in (3, 5)] == [0, 1]
    await box.ask(verb="name", identity=1, name="Anna")
    seen = await box.sees(5, "s1")
    assert (seen["identity"], seen["name"]) == (1, "Anna")
    await box.restart()
    assert [(await box.sees(who)).get("name") for who in (3, 5)] == [None, "Anna"]
    assert (await box.sees(6))["identity"] == 2
    await world.control.undeploy("grey")
    await world.until(lambda: not box.pipeline.service._groups)
    assert await box.names() == {0: "", 1: "Anna", 2: ""}  # read from the broker
    await box.redeploy(group())
    assert [(await box.sees(who))["identity"] for who in (3, 5, 6, 7)] == [0, 1, 2, 3]


async def test_a_pipeline_that_starts_while_another_network_is_loaded_has_the_gallery_of_the_one_that_serves(
    world: System,
) -> None:
    box = await site(world)
    assert (await box.sees(3))["identity"] == 0
    await box.ask(verb="name", identity=0, name="Anna")
    world.devices["box.stub.sim"].load_s = 60.0
    record, files = world.record(group("person +1"))
    await world.control.upload(files, lambda *_: None)
    await world.control.deploy(record)
    await box.restart()
    await world.later(2 * SAVE_S)
    assert (await box.sees(3)).get("name") == "Anna"
    await world.later(2 * SAVE_S)
    async with asyncio.timeout(300):
        async for _ in world.control.follow(record):
            pass
    await world.deploy(group())
    assert (await box.sees(3)).get("name") == "Anna"


async def test_a_pipeline_that_is_killed_has_what_was_saved_every_few_seconds(world: System) -> None:
    box = await site(world)
    await box.sees(3)
    await world.later(2 * SAVE_S)
    await box.sees(4)
    await box.pipeline.kill()
    box.pipeline.start()
    await world.until(world.stream, what="the pipeline")
    assert await box.names() == {0: ""}
    assert (await box.sees(3))["identity"] == 0


async def test_who_is_forgotten_stays_forgotten(world: System) -> None:
    box = await site(world)
    for who in (3, 4, 5):
        await box.sees(who)
    await box.ask(verb="name", identity=1, name="Anna")
    assert (await box.ask(verb="forget", identity=0)).changed == 1
    assert await box.names() == {1: "Anna", 2: ""}
    await world.later(2 * SAVE_S)  # nothing writes it back
    await box.pipeline.kill()
    box.pipeline.start()
    await world.until(world.stream, what="the pipeline")
    assert await box.names() == {1: "Anna", 2: ""}
    assert (await box.sees(3))["identity"] == 3
    assert (await box.ask(verb="forget", name="Anna")).changed == 1
    with pytest.raises(NotFoundError, match="no identity named 'Anna'"):
        await box.ask(verb="forget", name="Anna")
    assert (await box.ask(verb="forget", older_than_s=3600)).changed == 0
    assert (await box.ask(verb="forget", older_than_s=0)).changed == 2
    await box.restart()
    assert await box.names() == {}


async def test_forgotten_while_no_pipeline_runs(world: System) -> None:
    box = await site(world)
    for who in (3, 4):
        await box.sees(who)
    await box.pipeline.stop()
    assert (await box.ask(verb="forget", identity=0)).changed == 1
    box.pipeline.start()
    await world.until(world.stream, what="the pipeline")
    assert await box.names() == {1: ""}
    assert [(await box.sees(who))["identity"] for who in (3, 4)] == [2, 1]


async def test_capacity_holds_over_a_restart(world: System) -> None:
    box = await site(world, capacity=3)
    for who in range(6):
        await box.sees(who)
    assert sorted(await box.names()) == [3, 4, 5]
    await box.restart()
    assert (await box.sees(7))["identity"] == 6
    assert sorted(await box.names()) == [4, 5, 6]


async def test_a_lower_capacity_holds_at_once(world: System) -> None:
    box = await site(world, capacity=6)
    for who in range(6):
        await box.sees(who)
    await box.redeploy(group(capacity=2))
    for who in (6, 7, 0):
        await box.sees(who)
        assert len(await box.names()) == 2
    await box.restart()
    await box.sees(1)
    assert sorted(await box.names()) == [8, 9]


@pytest.mark.parametrize("cadence", [1, "track"])
async def test_who_comes_to_a_stream_that_is_deployed_again_is_not_taken_for_who_was_there(
    world: System, cadence: int | str
) -> None:
    """Its tracks are counted from 1 again."""
    both, rest = followed(2, cadence), followed(2, cadence)
    del rest["streams"]["s0"]
    world.scheduler()
    box = Site(world, world.pipeline(), world.record(both)[0])
    world.agent("sim")
    await world.alive(1)
    await box.redeploy(both)
    assert await told(world, 3) == {0, 1}  # each image shows two objects, alike
    for identity in (0, 1):
        await box.ask(verb="name", identity=identity, name=f"Anna {identity}")
    await box.redeploy(rest)
    await box.redeploy(both)
    assert await told(world, 5) == {2, 3}
    assert await box.names() == {0: "Anna 0", 1: "Anna 1", 2: "", 3: ""}


def followed(streams: int, cadence: int | str) -> dict[str, Any]:
    """A group that recognises the objects that it follows."""
    task = {"type": "embedding", "gallery": {"threshold": 0.9}}
    whole = boxes_and_light(streams=streams, node={"model": "person", "task": task, "cadence": cadence})
    whole["nodes"]["find"]["track"] = {"confirm_hits": 1}
    return whole


async def told(world: System, who: int) -> set[int]:
    """Show images of a person for 2 s; return all identities in the results."""
    found = set()
    async with world.hams.results("grey") as results:
        for _ in range(20):
            await world.hams.push("grey", "s0", image(who))
            objects = (await anext(results)).data["objects"]
            found |= {one["light"].get("identity") for one in objects if "light" in one}
            await world.later(0.1)
    return found - {None}


@pytest.mark.parametrize("gallery", [False, True], ids=["no gallery", "that of another node"])
async def test_keep_days_acts_on_a_gallery_that_the_deployed_group_no_longer_has(world: System, gallery: bool) -> None:
    box = await site(world, keep_days=30)
    await box.sees(3)
    await box.ask(verb="name", identity=0, name="Anna")
    left = box.head
    other = group()
    other["nodes"] = {"other": other["nodes"]["light"]}
    if not gallery:
        del other["nodes"]["other"]["task"]["gallery"]
    await box.redeploy(other)
    await world.later(2 * SAVE_S)
    now, store = time.time(), await GalleryStore.open(world.bus, "grey")

    async def known() -> int:
        found = await store.load(left)
        assert found is not None
        return len(found)

    assert await sweep(world.bus, now + 29 * DAY_S) == 0
    assert await known() == 1
    assert await sweep(world.bus, now + 31 * DAY_S) == 1
    await world.later(2 * SAVE_S)
    assert await known() == 0
    await box.redeploy(group())
    assert (await box.sees(3))["identity"] == 1  # no number is given twice


async def test_vectors_of_another_network_are_set_aside_and_status_says_so(world: System) -> None:
    box = await site(world)
    await box.sees(3)
    await box.redeploy(group("person +1"))
    assert "light: 1 identities of network" in (await world.stream()).text
    assert (await box.sees(2))["identity"] == 1  # the same vector as that of person 3 from the other network
    views = (await box.ask(verb="list")).galleries
    assert [(view.aside, view.count) for view in views] == [(False, 1), (True, 1)]
    await box.redeploy(group())
    assert (await box.sees(3))["identity"] == 0
    assert (await box.ask(verb="forget", everything=True)).changed == 2
    assert "gallery" not in (await world.stream()).text


async def test_a_damaged_gallery_begins_empty_with_a_named_error(world: System) -> None:
    box = await site(world)
    await box.sees(3)
    await box.pipeline.stop()
    bucket = await world.bus.kv(subjects.bucket(subjects.GALLERIES))
    await bucket.put(box.head.replace("head", "0"), b"\xc1")
    box.pipeline.start()
    await world.until(world.stream, what="the pipeline")
    assert "gallery light: the stored gallery is damaged, and begins empty: page 0" in (await world.stream()).text
    assert (await box.sees(3))["identity"] == 1
    await box.restart()
    assert (await box.sees(3))["identity"] == 1
    assert "gallery" not in (await world.stream()).text


async def test_the_broker_loses_its_store_or_is_away(world: System) -> None:
    box = await site(world)
    for who in (3, 4):
        await box.sees(who)
    await world.later(2 * SAVE_S)
    world.server.stop()
    await world.later(3 * SAVE_S)
    world.server.start(empty=True)
    await world.until(world.stream, what="the pipeline")
    await world.until(lambda: box.sees(3), what="a result")
    await world.later(2 * SAVE_S)
    await box.pipeline.kill()
    box.pipeline.start()
    await world.until(world.stream, what="the pipeline")
    assert await box.names() == {0: "", 1: ""}


async def test_a_group_without_galleries_leaves_no_trace(world: System) -> None:
    world.scheduler()
    world.pipeline()
    world.agent("sim")
    await world.deploy(light())
    assert subjects.bucket(subjects.GALLERIES) not in world.server.buckets
    with pytest.raises(NotFoundError, match="group grey has no gallery"):
        await ask_gallery(world.bus, "grey", GalleryRequest(verb="list"))


async def test_a_single_image_is_recognised_and_not_learned(world: System) -> None:
    box = await site(world)
    await box.sees(3)
    await box.ask(verb="name", identity=0, name="Anna")
    known, unknown = [(await world.hams.infer("grey", image(who))).data["objects"][0]["light"] for who in (3, 5)]
    assert (known["identity"], known["name"]) == (0, "Anna")
    assert unknown["identity"] is None
    assert await box.names() == {0: "Anna"}
