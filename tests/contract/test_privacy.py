"""Personal data: forgotten by one command, kept no longer while a group is undeployed, and gone from the disk."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import numpy as np
from typer.testing import CliRunner

from hams_services.ctl.actions.forget_events import erase
from hams_services.ctl.app import app
from hams_services.pipeline.gallery import DAY_S, Gallery
from hams_services.pipeline.gallery_janitor import sweep
from hams_services.pipeline.gallery_keeper import Shelves
from hams_services.pipeline.gallery_pages import key
from hams_services.pipeline.gallery_store import GalleryStore
from hams_shared.bus.audit import stored
from hams_shared.bus.journal import events_journal
from hams_shared.bus.nats.client import NatsBus
from hams_shared.bus.protocol import Bus, Place
from hams_shared.group.node_spec import GallerySpec
from hams_shared.group.spec import parse_group
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.group import GroupRecord, ModelPart, ModelRef
from support.events import event
from support.nats_server import NatsServer

from .conftest import Connect

NETWORK = "ab" * 32
NOW = 1_700_000_000.0


async def seen(bus: Bus, group: str, *at: float, spec: GallerySpec) -> Shelves:
    """A stored gallery of persons who were seen at these times."""
    shelves = Shelves(await GalleryStore.open(bus, group), {"who": Gallery(spec, NETWORK)})
    for number, when in enumerate(at):
        shelves.galleries["who"].identify(np.eye(64)[number : number + 1] * 1.0, when)
    await shelves.save(max(at))
    return shelves


async def left(bus: Bus, group: str) -> list[float]:
    gallery = await (await GalleryStore.open(bus, group)).load(key(group, "who", NETWORK))
    assert gallery is not None
    return sorted(one.seen for one in gallery.known.values())


async def test_keep_days_acts_while_a_group_is_not_deployed(connect: Connect, name: str) -> None:
    async with connect() as bus:
        await sweep(bus, NOW + 1000 * DAY_S)  # what other tests have left on this broker
        week = GallerySpec(keep_days=7)
        await seen(bus, f"{name}-gone", NOW - 8 * DAY_S, NOW - 6 * DAY_S, spec=week)
        await seen(bus, f"{name}-here", NOW - 6.5 * DAY_S, NOW - 6 * DAY_S, spec=week)
        await seen(bus, f"{name}-ever", NOW - 6.5 * DAY_S, NOW - 6 * DAY_S, spec=GallerySpec(keep_days=None))
        await (await bus.kv(subjects.bucket("groups"))).put(f"{name}-here", b"its record")
        assert await sweep(bus, NOW) == 1
        assert await left(bus, f"{name}-gone") == [NOW - 6 * DAY_S]
        assert await sweep(bus, NOW + 2 * DAY_S) == 1
        assert await left(bus, f"{name}-gone") == []
        assert [len(await left(bus, f"{name}-{which}")) for which in ("here", "ever")] == [2, 2]
        assert await sweep(bus, NOW + 2 * DAY_S) == 0


async def test_keep_days_acts_on_the_gallery_of_a_node_that_a_deployed_group_no_longer_has(
    connect: Connect, name: str
) -> None:
    async with connect() as bus:
        await sweep(bus, NOW + 1000 * DAY_S)  # what other tests have left on this broker
        groups, week = await bus.kv(subjects.bucket("groups")), GallerySpec(keep_days=7)
        for group, node, params in (
            (f"{name}-without", "who", {}),
            (f"{name}-renamed", "person", {"gallery": {"keep_days": 7}}),
            (f"{name}-with", "who", {"gallery": {"keep_days": 7}}),
        ):
            await seen(bus, group, NOW - 8 * DAY_S, NOW - 6 * DAY_S, spec=week)
            await groups.put(group, codec.encode(deployed(group, node, params)))
        assert await sweep(bus, NOW) == 2
        assert [await left(bus, f"{name}-{which}") for which in ("without", "renamed")] == [[NOW - 6 * DAY_S]] * 2
        assert len(await left(bus, f"{name}-with")) == 2  # its pipeline has it in use: see GalleryKeeper


def deployed(group: str, node: str, params: dict[str, Any]) -> GroupRecord:
    task = {"type": "embedding", **params}
    spec = parse_group({"name": group, "nodes": {node: {"model": "m.onnx", "input": {"size": [8, 8]}, "task": task}}})
    part = ModelPart(suffix=".onnx", digest=NETWORK, size=1)
    return GroupRecord(spec=spec, models={node: ModelRef(name="m", digest=NETWORK, parts=(part,))}, deployed_at=NOW)


async def test_a_gallery_of_an_earlier_version_is_left_until_it_is_deployed(connect: Connect, name: str) -> None:
    async with connect() as bus:
        await seen(bus, name, NOW - 6 * DAY_S, spec=GallerySpec(keep_days=7))
        bucket = await bus.kv(subjects.bucket(subjects.GALLERIES))
        head = await bucket.get(key(name, "who", NETWORK))
        assert head is not None
        old = {name: value for name, value in codec.unpack(head.value or b"").items() if name != "keep_days"}
        await bucket.put(key(name, "who", NETWORK), codec.pack(old))
        await sweep(bus, NOW + 1000 * DAY_S)
        assert len(await left(bus, name)) == 1


async def test_events_between_two_times_are_erased_and_no_others(connect: Connect, name: str) -> None:
    async with connect() as bus:
        journal = await events_journal(bus)
        for number in range(300):
            one = event("new", number, number=number).model_copy(update={"group": name, "id": f"{name}{number}"})
            await journal.publish(subjects.event(name, f"s{number % 2}"), codec.encode(one), one.id)
        await journal.publish(subjects.event(name, "s0"), b"\xc1 no event", f"{name}bad")
        assert await erase(bus, name, NOW + 100, NOW + 199) == 100
        assert await erase(bus, name, 0.0, NOW + 9, "s1") == 5
        assert await erase(bus, name, 0.0, float("inf"), "s0") == 101
        left = [codec.decode(type(event("new", 1)), one.data).frame for one in await all_of(bus, name)]
        assert left == [number for number in range(11, 300, 2) if not 100 <= number < 200]


async def all_of(bus: Bus, group: str) -> list:
    journal, place, found = await events_journal(bus), Place(), []
    while True:
        page = await journal.page(subjects.event(group), place)
        found += page.entries
        if not page.more:
            return found
        place = page.place


def test_one_command_deletes_all_about_a_person_also_on_the_disk(own_nats_server: NatsServer) -> None:
    vector = (np.arange(1, 65) / np.linalg.norm(np.arange(1, 65))).reshape(1, 64)
    asyncio.run(two_persons(own_nats_server.url, vector))
    assert on_disk(own_nats_server, b"Anna Example", b"<JPEG of Anna>", half(vector)) == 3
    said = CliRunner().invoke(
        app, ["gallery", "forget", "grey", "Anna Example", "--events", "--nats", own_nats_server.url]
    )
    assert "1 identity of group grey forgotten, and 1 event deleted" in said.output
    assert on_disk(own_nats_server, b"Anna Example", b"<JPEG of Anna>", half(vector)) == 0
    assert on_disk(own_nats_server, b"Bob Other", b"<JPEG of Bob>") == 2
    assert asyncio.run(audited(own_nats_server.url)) == [  # and not who
        "gallery grey 1 identity forgotten",
        "events grey 1 event deleted",
    ]


async def two_persons(url: str, anna: np.ndarray) -> None:
    """Store two persons whom a group saw at different times, each with an event that has a crop."""
    now = time.time()
    async with NatsBus(url) as bus:
        shelves = Shelves(await GalleryStore.open(bus, "grey"), {"who": Gallery(GallerySpec(), NETWORK)})
        gallery = shelves.galleries["who"]
        gallery.identify(anna, now - 3600)
        gallery.rename(0, "Anna Example")
        await shelves.save(now - 3600)
        gallery.identify(np.eye(64)[:1], now - 7200)
        gallery.rename(1, "Bob Other")
        await shelves.save(now)
        journal = await events_journal(bus)
        for number, (when, crop) in enumerate([(now - 3590, b"<JPEG of Anna>"), (now - 7200, b"<JPEG of Bob>")]):
            one = event("end", number, crop=crop).model_copy(update={"captured": when})
            await journal.publish(subjects.event("grey", "s0"), codec.encode(one), one.id)


async def audited(url: str) -> list[str]:
    async with NatsBus(url) as bus:
        return [f"{one.what} {one.entry.target} {one.entry.text}" async for one in stored(bus, 3600.0)]


def half(vector: np.ndarray) -> bytes:
    """A vector as pages hold it."""
    return vector.astype("<f2").tobytes()


def on_disk(server: NatsServer, *needles: bytes) -> int:
    """How many of `needles` are in any file of the server's store."""
    while True:
        with suppress(FileNotFoundError):  # the broker removed one meanwhile
            files = [path.read_bytes() for path in server.store.rglob("*") if path.is_file()]
            return sum(any(one in data for data in files) for one in needles)


def test_events_are_deleted_only_when_it_is_said_which(own_nats_server: NatsServer) -> None:
    run = CliRunner().invoke
    for options in ([], ["--all", "--last", "1h"]):
        assert "give one of --last, --older-than and --all" in run(app, ["forget-events", "grey", *options]).output
    assert "add --yes" in run(app, ["forget-events", "grey", "--all"]).output
    said = run(app, ["forget-events", "grey", "--all", "--yes", "--nats", own_nats_server.url])
    assert "0 events of group grey deleted" in said.output
