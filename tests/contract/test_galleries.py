"""Galleries on either broker: saved page by page, read again, and changed by one writer at a time."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from hams_services.ctl.actions.gallery import ask_gallery
from hams_services.ctl.app import app
from hams_services.pipeline.gallery import DAY_S, Gallery
from hams_services.pipeline.gallery_keeper import Shelves
from hams_services.pipeline.gallery_pages import key
from hams_services.pipeline.gallery_store import GalleryStore
from hams_shared.bus.nats.client import NatsBus
from hams_shared.bus.protocol import Bus
from hams_shared.errors import MessageError, NotFoundError
from hams_shared.group.node_spec import GallerySpec
from hams_shared.wire import subjects
from hams_shared.wire.messages.gallery import GalleryRequest
from support.nats_server import NatsServer

from .conftest import Connect

SPEC = GallerySpec(threshold=0.9, keep_days=30)
NETWORK, OTHER = "ab" * 32, "cd" * 32
DIMS = 256


def persons(count: int, first: int = 0) -> np.ndarray:
    return np.eye(DIMS)[first : first + count]


def names(gallery: Gallery | None) -> dict[int, str]:
    assert gallery is not None
    return {one.identity: one.name for one in gallery.known.values()}


async def shelves(bus: Bus, group: str, network: str = NETWORK, spec: GallerySpec = SPEC, now: float = 0.0) -> Shelves:
    """The galleries of a group as a pipeline that starts gets them."""
    found = Shelves(await GalleryStore.open(bus, group), {"who": Gallery(spec, network)})
    await found.load(now)
    return found


async def test_a_gallery_is_there_again_with_its_numbers_and_names(connect: Connect, name: str) -> None:
    async with connect() as bus:
        first = await shelves(bus, name)
        first.galleries["who"].identify(persons(130), 1.0)
        first.galleries["who"].rename(70, "Anna")
        first.galleries["who"].forget([129])
        await first.save(2.0)
        again = (await shelves(bus, name)).galleries["who"]
        assert names(again) == {i: "Anna" if i == 70 else "" for i in range(129)}
        assert again.identify(persons(1, 70))[0][0] == 70
        assert again.identify(persons(1, 200))[0][0] == 130  # 129 is not given twice
        assert await shelves(bus, f"{name}x") is not None
        assert not len((await shelves(bus, f"{name}x")).galleries["who"])


async def test_a_save_writes_the_head_and_the_pages_that_changed(connect: Connect, name: str) -> None:
    async with connect() as bus:
        bucket = await bus.kv(subjects.bucket(subjects.GALLERIES))
        one = await shelves(bus, name)
        gallery = one.galleries["who"]
        gallery.identify(persons(130), 1.0)
        await one.save(2.0)
        before = {k: e.revision for k, e in (await bucket.entries()).items() if k.startswith(f"{name}.")}
        assert len(before) == 1 + 3
        gallery.identify(persons(1, 70), 3.0)
        await one.save(4.0)
        await one.save(5.0)
        after = {k: e.revision for k, e in (await bucket.entries()).items() if k.startswith(f"{name}.")}
        head = key(name, "who", NETWORK)
        assert {k for k in after if after[k] != before[k]} == {head, head.replace("head", "1")}


async def test_what_another_process_wrote_counts(connect: Connect, name: str) -> None:
    async with connect() as bus:
        pipeline = await shelves(bus, name)
        pipeline.galleries["who"].identify(persons(3), 1.0)
        await pipeline.save(2.0)
        assert (await ask_gallery(bus, name, GalleryRequest(verb="forget", identity=1))).changed == 1
        pipeline.galleries["who"].identify(persons(3), 3.0)
        await pipeline.save(4.0)
        assert sorted(names(pipeline.galleries["who"])) == [0, 2]
        pipeline.galleries["who"].identify(persons(3), 5.0)
        await pipeline.save(6.0)
        assert sorted(names((await shelves(bus, name)).galleries["who"])) == [0, 2, 3]


async def test_a_write_whose_answer_was_lost_is_no_other_process(connect: Connect, name: str) -> None:
    async with connect() as bus:
        pipeline = await shelves(bus, name)
        pipeline.galleries["who"].identify(persons(2), 1.0)
        await pipeline.save(1.0)
        bucket = await bus.kv(subjects.bucket(subjects.GALLERIES))
        entry = await bucket.get(key(name, "who", NETWORK))
        assert entry is not None
        await bucket.put(entry.key, entry.value or b"")  # as if the save had written it once more
        pipeline.galleries["who"].identify(persons(3), 2.0)
        await pipeline.save(2.0)
        assert sorted(names((await shelves(bus, name)).galleries["who"])) == [0, 1, 2]


async def test_without_a_pipeline_the_stored_galleries_are_listed_named_and_forgotten(
    connect: Connect, name: str
) -> None:
    async with connect() as bus:
        with pytest.raises(NotFoundError, match=f"group {name} has no gallery"):
            await ask_gallery(bus, name, GalleryRequest(verb="list"))
        pipeline = await shelves(bus, name)
        pipeline.galleries["who"].identify(persons(3), 1.0)
        await pipeline.save(2.0)
        await ask_gallery(bus, name, GalleryRequest(verb="name", identity=1, name="Anna"))
        (view,) = (await ask_gallery(bus, name, GalleryRequest(verb="list"))).galleries
        assert {one.identity: one.name for one in view.identities} == {0: "", 1: "Anna", 2: ""}
        assert (await ask_gallery(bus, name, GalleryRequest(verb="forget", name="Anna"))).changed == 1
        assert (await ask_gallery(bus, name, GalleryRequest(verb="forget", everything=True))).changed == 2
        bucket = await bus.kv(subjects.bucket(subjects.GALLERIES))
        assert not [k for k in await bucket.entries() if k.startswith(f"{name}.")]


async def test_a_gallery_of_another_network_is_set_aside_and_one_of_them_kept(connect: Connect, name: str) -> None:
    async with connect() as bus:
        for network, count, now in (("11" * 32, 2, 1.0), (NETWORK, 3, 2.0)):
            old = await shelves(bus, name, network)
            old.galleries["who"].identify(persons(count), now)
            await old.save(now)
        new = await shelves(bus, name, OTHER)
        assert not len(new.galleries["who"])
        assert "3 identities of network abababababab are set aside" in new.text("who")
        assert len(await new.store.heads()) == 1  # the older one is deleted
        assert new.galleries["who"].identify(persons(1), 3.0)[0][0] == 5  # no number is given twice, 2 + 3 were
        await new.save(3.0)
        assert (await new.answer(GalleryRequest(verb="forget", identity=4), 3.0)).changed == 1
        back = await shelves(bus, name)
        assert sorted(names(back.galleries["who"])) == [2, 3]
        assert back.galleries["who"].next == 6
        assert (await back.answer(GalleryRequest(verb="forget", everything=True), 4.0)).changed == 3
        assert not back.text("who")
        assert await back.store.heads() == [key(name, "who", NETWORK)]  # what remains are the numbers given


async def test_age_is_forgotten_on_load_on_save_and_in_what_is_set_aside(connect: Connect, name: str) -> None:
    async with connect() as bus:
        old = await shelves(bus, name)
        old.galleries["who"].identify(persons(1), 0.0)
        old.galleries["who"].identify(persons(1, 1), 20 * DAY_S)
        await old.save(20 * DAY_S)
        assert sorted(names((await shelves(bus, name, now=31 * DAY_S)).galleries["who"])) == [1]
        new = await shelves(bus, name, OTHER, now=31 * DAY_S)
        await new.expire_aside(31 * DAY_S)
        assert [len(gallery) for gallery in (await new.aside()).values()] == [1]
        await new.expire_aside(51 * DAY_S)
        assert [len(gallery) for gallery in (await new.aside()).values()] == [0]
        new.galleries["who"].identify(persons(1), 60 * DAY_S)
        await new.save(89 * DAY_S)
        assert len(new.galleries["who"]) == 1
        await new.save(90 * DAY_S)
        assert not len((await shelves(bus, name, OTHER)).galleries["who"])


async def test_keep_days_0_stores_nothing_and_deletes_what_is_stored(connect: Connect, name: str) -> None:
    async with connect() as bus:
        old = await shelves(bus, name)
        old.galleries["who"].identify(persons(1), 0.0)
        await old.save(0.0)
        new = await shelves(bus, name, spec=GallerySpec(keep_days=0))
        new.galleries["who"].identify(persons(1), 0.0)
        await new.save(1.0)
        assert await new.store.heads() == []
        assert len(new.galleries["who"]) == 1


@pytest.mark.parametrize("part", ["head", "0", "1"])
async def test_a_damaged_gallery_is_named_begins_empty_and_is_replaced(connect: Connect, name: str, part: str) -> None:
    async with connect() as bus:
        old = await shelves(bus, name)
        old.galleries["who"].identify(persons(70), 1.0)
        await old.save(1.0)
        bucket = await bus.kv(subjects.bucket(subjects.GALLERIES))
        head = key(name, "who", NETWORK)
        await bucket.put(head.replace("head", part), b"\xc1 damaged")
        with pytest.raises(MessageError):
            await GalleryStore(bucket, name).load(head)
        new = await shelves(bus, name)
        assert not len(new.galleries["who"])
        assert "damaged" in new.text("who")
        new.galleries["who"].identify(persons(1), 2.0)
        await new.save(2.0)
        again = await shelves(bus, name)
        assert len(again.galleries["who"]) == 1
        assert not again.text("who")
        assert list(names(again.galleries["who"])) == [0 if part == "head" else 70]
        assert set(await new.store._read(f"{name}.>")) == {head, head.replace("head", "0")}


@pytest.fixture
def ctl(nats_server: NatsServer) -> Iterator[Callable[..., Any]]:
    """Run `hams-ctl gallery` against the broker."""
    before = signal.getsignal(signal.SIGINT)
    runner = CliRunner()
    yield lambda *words, **more: runner.invoke(app, ["gallery", *words, "--nats", nats_server.url], **more)
    signal.signal(signal.SIGINT, before)


def test_the_commands_on_a_broker(ctl: Callable[..., Any], nats_server: NatsServer, name: str) -> None:
    async def seed() -> None:
        async with NatsBus(nats_server.url) as bus:
            pipeline = await shelves(bus, name)
            pipeline.galleries["who"].identify(persons(20), time.time())
            await pipeline.save(time.time())

    asyncio.run(seed())
    assert ctl("name", name, "3", "Anna").stdout == f"identity 3 of group {name} is Anna\n"
    listed = ctl("list", name, "--limit", "5").stdout
    assert "just now" in listed
    assert "5 of 20 shown" in listed
    (view,) = json.loads(ctl("list", name, "--json").stdout)
    assert {one["identity"]: one["name"] for one in view["identities"]}[3] == "Anna"
    refused = ctl("forget", name, "--older-than", "0s")
    assert refused.exit_code == 2
    assert "20 identities" in refused.stderr
    assert "--yes" in refused.stderr
    assert ctl("forget", name, "Anna").stdout == f"1 identity of group {name} forgotten\n"
    assert json.loads(ctl("forget", name, "7", "--json").stdout) == {"group": name, "forgotten": 1}
    wrong = ctl("forget", name, "7")
    assert wrong.exit_code == 5
    assert f"group {name} has no identity 7" in wrong.stderr
    assert ctl("forget", name, "--all", "--yes").stdout == f"18 identities of group {name} forgotten\n"
    assert ctl("list", name).exit_code == 5
