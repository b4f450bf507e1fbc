"""The bridge: it reads HAMS, and makes an MQTT broker retain what :mod:`core` decides. It decides nothing itself.

Events wait in a queue of OUTBOX; while it is full no more are read: HAMS's journal keeps them. States do not wait: the
newest is published. While the broker is away, tries follow each other with growing pauses.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from hams_client import Event, Hams
from hams_services.sinks.mqtt.core import BridgeCore, Publication
from hams_services.sinks.mqtt.link import Broker, client_of, explained, library, lost
from hams_services.sinks.mqtt.snapshots import Snapshots
from hams_services.sinks.mqtt.states import Retained
from hams_services.sinks.mqtt.topics import OFFLINE, Topics
from hams_shared.bus.ask import pipeline_view, scheduler_view
from hams_shared.bus.protocol import Bus
from hams_shared.errors import CredentialsError, HamsError
from hams_shared.runtime.backoff import Backoff
from hams_shared.runtime.lifecycle import ended, first_of, happens
from hams_shared.wire.messages.pipeline import PipelineView
from hams_shared.wire.messages.scheduler import SchedulerView

if TYPE_CHECKING:
    import aiomqtt

log = logging.getLogger("hams.sinks")

OUTBOX = 1000
"""Events that may wait for the MQTT broker."""
AT_ONCE = 16
"""Messages under way to the broker at a time."""
AGAIN = Backoff(first=0.5, longest=60.0, jitter=0.25)
"""Pauses between two tries to connect, or to read a group's events."""
LOOK_S = 2.0
"""How often scheduler and pipeline are asked, s."""
ASK_S = 2.0
TICK_S = 1.0
"""How long one wait lasts, s."""
STEADY_S = 30.0
"""The pauses between tries are short again once a connection held for so long, s."""
QUIET_S = 0.3
"""The broker has sent all that it retains once it answered, and nothing more came for so long, s."""
COLLECT_S = 20.0
CLOSE_S = 3.0
"""How long the last messages may take, s."""
SEED_S = 3600.0
"""Without a position, tracks that began in the last so many seconds are known, s."""


class Bridge:
    """The bridge between `bus` and `broker`. `now`: any monotonic time, s."""

    def __init__(
        self,
        bus: Bus,
        broker: Broker,
        topics: Topics,
        core: BridgeCore,
        now: Callable[[], float],
        said: Callable[[str], None] = lambda _: None,
        look_s: float = LOOK_S,
    ) -> None:
        self._bus, self._broker, self._topics, self._core, self._now, self._say = bus, broker, topics, core, now, said
        self._look_s = look_s
        self._outbox: deque[tuple[Event, Publication | None]] = deque()
        self._published: Retained = {}
        self._snapshots = Snapshots(bus, core)
        self._news, self._room, self._adopted, self._stop = (asyncio.Event() for _ in range(4))
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._born = False

    async def run(self) -> None:
        """Work until cancelled; then publish what is left, and that the bridge is offline.

        Raises:
            CredentialsError: the broker refuses the login, or its certificate is not trusted; at the start only.
            SourceError: aiomqtt is not installed.
        """
        if self._broker.exposed:
            log.warning("the password goes to %s in clear text: use mqtts:// where others listen", self._broker.host)
        link = asyncio.create_task(self._keep_connected(), name="mqtt link")
        others = [
            asyncio.create_task(self._watch(), name="mqtt watch"),
            asyncio.create_task(self._snapshots.run(self._news.set), name="mqtt snapshots"),
        ]
        try:
            await asyncio.wait([link, *others], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await ended([*others, *self._readers.values()])
            self._stop.set()
            self._news.set()
            await asyncio.wait([link], timeout=CLOSE_S)
            await ended([link])
        for task in (link, *others):
            if not task.cancelled():
                task.result()

    # ── HAMS ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _watch(self) -> None:
        """Ask scheduler and pipeline again and again; read the events of each group that is deployed."""
        while not self._adopted.is_set():
            await happens(self._adopted, TICK_S)
        missing: tuple[str, ...] = ()
        while True:
            scheduler, pipeline = await self._views()
            self._core.look(scheduler, pipeline, self._now(), behind=bool(self._outbox))
            self._news.set()
            if self._core.missing != missing and (missing := self._core.missing):
                self._say(f"not deployed: {', '.join(missing)}; waiting for it")
            groups = set(self._core.groups)
            await ended([self._readers.pop(gone) for gone in self._readers.keys() - groups])
            for group in groups - self._readers.keys():
                self._readers[group] = asyncio.create_task(self._read(group), name=f"mqtt events of {group}")
            await asyncio.sleep(self._look_s)

    async def _views(self) -> tuple[SchedulerView | None, PipelineView | None]:
        scheduler: SchedulerView | None = None
        pipeline: PipelineView | None = None
        try:
            pipeline = await pipeline_view(self._bus, timeout=ASK_S)
            scheduler = await scheduler_view(self._bus, timeout=ASK_S, matrix=False)
        except CredentialsError as error:
            raise CredentialsError(error.text, "the bridge needs dashboard.creds or admin.creds") from None
        except HamsError as error:
            log.info("HAMS does not answer: %s", error)
        return scheduler, pipeline

    async def _read(self, group: str) -> None:
        """Read a group's events without an end."""
        failures = 0
        while True:
            try:
                async with aclosing(await self._begin(group)) as events:
                    async for event in events:
                        failures = 0
                        await self._put(event)
            except HamsError as error:
                failures += 1
                log.info("no events of %s: %s", group, error)
                await asyncio.sleep(AGAIN.pause(failures, random.random()))

    async def _begin(self, group: str) -> AsyncGenerator[Event, None]:
        """Return the events behind the position; without one, take the tracks that are open and begin with now."""
        hams = Hams(self._bus)
        waiting = [event.sequence for event, _ in self._outbox if event.group == group]
        after = max(waiting) if waiting else self._core.after(group)
        if after is None:
            stored = [event async for event in hams.events(group, since=SEED_S, follow=False)]
            after = self._core.recall(group, stored)
            self._news.set()
            if not after:
                return hams.events(group, since=TICK_S)
        return hams.events(group, after=after)

    async def _put(self, event: Event) -> None:
        while len(self._outbox) >= OUTBOX:
            self._room.clear()
            await happens(self._room, TICK_S)
        self._outbox.append((event, self._core.take(event)))
        if self._core.wants_picture(event):
            self._snapshots.ask(event)
        self._news.set()

    # ── MQTT ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _keep_connected(self) -> None:
        mqtt = library()
        failures, since = 0, float("-inf")
        while not self._stop.is_set():
            connected = False
            try:
                async with client_of(self._broker, self._topics) as client:
                    connected, since = True, self._now()
                    await self._serve(client)
            except mqtt.MqttError as error:
                failures = 1 if connected and self._now() - since >= STEADY_S else failures + 1
                found = (
                    (lost(error, self._broker, self._topics), False) if connected else explained(error, self._broker)
                )
                await self._failed(found, failures)

    async def _failed(self, found: tuple[HamsError, bool], failures: int) -> None:
        error, final = found
        if final and not self._adopted.is_set():
            raise error
        pause = AGAIN.pause(failures, random.random())
        if failures & (failures - 1) == 0:
            log.warning("%s; trying again in %.1f s", error, pause)
        await happens(self._stop, pause)

    async def _serve(self, client: aiomqtt.Client) -> None:
        """Publish until the connection ends, or the bridge does."""
        self._published = self._core.adopt(await _collect(client, self._topics))
        if self._topics.discovery:
            await client.subscribe(self._topics.birth, qos=1)
        self._adopted.set()
        self._say(f"connected to {self._broker.where}: topics {self._topics.base}/#")
        await first_of(self._listen(client), self._publish(client))

    async def _listen(self, client: aiomqtt.Client) -> None:
        """Home Assistant has started: it is told of all entities again."""
        async for message in client.messages:
            if message.topic.value == self._topics.birth and message.payload == b"online" and not message.retain:
                self._born = True
                self._news.set()

    async def _publish(self, client: aiomqtt.Client) -> None:
        while True:
            self._news.clear()
            stopping = self._stop.is_set()
            if self._born:
                self._born = False
                self._published = {
                    topic: payload for topic, payload in self._published.items() if not self._topics.is_config(topic)
                }
            await self._send_events(client)
            desired = self._core.desired(self._now(), settled=stopping)
            if stopping:
                desired[self._topics.status] = OFFLINE
            await self._send(client, self._core.differences(desired, self._published))
            if stopping:
                return
            await happens(self._news, TICK_S)

    async def _send_events(self, client: aiomqtt.Client) -> None:
        """Publish the events that wait; each leaves the queue once the broker has taken it."""
        while self._outbox:
            batch = [self._outbox[place] for place in range(min(AT_ONCE, len(self._outbox)))]
            await _send_all(client, [publication for _, publication in batch if publication is not None])
            for event, _ in batch:
                self._outbox.popleft()
                self._core.dealt_with(event.group, event.sequence)
            self._room.set()

    async def _send(self, client: aiomqtt.Client, publications: Iterable[Publication]) -> None:
        waiting = deque(publications)
        while waiting:
            batch = [waiting.popleft() for _ in range(min(AT_ONCE, len(waiting)))]
            await _send_all(client, batch)
            for one in batch:
                if one.payload:
                    self._published[one.topic] = one.payload
                else:
                    self._published.pop(one.topic, None)


async def _send_all(client: aiomqtt.Client, publications: list[Publication]) -> None:
    """Publish messages in order; return once the broker has taken all of them. Raises MqttError."""
    sent = (client.publish(one.topic, one.payload, qos=1, retain=one.retain) for one in publications)
    for outcome in await asyncio.gather(*sent, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


async def _collect(client: aiomqtt.Client, topics: Topics) -> Retained:
    """Return what the broker retains, as far as it may be of a bridge like this one.

    MQTT does not say where it ends: a message of our own comes after it.
    """
    found: Retained = {}
    mark, nonce, seen = f"{topics.base}/mark", secrets.token_bytes(8), False
    for one in topics.subscriptions():
        await client.subscribe(one, qos=1)
    await client.publish(mark, nonce, qos=1)
    messages = client.messages
    with suppress(TimeoutError):
        async with asyncio.timeout(COLLECT_S):
            while True:
                try:
                    async with asyncio.timeout(QUIET_S if seen else COLLECT_S):
                        message = await anext(messages)
                except TimeoutError:
                    break
                payload = message.payload if isinstance(message.payload, bytes) else b""
                if message.retain:
                    found[message.topic.value] = payload
                elif (message.topic.value, payload) == (mark, nonce):
                    seen = True
    for one in topics.subscriptions():
        await client.unsubscribe(one)
    return found
