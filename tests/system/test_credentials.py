"""A broker that takes only whom it knows: each role's rights one by one, what goes wrong, and a whole system."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import cv2
import nats
import numpy as np
import pytest

import hams_client
from hams_services.ctl.actions.gallery import ask_gallery
from hams_services.ctl.system.broker import MAX_PAYLOAD, Broker
from hams_services.pipeline.event_history import EventHistory
from hams_services.pipeline.event_outbox import EventOutbox
from hams_services.pipeline.gallery import Gallery
from hams_services.pipeline.gallery_keeper import Shelves
from hams_services.pipeline.gallery_store import GalleryStore
from hams_services.security.folder import set_up_site
from hams_shared.bus.journal import events_journal
from hams_shared.bus.model_prune import prune, stored
from hams_shared.bus.nats.client import NatsBus
from hams_shared.bus.protocol import Message
from hams_shared.errors import BadInputError, BrokerError, CredentialsError
from hams_shared.group.node_spec import GallerySpec
from hams_shared.runtime.credentials import Credentials, load
from hams_shared.runtime.lifecycle import ended
from hams_shared.wire import subjects
from hams_shared.wire.messages.gallery import GalleryRequest
from support.events import event
from support.grey import LENGTH, group_file, picture, video
from support.refusals import turned_away
from support.results import Subscriber
from support.up import Up
from support.wait import following, until_sync

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site of two boxes."""
    set_up_site(tmp_path / "site", [], ["box", "box2"], max_payload=MAX_PAYLOAD)
    return tmp_path / "site"


@pytest.fixture
async def broker(site: Path, tmp_path: Path) -> AsyncIterator[Broker]:
    """Its broker."""
    async with Broker(tmp_path / "store", host="0.0.0.0", secrets=site) as running:
        admin = load(site / "admin.creds")
        async with NatsBus(running.url, credentials=admin) as bus:
            for bucket in subjects.BUCKETS:
                await bus.kv(subjects.bucket(bucket))
            await bus.objects(subjects.MODEL_STORE)
            await events_journal(bus)
        yield running


MAY = {
    "agent-box": {
        "publish": [
            "hams.v1.heartbeat.box.openvino.cpu0",
            "hams.v1.work.box2.openvino.cpu0",
            "hams.v1.answer.face.s",
            "$KV.hams-devices.box.openvino.cpu0",
            "$JS.API.STREAM.INFO.KV_hams-plans",
            "$JS.API.CONSUMER.CREATE.OBJ_hams-models.x.y",
            "_INBOX_scheduler.x.y",  # answers to its requests
        ],
        "subscribe": ["hams.v1.work.box.openvino.cpu0", "hams.v1.agent.box.openvino.cpu0.profile", "$SRV.PING"],
    },
    "app": {
        "publish": [
            "hams.v1.infer.face",
            "hams.v1.push.face.s",
            "hams.v1.events-after.face",
            "hams.v1.pipeline.groups",
            "hams.v1.pictures-wanted.face",
            "hams.v1.outputs-wanted.face",
        ],
        "subscribe": [
            "hams.v1.result.face.*",
            "hams.v1.event.face.*",
            "hams.v1.output.face.*.age",
            "hams.v1.picture.face.*",
        ],
    },
    "dashboard": {
        "publish": [
            "hams.v1.scheduler.view",
            "hams.v1.pipeline.status",
            "hams.v1.events-after.face",
            "hams.v1.history-after",
            "$SRV.PING",
        ],
        "subscribe": ["hams.v1.heartbeat.*.*.*", "hams.v1.result.face.*", "hams.v1.event.face.*", "hams.v1.history.*"],
    },
    "scheduler": {
        "publish": [
            "$KV.hams-plans.face",
            "$KV.hams-profiles.x",
            "hams.v1.agent.box.openvino.cpu0.profile",
            "hams.v1.history.scheduler",
            "$JS.API.STREAM.CREATE.hams-history",
            "$JS.API.STREAM.MSG.GET.hams-history",
        ],
        "subscribe": [
            "hams.v1.heartbeat.*.*.*",
            "hams.v1.scheduler.plan",
            "hams.v1.pipeline.load",
            "hams.v1.history-after",
        ],
    },
    "pipeline": {
        "publish": [
            "hams.v1.work.box.openvino.cpu0",
            "hams.v1.result.face.s",
            "hams.v1.output.face.s.age",
            "hams.v1.event.face.s",
            "$KV.hams-tracks.face.s",
            "$JS.API.STREAM.CREATE.hams-events",
            "$JS.API.STREAM.MSG.GET.hams-events",
            "$JS.API.STREAM.INFO.KV_hams-tracks",
        ],
        "subscribe": ["hams.v1.events-after.*", "hams.v1.answer.face.*", "hams.v1.infer.*", "hams.v1.heartbeat.*.*.*"],
    },
    "optimizer": {
        "publish": ["$KV.hams-variants.x", "$KV.hams-jobs.x", "$O.hams-models.C.x", "hams.v1.scheduler.plan"],
        "subscribe": ["hams.v1.result.face.*", "hams.v1.picture.face.*"],
    },
    "admin": {"publish": ["$KV.hams-groups.face", "hams.v1.scheduler.plan"], "subscribe": ["hams.v1.>"]},
}
MAY_NOT = {
    "agent-box": {
        "publish": [
            "hams.v1.heartbeat.box2.openvino.cpu0",
            "$KV.hams-devices.box2.openvino.cpu0",
            "$KV.hams-plans.face",
            "$KV.hams-groups.face",
            "$KV.hams-profiles.x",
            "hams.v1.result.face.s",
            "hams.v1.event.face.s",
            "$JS.API.STREAM.MSG.GET.hams-events",
            "hams.v1.agent.box2.openvino.cpu0.profile",
            "$JS.API.STREAM.DELETE.KV_hams-plans",
            "$JS.API.STREAM.PURGE.KV_hams-plans",
            "$JS.API.STREAM.UPDATE.KV_hams-plans",
            "$JS.API.STREAM.CREATE.other",
            "$JS.API.STREAM.MSG.DELETE.KV_hams-plans",
            "$JS.API.DIRECT.GET.OBJ_hams-models.x",
            "$JS.API.DIRECT.GET.KV_hams-devices.x",
            "_INBOX_scheduler.x",  # what it watches in buckets
            "_INBOX_scheduler.x.y.z",
            "_INBOX_admin.x.y",
            "_INBOX_pipeline.x.y",
        ],
        "subscribe": ["hams.v1.work.box2.openvino.cpu0", "hams.v1.work.>", "_INBOX.>", "_INBOX_scheduler.>", ">"],
    },
    "app": {
        "publish": [
            "hams.v1.result.face.s",
            "hams.v1.answer.face.s",
            "hams.v1.work.box.openvino.cpu0",
            "hams.v1.heartbeat.box.openvino.cpu0",
            "hams.v1.scheduler.plan",
            "$KV.hams-groups.face",
            "$JS.API.STREAM.INFO.KV_hams-plans",
            "$JS.API.STREAM.MSG.GET.KV_hams-groups",
            "hams.v1.event.face.s",
            "$JS.API.STREAM.INFO.hams-events",
            "$JS.API.STREAM.MSG.GET.hams-events",
            "$JS.API.CONSUMER.CREATE.hams-events.x",
            "hams.v1.history-after",
            "hams.v1.history.scheduler",
        ],
        "subscribe": [
            "hams.v1.history.>",
            "hams.v1.events-after.>",
            "hams.v1.infer.face",
            "hams.v1.work.>",
            "$KV.>",
            "_INBOX_admin.>",
            "hams.v1.>",
        ],
    },
    "dashboard": {
        "publish": [
            "hams.v1.infer.face",
            "hams.v1.push.face.s",
            "hams.v1.event.face.s",
            "$JS.API.STREAM.MSG.GET.hams-events",
            "$JS.API.STREAM.MSG.GET.hams-history",
            "hams.v1.history.scheduler",
            "$KV.hams-groups.face",
            "hams.v1.work.box.a.b",
        ],
        "subscribe": ["hams.v1.work.>", "_INBOX_admin.>"],
    },
    "scheduler": {
        "publish": [
            "hams.v1.work.box.openvino.cpu0",
            "hams.v1.result.face.s",
            "$JS.API.STREAM.DELETE.KV_hams-plans",
            "$JS.API.STREAM.PURGE.hams-history",
        ],
        "subscribe": ["hams.v1.work.>", "hams.v1.infer.>"],
    },
    "pipeline": {
        "publish": [
            "$KV.hams-profiles.x",
            "hams.v1.heartbeat.box.a.b",
            "hams.v1.agent.box.openvino.cpu0.profile",
            "$JS.API.STREAM.PURGE.hams-events",
            "$JS.API.STREAM.DELETE.hams-events",
            "$JS.API.DIRECT.GET.hams-events.x",
            "$JS.API.CONSUMER.CREATE.hams-events.x",
        ],
        "subscribe": ["hams.v1.work.>", "_INBOX_agent-box.>"],
    },
    "optimizer": {
        "publish": [
            "$KV.hams-plans.face",
            "$KV.hams-groups.face",
            "$KV.hams-leader.x",
            "hams.v1.heartbeat.box.a.b",
            "hams.v1.work.box.openvino.cpu0",
            "hams.v1.result.face.s",
            "$JS.API.DIRECT.GET.OBJ_hams-models.x",
            "$JS.API.STREAM.DELETE.OBJ_hams-models",
        ],
        "subscribe": ["hams.v1.work.>", "hams.v1.infer.>", "_INBOX_admin.>"],
    },
}


async def refused(url: str, user: Credentials, publish: list[str], subscribe: list[str]) -> set[str]:
    """The subjects that the broker refuses."""
    errors: list[str] = []

    async def on_error(error: Exception) -> None:
        errors.append(str(error))

    async def ignore(message: object) -> None: ...

    client = await nats.connect(
        url, error_cb=on_error, nkeys_seed_str=user.seed, tls=user.tls(), inbox_prefix=user.inbox_prefix
    )
    try:
        for subject in publish:
            await client.publish(subject, b"")
        for subject in subscribe:
            await client.subscribe(subject, cb=ignore)
        await client.flush()
        await client.flush()
    finally:
        await client.close()
    said = " ".join(errors).lower()
    return {subject for subject in publish if f'publish to "{subject.lower()}"' in said} | {
        subject for subject in subscribe if f'subscription to "{subject.lower()}"' in said
    }


@pytest.mark.parametrize("user", MAY)
async def test_what_each_role_may_and_may_not(broker: Broker, site: Path, user: str) -> None:
    identity = load(site / f"{user}.creds")
    assert await refused(broker.url, identity, MAY[user]["publish"], MAY[user]["subscribe"]) == set()
    if user in MAY_NOT:
        publish, subscribe = MAY_NOT[user]["publish"], MAY_NOT[user]["subscribe"]
        assert await refused(broker.url, identity, publish, subscribe) == {*publish, *subscribe}


async def test_nobody_has_others_write_for_him(broker: Broker, site: Path) -> None:
    """The asker names the subject of the answer, and the broker does not check it: nobody may obey."""

    async def answer(message: Message) -> None:
        await message.respond(b"answer")

    async def fail(message: Message) -> None:
        raise BadInputError("no")

    async with AsyncExitStack() as stack:
        admin, pipeline, dashboard, app, agent = [
            await stack.enter_async_context(NatsBus(broker.url, credentials=load(site / f"{user}.creds")))
            for user in ("admin", "pipeline", "dashboard", "app", "agent-box")
        ]
        await pipeline.subscribe("hams.v1.push.*.*", answer)
        endpoints = {"infer": ("hams.v1.infer.*", answer), "status": (subjects.pipeline_status(), fail)}
        await pipeline.serve("pipeline", "1.0.0", {}, endpoints)
        plans = await admin.kv(subjects.bucket("plans"))
        target = "$KV.hams-plans.face"
        await app.publish("hams.v1.infer.face", b"", reply=target)
        await app.publish("hams.v1.push.face.s", b"", reply=target)
        await dashboard.publish(subjects.pipeline_status(), b"", reply=target)
        await dashboard.publish("$SRV.PING", b"", reply=target)
        await dashboard.publish("$SRV.INFO.pipeline", b"", reply=target)
        await agent.publish("$O.hams-models.M.eA==", b"forged")
        await agent.publish("$JS.API.DIRECT.GET.OBJ_hams-models.$O.hams-models.M.eA==", b"", reply=target)
        # Each of them is asked once more and answers, so what was asked before has been dealt with.
        for bus, subject in (
            (app, "hams.v1.infer.face"),
            (app, "hams.v1.push.face.s"),
            (dashboard, "$SRV.PING"),
            (dashboard, "$SRV.INFO.pipeline"),
        ):
            assert (await bus.request(subject, b"", timeout=5)).data
        with pytest.raises(BadInputError):
            await dashboard.request(subjects.pipeline_status(), b"", timeout=5)
        await agent.objects(subjects.MODEL_STORE)
        await pipeline.flush()
        assert await plans.get("face") is None


async def test_events_reach_an_application_with_these_rights(broker: Broker, site: Path) -> None:
    async with AsyncExitStack() as stack:
        pipeline, app = [
            await stack.enter_async_context(NatsBus(broker.url, credentials=load(site / f"{user}.creds")))
            for user in ("pipeline", "app")
        ]
        history = EventHistory(pipeline, lambda: {"grey": ["s0"]})
        await pipeline.subscribe(subjects.events_after(), history.answer, queue="pipeline")
        await pipeline.flush()
        outbox = EventOutbox(pipeline, "grey")
        assert await outbox.recover() == {}
        running = asyncio.create_task(outbox.run())
        outbox.put([event("new", 1), event("end", 1)])
        outbox.keep("s0", b"tracks")
        assert await outbox.flush(30)
        events = hams_client.Hams(app).events("grey", after=0)
        assert [(await following(events)).kind for _ in range(2)] == ["new", "end"]
        outbox.put([event("new", 2)])
        assert (await following(events)).track == 2
        await events.aclose()
        await ended([running])
        assert (await EventOutbox(pipeline, "grey").recover())["s0"].tracks == b"tracks"


async def test_who_is_not_known_is_told_what_to_do(broker: Broker, site: Path, tmp_path: Path) -> None:
    set_up_site(tmp_path / "other", [], ["box"], max_payload=MAX_PAYLOAD)
    stranger = load(tmp_path / "other" / "app.creds")
    forged = Credentials("app", load(site / "app.creds").authority, stranger.seed)
    for identity, said in (
        (None, "requires credentials.*--credentials"),
        (stranger, "certificate that these credentials do not trust"),
        (forged, "rejects the credentials of app"),
    ):
        await turned_away(broker.url, said, identity)
    port = broker.url.rsplit(":", 1)[1]
    await turned_away(f"tls://127.0.0.2:{port}", "not for the host in", load(site / "app.creds"))


async def test_galleries_are_the_pipelines_alone(broker: Broker, site: Path) -> None:
    async def shelves(bus: NatsBus) -> Shelves:
        gallery = Gallery(GallerySpec(threshold=0.9), "ab" * 32)
        found = Shelves(await GalleryStore.open(bus, "face"), {"who": gallery})
        await found.load(0.0)
        return found

    async with NatsBus(broker.url, credentials=load(site / "pipeline.creds")) as bus:
        first = await shelves(bus)
        first.galleries["who"].identify(np.eye(4), 1.0)
        await first.save(1.0)
        again = await shelves(bus)
        assert (await again.answer(GalleryRequest(verb="forget", identity=2), 2.0)).changed == 1
        for one in await again.store.heads():
            await again.store.delete(one)
        assert not await again.store.heads()

    async def refused(user: str) -> None:
        async with NatsBus(broker.url, credentials=load(site / f"{user}.creds")) as bus:
            with pytest.raises(CredentialsError):
                await GalleryStore.open(bus, "face")
            with pytest.raises(CredentialsError):
                await ask_gallery(bus, "face", GalleryRequest(verb="list"))

    async with asyncio.TaskGroup() as together:
        for user in ("agent-box", "optimizer", "scheduler", "dashboard", "app"):
            together.create_task(refused(user))


async def test_the_deadline_holds_whenever_it_comes(broker: Broker, tmp_path: Path) -> None:
    # Up to Python 3.11 asyncio.wait_for, by which nats-py waits for TLS, may lose the cancellation by a deadline.
    set_up_site(tmp_path / "other", [], ["box"], max_payload=MAX_PAYLOAD)
    stranger = load(tmp_path / "other" / "app.creds")

    async def attempt(deadline: float) -> None:
        with pytest.raises(BrokerError):
            async with NatsBus(broker.url, credentials=stranger, connect_timeout=deadline):
                pass

    async with asyncio.timeout(120), asyncio.TaskGroup() as attempts:
        for number in range(200):
            attempts.create_task(attempt(0.1 + number * 0.002))


async def test_a_new_box_is_let_in_without_a_restart(broker: Broker, site: Path) -> None:
    set_up_site(site, [], ["box3"], max_payload=MAX_PAYLOAD)
    identity = load(site / "agent-box3.creds")
    await turned_away(broker.url, "rejects the credentials of agent-box3", identity)
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGHUP)

    async with asyncio.timeout(120):
        while True:
            try:
                async with NatsBus(broker.url, credentials=identity, connect_timeout=6) as bus:
                    await bus.publish("hams.v1.heartbeat.box3.openvino.cpu", b"")
                    break
            except BrokerError:
                continue
    assert broker.restarts == 0


async def test_without_credentials_the_broker_is_for_this_machine_only(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="is open to everybody.*hams-ctl init"):
        async with Broker(tmp_path, host="0.0.0.0"):
            pass


def test_a_whole_system(site: Path, tmp_path: Path) -> None:
    group = group_file(tmp_path, video(tmp_path), mode="lossless", pace="max")
    options = ("--secrets", str(site), "--host", "0.0.0.0")
    with Up(tmp_path / "home", "openvino:CPU@0", options=options) as up:
        with Subscriber(up.url, "grey", site / "app.creds") as results:
            up.ctl("deploy", group)  # as admin: found through the running `up`
            results.until(LENGTH)
        assert up.until_ended()["delivered"] == LENGTH
        parts = json.loads((tmp_path / "home" / "up.json").read_text())
        assert parts["credentials"] == str(site / "admin.creds")
        for user in ("dashboard", "admin"):
            assert "grey" in up.ctl("--credentials", site / f"{user}.creds", "status")
            assert "plan 1 of grey is active" in up.ctl("--credentials", site / f"{user}.creds", "history")
        said = up.ctl("--credentials", site / "app.creds", "undeploy", "grey", code=5)
        assert "our credentials do not allow it" in said, said
        assert "cannot read the credentials" in up.ctl("--credentials", tmp_path / "none", "status", code=5)
        image = tmp_path / "grey.png"
        cv2.imwrite(str(image), picture(7))

        async def infer() -> float:
            async with hams_client.connect(up.url, credentials=site / "app.creds") as hams:
                return float((await hams.infer("grey", image)).objects[0]["light"]["value"])

        assert asyncio.run(infer()) == pytest.approx(28, abs=1)
        seeds = [load(path).seed for path in site.glob("*.creds")]
        written = up.logs() + up.output() + (tmp_path / "home" / "broker" / "nats-server.log").read_text()
        assert not [seed for seed in seeds if seed in written]
        assert "permissions violation" not in up.logs().lower(), up.logs()

        def back() -> None:
            up.json_when(lambda devices: any(d["state"] == "alive" for d in devices), "devices")

        up.kill("hams_scheduler")
        back()

        def returns() -> int:
            logs = (tmp_path / "home" / "logs").glob("agent-*.log")
            return sum(log.read_text().count("the broker has what this agent holds") for log in logs)

        before = returns()
        assert before
        up.kill("nats-server")
        until_sync(lambda: returns() > before, 60, "the agent is back")
        back()
        assert "do not allow it" not in up.logs(), up.logs()


async def test_the_scheduler_may_delete_model_files_without_use(broker: Broker, site: Path) -> None:
    admin, scheduler = (
        NatsBus(broker.url, credentials=load(site / f"{user}.creds")) for user in ("admin", "scheduler")
    )
    async with admin, scheduler:
        store = await admin.objects(subjects.MODEL_STORE)
        for number in (1, 2):
            await store.put(f"{number}" * 64, bytes(number))
        await (await admin.kv(subjects.bucket(subjects.UPLOADS))).put("mine", b"needs " + b"1" * 64)
        found = await stored(scheduler)
        assert list(found.unused) == ["2" * 64]
        assert await prune(scheduler, found.sizes) == ["2" * 64]
        assert await store.sizes() == {"1" * 64: 1}
