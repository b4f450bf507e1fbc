"""The bridge against a real MQTT broker: whatever is started anew, the broker retains what is true."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hams_services.sinks.mqtt.bridge import Bridge
from hams_services.sinks.mqtt.core import BridgeCore
from hams_services.sinks.mqtt.link import broker_of
from hams_services.sinks.mqtt.topics import Topics
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.memory.server import MemoryServer
from hams_shared.errors import CredentialsError
from hams_shared.runtime.lifecycle import ended
from support.mosquitto import Mosquitto, Watcher, mosquitto, password_file, retained_by
from support.mqtt_site import Site, happened, site_on, stream_view, yard
from support.wait import until

__all__ = ["mosquitto"]

KINDS = ("new", "end", "zone_entered", "zone_left", "zone_dwell", "line_crossed", "rule")
CAM = "hams/yard/cam"
ZONE = f"{CAM}/zone/entrance"
CONFIG = "homeassistant/device/hams_yard_cam/config"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with InMemoryBus(MemoryServer()) as bus, site_on(bus) as made:
        yield made


@pytest.fixture
def watcher(mosquitto: Mosquitto) -> Iterator[Watcher]:
    made = Watcher(mosquitto)
    yield made
    made.close()


@asynccontextmanager
async def bridged(site: Site, broker: Mosquitto, *groups: str, **more: Any) -> AsyncIterator[asyncio.Task[None]]:
    topics = Topics()
    core = BridgeCore(topics, groups or None, kinds=KINDS, snapshots=False, version="1")
    now = asyncio.get_running_loop().time
    bridge = Bridge(site.bus, broker_of(broker.url, more), topics, core, now, look_s=0.1)
    task = asyncio.create_task(bridge.run())
    try:
        yield task
    finally:
        await ended([task])


def entered(track: int, **more: Any) -> Any:
    return happened("zone_entered", track, zone="entrance", zones=("entrance",), **more)


def events(watcher: Watcher) -> list[tuple[str, int]]:
    found = [json.loads(payload) for topic, payload, _ in watcher.heard if topic == f"{CAM}/event"]
    return [(one["kind"], one["track"]) for one in found]


async def until_zone(watcher: Watcher, state: bytes, count: bytes) -> None:
    def true() -> bool:
        found = watcher.retained
        return (found.get(f"{ZONE}/occupancy"), found.get(f"{ZONE}/label/person/count")) == (state, count)

    await until(true, what=f"{state!r} {count!r}")


async def until_status(watcher: Watcher, status: bytes) -> None:
    await until(lambda: watcher.retained.get("hams/status") == status, what=f"status {status!r}")


async def test_a_person_enters_and_leaves(site: Site, mosquitto: Mosquitto, watcher: Watcher) -> None:
    async with bridged(site, mosquitto):
        await until_status(watcher, b"online")
        await until_zone(watcher, b"OFF", b"0")
        found = watcher.retained
        assert (found[f"{CAM}/availability"], found[f"{CAM}/state"]) == (b"online", b"playing")
        assert (found[f"{CAM}/fps"], found[f"{CAM}/latency_ms"]) == (b"10.0", b"42")
        await site.happen(happened("new", 1), happened("update", 1), entered(1))
        await until_zone(watcher, b"ON", b"1")
        site.streams = [stream_view(ins=3)]
        await site.happen(happened("zone_left", 1, zone="entrance"), happened("end", 1))
        await until_zone(watcher, b"OFF", b"0")
        await until(lambda: watcher.retained[f"{CAM}/line/gate/in"] == b"3", what="the line's count")
        assert events(watcher) == [("new", 1), ("zone_entered", 1), ("zone_left", 1), ("end", 1)]
    await until_status(watcher, b"offline")
    assert retained_by(mosquitto) == watcher.retained
    late = Watcher(mosquitto)
    late.close()
    assert f"{CAM}/event" not in [topic for topic, _, _ in late.heard]


async def test_the_bridge_is_started_anew(site: Site, mosquitto: Mosquitto, watcher: Watcher) -> None:
    async with bridged(site, mosquitto):
        await until_status(watcher, b"online")
        await site.happen(happened("new", 1), entered(1), happened("new", 2), entered(2))
        await until_zone(watcher, b"ON", b"2")
    site.specs, site.streams = [yard(lines=())], [stream_view(inside={"entrance": 1})]
    await site.happen(happened("end", 1))  # nobody listens
    watcher.heard.clear()
    async with bridged(site, mosquitto):
        await until_status(watcher, b"online")
        await until_zone(watcher, b"ON", b"1")
        await until(lambda: f"{CAM}/line/gate/in" not in watcher.retained, what="the line is gone")
        assert "line_gate_in" not in json.loads(watcher.retained[CONFIG])["components"]
        configs = [json.loads(payload)["components"] for topic, payload, _ in watcher.heard if topic == CONFIG]
        assert [one.get("line_gate_in") for one in configs] == [{"platform": "sensor"}, None]
        assert events(watcher) == [("end", 1)]
    assert retained_by(mosquitto) == watcher.retained


@pytest.mark.parametrize("forgets", [False, True])
async def test_the_broker_is_started_anew(site: Site, tmp_path: Any, forgets: bool) -> None:
    broker = Mosquitto(tmp_path / "own", persistence=not forgets)
    broker.start()
    watcher = Watcher(broker)
    try:
        async with bridged(site, broker):
            await until_status(watcher, b"online")
            await site.happen(happened("new", 1), entered(1))
            await until_zone(watcher, b"ON", b"1")
            await asyncio.to_thread(broker.stop, kill=forgets)
            await site.happen(happened("new", 2), entered(2), happened("end", 1))
            await asyncio.to_thread(broker.start)
            await until(lambda: retained_by(broker).get(f"{ZONE}/count") == b"1", what="states after the restart")
            await until(lambda: retained_by(broker).get("hams/status") == b"online", what="online again")
            if not forgets:  # else the broker has forgotten the watcher, too
                await until(lambda: ("end", 1) in events(watcher), what="events that waited")
            assert CONFIG in retained_by(broker)
    finally:
        watcher.close()
        broker.stop(kill=True)


async def test_a_full_queue_waits_for_the_broker(
    site: Site, mosquitto: Mosquitto, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hams_services.sinks.mqtt.bridge.OUTBOX", 3)
    async with bridged(site, mosquitto):
        await until_status(watcher, b"online")
        await asyncio.to_thread(mosquitto.stop)
        await site.happen(*(happened("new", track) for track in range(1, 21)))
        await asyncio.to_thread(mosquitto.start)
        await until(lambda: len(events(watcher)) >= 20, what="all events")
        assert events(watcher) == [("new", track) for track in range(1, 21)]
        await until(lambda: watcher.retained[f"{CAM}/count"] == b"20", what="the count")


async def test_hams_is_away_and_comes_back(site: Site, mosquitto: Mosquitto, watcher: Watcher) -> None:
    async with bridged(site, mosquitto):
        await until_status(watcher, b"online")
        await site.happen(happened("new", 1), entered(1))
        await until_zone(watcher, b"ON", b"1")
        site.away = True
        await until_status(watcher, b"offline")
        assert CONFIG in watcher.retained
        site.away = False  # the pipeline was killed: it ends its tracks
        await site.happen(happened("end", 1, reason="restart"), happened("new", 1, run="r2"))
        await until_status(watcher, b"online")
        await until_zone(watcher, b"OFF", b"0")
        site.streams = [stream_view(state="failed", fps=0.0)]
        await until(lambda: watcher.retained[f"{CAM}/availability"] == b"offline", what="a failed stream")
        await until(lambda: watcher.retained[f"{CAM}/state"] == b"failed", what="its state")


async def test_groups_come_and_go(site: Site, mosquitto: Mosquitto, watcher: Watcher) -> None:
    watcher.publish("hams/yard/cam/lamp", b"1", retain=True)  # of somebody else
    async with bridged(site, mosquitto):
        await until_status(watcher, b"online")
        site.specs.append(yard("door"))
        site.streams.append(stream_view("door"))
        await until(lambda: "hams/door/cam/state" in watcher.retained, what="the new group")
        site.specs = site.specs[1:]
        await until(lambda: CONFIG not in watcher.retained, what="the old one is gone")
        await until(lambda: not any(one.startswith(f"{CAM}/z") for one in watcher.retained), what="its states, too")
    site.specs = []
    async with bridged(site, mosquitto):  # what went while there was no bridge
        await until_status(watcher, b"online")
        await until(lambda: set(watcher.retained) == {"hams/status", "hams/yard/cam/lamp"}, what="all is gone")
    assert set(retained_by(mosquitto)) == {"hams/status", "hams/yard/cam/lamp"}


async def test_only_the_groups_that_were_named(site: Site, mosquitto: Mosquitto, watcher: Watcher) -> None:
    site.specs.append(yard("door"))
    async with bridged(site, mosquitto, "door"):
        await until_status(watcher, b"online")
        assert {topic.split("/")[1] for topic in watcher.retained if topic.startswith("hams/")} == {"status", "door"}


async def test_a_second_bridge_with_the_same_base_topic_is_noticed(
    site: Site, mosquitto: Mosquitto, watcher: Watcher, caplog: pytest.LogCaptureFixture
) -> None:
    async with bridged(site, mosquitto):
        await until_status(watcher, b"online")
        async with bridged(site, mosquitto):
            await until(lambda: "does another bridge have the base topic hams?" in caplog.text, what="a warning")


async def test_home_assistant_starts(site: Site, mosquitto: Mosquitto, watcher: Watcher) -> None:
    async with bridged(site, mosquitto):
        await until_status(watcher, b"online")
        watcher.heard.clear()
        watcher.publish("homeassistant/status", b"online")
        await until(lambda: CONFIG in [topic for topic, _, _ in watcher.heard], what="discovery again")


async def test_tracks_that_are_open_before_the_first_start(site: Site, mosquitto: Mosquitto, watcher: Watcher) -> None:
    await site.happen(happened("new", 1), entered(1))
    async with bridged(site, mosquitto):
        await until_zone(watcher, b"ON", b"1")
        assert events(watcher) == []  # they happened before
        await site.happen(happened("end", 1))
        await until_zone(watcher, b"OFF", b"0")
        await until(lambda: events(watcher) == [("end", 1)], what="the end")


async def test_a_broker_that_comes_later(site: Site, tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    broker = Mosquitto(tmp_path / "later")
    async with bridged(site, broker) as task:
        await until(lambda: "no MQTT broker at mqtt://127.0.0.1" in caplog.text, what="a warning")
        await asyncio.to_thread(broker.start)
        try:
            await until(lambda: retained_by(broker).get("hams/status") == b"online", what="online")
        finally:
            broker.stop(kill=True)
        assert not task.done()


async def test_a_wrong_password_is_an_error(site: Site, tmp_path: Any) -> None:
    (tmp_path / "own").mkdir()
    passwords = await asyncio.to_thread(password_file, tmp_path / "own", "hams", "s3cret-of-the-broker")
    broker = Mosquitto(tmp_path / "own", ("allow_anonymous false", f"password_file {passwords}"))
    broker.start()
    login = {"HAMS_MQTT_USER": "hams", "HAMS_MQTT_PASSWORD": "s3cret-of-the-broker"}
    try:
        for wrong in ({}, login | {"HAMS_MQTT_PASSWORD": "wr0ng"}):
            async with bridged(site, broker, **wrong) as task:
                with pytest.raises(CredentialsError, match="refuses .*HAMS_MQTT_USER") as caught:
                    async with asyncio.timeout(60):
                        await task
                assert "wr0ng" not in str(caught.value)
        async with bridged(site, broker, **login) as task:
            await until(lambda: "as 'hams" in broker.log() or "u'hams'" in broker.log() or task.done(), what="login")
            assert not task.done()
    finally:
        broker.stop(kill=True)
