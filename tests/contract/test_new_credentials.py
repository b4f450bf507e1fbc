"""A connection changes to new credentials while messages flow: nothing is lost, repeated or reordered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from hams_services.ctl.system import server_users
from hams_services.ctl.system.broker import MAX_PAYLOAD, Broker
from hams_services.security.folder import set_up_site
from hams_services.security.rotation import Folder
from hams_shared.bus.nats import handover
from hams_shared.bus.nats.client import NatsBus
from hams_shared.bus.protocol import Message
from hams_shared.errors import BadInputError, CredentialsError
from hams_shared.runtime.credentials import load
from support.wait import until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def site(tmp_path: Path) -> Folder:
    set_up_site(tmp_path / "site", [], ["box"], max_payload=MAX_PAYLOAD)
    return Folder(tmp_path / "site", MAX_PAYLOAD)


@pytest.fixture
async def broker(site: Folder, tmp_path: Path) -> AsyncIterator[Broker]:
    async with Broker(tmp_path / "store", secrets=site.path) as running:
        yield running


@pytest.fixture(autouse=True)
def _brokers_may_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_users, "ASK_S", 30.0)


async def rotate(broker: Broker, site: Folder, user: str) -> None:
    """Give `user` another key; return when no connection uses the old one, and the broker refuses it."""
    site.begin(user)
    await server_users.reload(broker.url, site)
    assert await server_users.accepts(broker.url, site, user)
    site.switch(user)
    assert await server_users.until_unused(broker.url, site, user, 60) == []
    site.finish(user)
    await server_users.reload(broker.url, site)


class Flow:
    """Numbered messages from the pipeline to an application, as fast as the broker takes them in turns."""

    def __init__(self, sender: NatsBus, receiver: NatsBus) -> None:
        self._sender, self._receiver = sender, receiver
        self.sent = 0
        self.received: list[int] = []

    async def run(self, stop: asyncio.Event) -> None:
        async def take(message: Message) -> None:
            self.received.append(int(message.data))

        await self._receiver.subscribe("hams.v1.result.g.s", take, limit=100_000)
        await self._receiver.flush()
        while not stop.is_set():
            for _ in range(20):
                await self._sender.publish("hams.v1.result.g.s", str(self.sent).encode())
                self.sent += 1
            await asyncio.sleep(0.002)
        await self._sender.flush(30)
        await until(lambda: len(self.received) >= self.sent)
        assert self.received == list(range(self.sent))


async def test_nothing_is_lost_repeated_or_reordered(broker: Broker, site: Folder) -> None:
    async with AsyncExitStack() as stack:
        sender, receiver, client = [
            await stack.enter_async_context(NatsBus(broker.url, credentials=load(site.creds(user))))
            for user in ("pipeline", "app", "app")
        ]

        async def slow(message: Message) -> None:
            await asyncio.sleep(0.02)
            if message.data == b"bad":
                raise BadInputError("bad")
            await message.respond(message.data)

        await sender.serve("pipeline", "1.0.0", {}, {"infer": ("hams.v1.infer.*", slow)})
        stop, flow, answered = asyncio.Event(), Flow(sender, receiver), 0

        async def ask() -> None:
            nonlocal answered
            while not stop.is_set():
                assert (await client.request("hams.v1.infer.g", b"x", timeout=60)).data == b"x"
                with pytest.raises(BadInputError):
                    await client.request("hams.v1.infer.g", b"bad", timeout=60)
                answered += 1

        async with asyncio.TaskGroup() as together:
            together.create_task(flow.run(stop))
            askers = [together.create_task(ask()) for _ in range(4)]
            await until(lambda: flow.sent and answered)
            for user in ("app", "pipeline"):
                await rotate(broker, site, user)
            stop.set()
            await asyncio.gather(*askers)
        assert flow.sent > 100
        assert [bus.generation for bus in (sender, receiver, client)] == [1, 1, 1]  # no connection was lost


@pytest.mark.parametrize("what", ["users", "key"])
async def test_a_benchmark_under_way_is_answered(
    broker: Broker, site: Folder, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes minutes: the broker reads its users again meanwhile, or the agent takes another key."""
    monkeypatch.setattr(handover, "LATE_S", 0.2)
    async with AsyncExitStack() as stack:
        agent, scheduler = [
            await stack.enter_async_context(NatsBus(broker.url, credentials=load(site.creds(user))))
            for user in ("agent-box", "scheduler")
        ]
        begun, measured = asyncio.Event(), asyncio.Event()

        async def benchmark(message: Message) -> None:
            begun.set()
            await measured.wait()
            await message.respond(b"profile")

        await agent.subscribe("hams.v1.agent.box.emulated.0.profile", benchmark)
        await agent.flush()
        asked = asyncio.create_task(scheduler.request("hams.v1.agent.box.emulated.0.profile", b"", timeout=250))
        await begun.wait()
        if what == "key":
            await rotate(broker, site, "agent-box")
        else:
            site.add("app-door")
            await server_users.reload(broker.url, site)
        measured.set()
        async with asyncio.timeout(60):
            assert (await asked).data == b"profile"
        assert [bus.generation for bus in (agent, scheduler)] == [1, 1]


async def test_who_is_revoked_reads_why_and_comes_back_with_new_credentials(
    broker: Broker, site: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    async with NatsBus(broker.url, credentials=load(site.creds("app"))) as bus:
        site.revoke("app", 1.0)
        await server_users.reload(broker.url, site)
        await until(
            lambda: "rejects the credentials of app, which it accepted before: they were revoked" in caplog.text
        )
        with pytest.raises(CredentialsError, match=r"they were revoked.*app\.creds, of `hams-ctl credentials add app`"):
            await bus.request("hams.v1.infer.face", b"", timeout=1)
        set_up_site(site.path, [], [], max_payload=MAX_PAYLOAD)
        assert not site.creds("app").exists()  # `init` brings nobody back
        site.add("app")
        await server_users.reload(broker.url, site)
        await until(lambda: bus.connected)
        await bus.flush()


async def test_credentials_that_the_broker_does_not_accept_change_nothing(
    broker: Broker, site: Folder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    set_up_site(tmp_path / "other", [], ["box"], max_payload=MAX_PAYLOAD)
    async with NatsBus(broker.url, credentials=load(site.creds("app"))) as bus:
        own = site.creds("app").read_bytes()
        for wrong, said in (
            ((tmp_path / "other" / "app.creds").read_bytes(), "do not trust"),
            (site.creds("dashboard").read_bytes(), "is of dashboard now, and this part is app"),
            (own[:100], "is no credentials file"),
        ):
            site.creds("app").write_bytes(wrong)
            await until(lambda said=said: said in caplog.text)  # type: ignore[misc]
            await bus.flush()
        assert bus.generation == 1
