"""The gateway over a whole system: what clients of HTTP send, and what they get."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import struct
import time
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

pytest.importorskip("starlette", reason="needs hams[gateway]")

from hams_services.gateway.app import make_app
from hams_services.gateway.hub import LIMIT
from hams_services.gateway.limits import REQUESTS
from hams_services.gateway.service import GatewayOptions, make_api
from hams_services.pipeline.event_outbox import EventOutbox
from hams_services.security import tokens
from hams_services.security.tokens import TokenFile
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.runtime.lifecycle import ended
from support.asgi import Client
from support.bombs import png
from support.events import event
from support.world.system import SIZE, STEP, System, light, picture

JPEG = {"content-type": "image/jpeg"}
INFER = "/v1/groups/grey/infer"
MODEL = "/v2/models/grey"


def jpeg(number: int) -> bytes:
    return cv2.imencode(".jpg", picture(number))[1].tobytes()


class Site:
    """A gateway on the world's broker."""

    def __init__(self, world: System, **options: Any) -> None:
        file = TokenFile(world.folder / "tokens.json", required=False)
        self.api = make_api(world.hams, GatewayOptions(("localhost", 0), None, file, **options))
        self.app = make_app(self.api, options.get("origins", ()))
        self.client = Client(self.app)


@pytest.fixture
async def site(world: System) -> AsyncIterator[Site]:
    """A gateway, and a group that serves."""
    world.scheduler()
    world.pipeline()
    world.agent("sim")
    await world.deploy(light())
    made = Site(world)
    yield made
    made.api.hub.close()


def value(result: Mapping[str, Any]) -> float:
    return float(result["objects"][0]["light"]["value"])


def form(data: bytes, name: str = 'name="image"; filename="x.jpg"') -> tuple[bytes, dict[str, str]]:
    head = f"--b\r\nContent-Disposition: form-data; {name}\r\nContent-Type: image/jpeg\r\n\r\n".encode()
    return head + data + b"\r\n--b--\r\n", {"content-type": "multipart/form-data; boundary=b"}


async def test_groups_and_one_image_in_each_form(site: Site) -> None:
    [group] = (await site.client.get("/v1/groups")).json()["groups"]
    assert (group["name"], group["serving"], group["streams"], group["tracks"]) == ("grey", True, ["s0"], False)
    assert group["nodes"] == [{"name": "light", "task": "regression", "parent": None}]
    assert (await site.client.get("/v1/groups/grey")).json() == group
    whole = jpeg(5)
    for body, headers in (
        (whole, JPEG),
        (cv2.imencode(".png", picture(5))[1].tobytes(), {"content-type": "image/png"}),
        (whole, {}),
        ([whole[:100], b"", whole[100:]], {"content-type": "application/octet-stream"}),
        (gzip.compress(whole), {**JPEG, "content-encoding": "gzip"}),
        (zlib.compress(whole), {**JPEG, "content-encoding": "deflate"}),
        form(whole),
    ):
        answer = await site.client.post(INFER, body, headers)
        assert answer.status == 200, answer.body
        assert value(answer.json()) == pytest.approx(5 * STEP, abs=0.5)
    assert (answer.json()["width"], answer.json()["height"]) == SIZE


async def test_what_is_wrong_with_an_image_is_an_error_with_a_name(site: Site) -> None:
    post = site.client.post
    cases = [
        (await post(INFER, b"no image", JPEG), 400, "bad-source", "not an image"),
        (await post(INFER, b"", JPEG), 400, "bad-source", "not an image"),
        (await post(INFER, png(20000, 20000), JPEG), 400, "bad-source", "20000×20000 pixels"),
        (await post(INFER, b"{}", {"content-type": "application/json"}), 400, "bad-input", "bytes of a JPEG"),
        (await post(INFER, jpeg(1), {"content-encoding": "br"}), 400, "bad-input", "Content-Encoding 'br'"),
        (await post(INFER, b"xx", {"content-encoding": "gzip"}), 400, "bad-input", "Content-Encoding"),
        (await post(INFER, gzip.compress(jpeg(1))[:-9], {"content-encoding": "gzip"}), 400, "bad-input", "cut off"),
        (await post(INFER, *form(jpeg(1), 'name="x"')), 400, "bad-input", "no file"),
        (await post(INFER, b"--b\r\nxx", form(b"")[1]), 400, "bad-input", "form"),
        (await post(INFER, b"", {"content-type": "multipart/form-data"}), 400, "bad-input", "form"),
        (await post(f"{INFER}?deadline_s=0", jpeg(1)), 400, "bad-input", "deadline of 0 s"),
        (await post(f"{INFER}?deadline_s=nan", jpeg(1)), 400, "bad-input", "deadline of nan s"),
        (await post("/v1/groups/nobody/infer", jpeg(1)), 404, "not-found", "nobody is not deployed"),
        (await post("/v1/groups/gr.ey/infer", jpeg(1)), 404, "not-found", "no group 'gr.ey'"),
        (await post("/v1/groups/%3E/infer", jpeg(1)), 404, "not-found", "no group '>'"),
        (await post("/v1/groups/*/infer", jpeg(1)), 404, "not-found", "no group '*'"),
        (await post("/v1/groups/grey", jpeg(1)), 405, "bad-input", "no POST"),
        (await site.client.get("/v1/nothing"), 404, "not-found", "no such path"),
        (await site.client.get("/v1/groups/grey/results?stream=s9"), 404, "not-found", "no stream 's9'"),
        (await site.client.get("/v1/groups/grey/events?after=x"), 400, "bad-input", "after=x"),
        (await site.client.get("/v1/groups/grey/events", {"last-event-id": "-1"}), 400, "bad-input", "Last-Event-ID"),
    ]
    for answer, status, code, text in cases:
        assert (answer.status, answer.json()["code"]) == (status, code), answer
        assert text in answer.json()["error"]
    assert (await post(INFER, jpeg(1))).status == 200
    for traceparent in (f"00-{'a' * 32}-{'b' * 16}-01", "x" * 5000, ""):
        assert (await post(INFER, jpeg(1), {"traceparent": traceparent})).status == 200


async def test_bodies_are_limited_packed_and_unpacked(world: System, site: Site) -> None:
    small = Site(world, max_body=100_000).client
    bomb = gzip.compress(bytes(50 << 20))
    assert len(bomb) < 100_000
    for body, headers in (
        (bytes(100_001), JPEG),
        ([bytes(60_000), bytes(60_000)], JPEG),
        (b"x", {"content-length": "100001"}),
        (bomb, {"content-encoding": "gzip"}),
        ([bomb[:20000], bomb[20000:]], {"content-encoding": "gzip"}),
        (zlib.compress(bytes(50 << 20)), {"content-encoding": "deflate"}),
    ):
        for path in (INFER, f"{MODEL}/infer"):
            answer = await small.post(path, body, headers)
            assert (answer.status, answer.json()["code"]) == (413, "too-large")
    assert (await small.post(INFER, jpeg(1))).status == 200


def ask(*inputs: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"inputs": inputs, **more}).encode()


def binary(images: list[bytes], **more: Any) -> tuple[bytes, dict[str, str]]:
    """A request that sends images as bytes."""
    raw = b"".join(struct.pack("<I", len(one)) + one for one in images)
    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(images)]}
    head = ask({**tensor, "parameters": {"binary_data_size": len(raw)}}, **more)
    return head + raw, {"inference-header-content-length": str(len(head))}


async def test_kserve_tells_what_there_is(world: System, site: Site) -> None:
    get, post = site.client.get, site.client.post
    assert (await get("/v2/health/live")).json() == {"live": True}
    assert (await get("/v2/health/ready")).json() == {"ready": True}
    assert (await get("/v2")).json()["name"] == "hams"
    for path in (MODEL, f"{MODEL}/versions/1"):
        told = (await get(path)).json()
        assert told["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
        assert [one["name"] for one in told["outputs"]] == ["objects", "counts", "boxes", "scores", "labels"]
        assert (await get(f"{path}/ready")).json() == {"name": "grey", "ready": True}
    assert (await get(f"{MODEL}/versions/2")).json()["error"] == "group grey has no version '2' (it has 1)"
    assert (await get("/v2/models/nobody")).status == (await get("/v2/models/nobody/ready")).status == 404
    ready = {"name": "grey", "version": "1", "state": "READY", "reason": ""}
    assert (await post("/v2/repository/index")).json() == [ready]
    await world.parts["box.stub.sim"].kill()
    await world.later(5)
    assert (await get(f"{MODEL}/ready")).status == 503
    assert (await post("/v2/repository/index")).json()[0]["state"] == "UNAVAILABLE"
    assert (await post("/v2/repository/index", b'{"ready": true}')).json() == []
    assert (await post("/v2/repository/index", b"[")).status == 400


async def test_kserve_infers_of_json_and_of_bytes(site: Site) -> None:
    two = [jpeg(3), jpeg(7)]
    text = {"name": "image", "datatype": "BYTES", "shape": [2], "data": [base64.b64encode(one).decode() for one in two]}
    pixels = {"name": "image", "datatype": "UINT8", "shape": [2, SIZE[1], SIZE[0], 3]}
    pixels["data"] = np.stack([picture(3), picture(7)]).tolist()
    for body, headers in ((ask(text), {}), (ask(pixels), {}), binary(two)):
        answer = await site.client.post(f"{MODEL}/infer", body, headers)
        assert answer.status == 200, answer.body
        outputs = {one["name"]: one for one in answer.json()["outputs"]}
        assert [value({"objects": json.loads(one)}) for one in outputs["objects"]["data"]] == pytest.approx(
            [3 * STEP, 7 * STEP], abs=0.5
        )
        assert (outputs["boxes"]["shape"], outputs["boxes"]["data"][:4]) == ([2, 4], [0, 0, *SIZE])
        assert (outputs["counts"]["data"], outputs["labels"]["data"]) == ([1, 1], ["frame", "frame"])
    body, headers = binary(two, id="a7", outputs=[{"name": "scores", "parameters": {"binary_data": True}}])
    answer = await site.client.post(f"{MODEL}/versions/1/infer", body, headers)
    size = int(answer.headers["inference-header-content-length"])
    told = json.loads(answer.body[:size])
    assert (told["id"], told["model_name"], [one["name"] for one in told["outputs"]]) == ("a7", "grey", ["scores"])
    assert np.frombuffer(answer.body[size:], "<f4").tolist() == [1, 1]


async def test_the_image_that_fails_is_named(site: Site) -> None:
    answer = await site.client.post(f"{MODEL}/infer", *binary([jpeg(1), b"no image", jpeg(2)]))
    assert (answer.status, answer.json()["code"]) == (400, "bad-source")
    assert answer.json()["error"].startswith("image 1: ")


async def test_without_a_pipeline_it_is_not_ready_and_asks_to_come_again(world: System) -> None:
    site = Site(world)
    assert (await site.client.get("/v2/health/live")).status == 200
    for answer in (
        await site.client.get("/v2/health/ready"),
        await site.client.get("/v1/groups"),
        await site.client.post(INFER, jpeg(1)),
    ):
        assert answer.status == 503
        assert "no pipeline is running" in answer.json()["error"]


async def test_no_more_than_a_number_of_requests_is_under_way(world: System, site: Site) -> None:
    world.devices["box.stub.sim"].hangs = True
    posts = [asyncio.ensure_future(site.client.post(f"{INFER}?deadline_s=2", jpeg(1))) for _ in range(REQUESTS + 5)]
    await world.until(lambda: sum(one.done() for one in posts) == 5)
    for one in (one.result() for one in posts if one.done()):
        assert (one.status, one.headers["Retry-After".lower()], one.json()["code"]) == (503, "1", "overloaded")
    late = await asyncio.gather(*posts)
    assert sorted(one.status for one in late) == [503] * 5 + [504] * REQUESTS
    world.backends["box.stub.sim"].release()


async def test_results_as_server_sent_events(world: System, site: Site) -> None:
    async with (
        site.client.open("/v1/groups/grey/results?stream=s0") as one,
        site.client.open("/v1/groups/grey/results") as two,
    ):
        for client in (one, two):
            start = await client.sent.get()
            headers = dict(start["headers"])
            assert (start["status"], headers[b"content-type"]) == (200, b"text/event-stream; charset=utf-8")
            assert await client.message() == {"retry": "3000"}
        for number in range(3):
            await world.hams.push("grey", "s0", picture(number))
        for client in (one, two):
            for number in range(3):
                message = await client.message()
                assert message["id"] == f"s0/{number}"
                assert value(json.loads(message["data"])) == pytest.approx(number * STEP, abs=0.5)
        assert await one.message(within=20) == {"": ""}  # a beat
        site.api.hub.close()
        assert (await one.sent.get())["body"] == b""
    assert not site.api.hub._channels  # nobody listens, so nothing is subscribed


async def test_a_slow_client_loses_the_oldest_and_is_told_how_many(world: System, site: Site) -> None:
    async with site.client.open("/v1/groups/grey/results") as slow, world.hams.results("grey") as all_:
        await slow.message() if (await slow.sent.get()) else None
        slow.reads.clear()
        count = 3 * LIMIT
        for number in range(count):
            await world.hams.push("grey", "s0", picture(number))
        for _ in range(count):
            await anext(all_)
        slow.reads.set()
        frames: list[int] = []
        lost = 0
        while not frames or frames[-1] < count - 1:
            message = await slow.message()
            if message.get("event") == "lost":
                lost += json.loads(message["data"])["lost"]
            else:
                frames.append(json.loads(message["data"])["frame"])
        assert lost == count - len(frames) > LIMIT
        assert frames[-LIMIT:] == list(range(count - LIMIT, count))


async def test_a_client_that_takes_nothing_is_disconnected(
    world: System, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hams_services.gateway.streaming.SEND_S", 2.0)
    async with site.client.open("/v1/groups/grey/results") as dead:
        await dead.message() if (await dead.sent.get()) else None
        dead.reads.clear()
        await world.hams.push("grey", "s0", picture(0))
        await world.until(lambda: not site.api.hub._channels, within=60)


async def test_results_over_a_websocket(world: System, site: Site) -> None:
    path = "/v1/groups/grey/results/ws"
    offered = {"sec-websocket-protocol": "hams, other"}
    async with site.client.open(path, offered, kind="websocket") as socket:
        accepted = await socket.sent.get()
        assert (accepted["type"], accepted["subprotocol"]) == ("websocket.accept", "hams")
        for number in range(2):
            await world.hams.push("grey", "s0", picture(number))
        assert [(await socket.text())["frame"] for _ in range(2)] == [0, 1]
        socket.to_app.put_nowait({"type": "websocket.receive", "text": "hello"})  # is not listened to
        site.api.hub.close()
        closed = await socket.sent.get()
        assert (closed["type"], closed["code"]) == ("websocket.close", 1001)
    async with site.client.open("/v1/groups/nobody/results/ws", kind="websocket") as socket:
        refused = await socket.sent.get()
        assert (refused["type"], refused["status"]) == ("websocket.http.response.start", 404)


async def test_events_go_on_behind_the_last_one_seen(world: System) -> None:
    world.pipeline()
    record, _ = world.record(light(streams=2))
    await world.control.deploy(record)
    await world.until(world.stream)
    site = Site(world)
    async with await InMemoryBus(world.server).__aenter__() as bus:
        outbox = EventOutbox(bus, "grey")
        await outbox.recover()
        running = asyncio.ensure_future(outbox.run())
        outbox.put([event("new", track) for track in range(3)])
        assert await outbox.flush(5)
        async with site.client.open("/v1/groups/grey/events?after=0") as client:
            await client.sent.get()
            assert await client.message() == {"retry": "3000"}
            seen = [await client.message() for _ in range(3)]
            assert [json.loads(one["data"])["track"] for one in seen] == [0, 1, 2]
            outbox.put([event("end", 0)])
            seen.append(await client.message())
        outbox.put([event("end", 1), event("end", 2)])
        assert await outbox.flush(5)
        async with site.client.open("/v1/groups/grey/events", {"last-event-id": seen[-1]["id"]}) as client:
            await client.sent.get()
            await client.message()
            assert [json.loads((await client.message())["data"])["track"] for _ in range(2)] == [1, 2]
            assert await client.message(within=20) == {"": ""}
            site.api.hub.close()
            assert (await client.sent.get())["body"] == b""
        await ended([running])


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_tokens_decide_who_may_what(world: System, site: Site, tmp_path: Path) -> None:
    path = world.folder / "tokens.json"
    assert (await site.client.get("/v1/groups")).status == 200  # nobody has made a token yet
    made: Callable[..., str] = lambda name, role="viewer", groups=(), lasts=None: tokens.add(  # noqa: E731
        path, name, role, groups, lasts, time.time()
    )
    viewer, app = made("wall"), made("door", "app")
    other, over = made("other", "app", ("face",)), made("over", "app", (), -1.0)
    get, post = site.client.get, site.client.post
    refused = await get("/v1/groups")
    assert (refused.status, refused.headers["www-authenticate"]) == (401, 'Bearer realm="hams"')
    for path_ in ("/v2/health/live", "/v2/health/ready", "/openapi.json", "/docs"):
        assert (await get(path_)).status == 200
    cases = [
        (await get("/v1/groups", bearer("x" * 5000)), 401, "not known"),
        (await get("/v1/groups", {"authorization": f"Basic {app}"}), 401, "needed"),
        (await get("/v1/groups", bearer(over)), 401, "expired"),
        (await post(INFER, jpeg(1), bearer(viewer)), 403, "role viewer"),
        (await post(f"{MODEL}/infer", b"{}", bearer(viewer)), 403, "role viewer"),
        (await post(INFER, jpeg(1), bearer(other)), 403, "is for face, not for grey"),
        (await get("/v1/groups/grey/results", bearer(other)), 403, "is for face"),
        (await get(MODEL, bearer(other)), 403, "is for face"),
    ]
    for answer, status, text in cases:
        assert (answer.status, text in answer.json()["error"]) == (status, True), answer
    assert (await get("/v1/groups", bearer(other))).json() == {"groups": []}
    assert (await get("/v1/groups", bearer(viewer))).json()["groups"][0]["name"] == "grey"
    assert (await post(INFER, jpeg(1), bearer(app))).status == 200
    async with (
        site.client.open("/v1/groups/grey/results", bearer(viewer)) as stream,
        site.client.open(
            "/v1/groups/grey/results/ws", {"sec-websocket-protocol": f"hams, bearer.{viewer}"}, kind="websocket"
        ) as socket,
        site.client.open("/v1/groups/grey/results/ws", kind="websocket") as nobody,
    ):
        assert (await socket.sent.get())["type"] == "websocket.accept"
        assert (await nobody.sent.get())["status"] == 401
        await stream.message() if (await stream.sent.get()) else None
        tokens.remove(path, "wall")
        await world.until(lambda: not socket.sent.empty(), within=20)
        assert (await socket.sent.get())["code"] == 1008
        async with asyncio.timeout(20):
            assert (await stream.sent.get())["body"] == b""
    path.write_text("broken")
    assert (await get("/v1/groups", bearer(app))).status == 401


async def test_without_tokens_only_pages_and_programs_of_this_machine_are_served(world: System, site: Site) -> None:
    ours = Site(world, origins=("https://x.org",))
    for client, headers, status in (
        (site.client, {"host": "rebound.example"}, 403),
        (site.client, {"host": ""}, 403),
        (site.client, {"host": "[::1]:8000"}, 200),
        (site.client, {"origin": "https://evil.example"}, 403),
        (site.client, {"origin": "null"}, 403),
        (site.client, {"origin": "http://localhost:3000"}, 200),
        (ours.client, {"origin": "https://x.org"}, 200),
    ):
        assert (await client.get("/v1/groups", headers)).status == status, headers
    async with site.client.open(
        "/v1/groups/grey/results/ws", {"origin": "https://evil.example"}, kind="websocket"
    ) as socket:
        assert (await socket.sent.get())["status"] == 403
    preflight = {"origin": "https://x.org", "access-control-request-method": "POST"}
    answer = await ours.client.request("OPTIONS", INFER, headers=preflight)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "https://x.org")


async def test_it_serves_below_a_path(world: System, site: Site) -> None:
    below = Site(world, root_path="/hams").client
    for path in ("/hams/v1/groups", "/v1/groups"):  # a proxy leaves the path, or takes it away
        assert (await below.get(path)).status == 200
    assert (await below.get("/openapi.json")).json()["servers"] == [{"url": "/hams"}]
    assert (await below.get("/hams/")).headers["location"] == "/hams/docs"


async def test_broken_requests_are_answered_with_errors(site: Site) -> None:
    """Bodies and headers with random bytes changed, cut or repeated: each gets an answer that is no defect of ours.

    tests/unit/services/gateway/test_tensors.py has ten thousand, without the rest of the way.
    """
    random = np.random.default_rng(5)
    body, headers = binary([b"\xff\xd8" * 8], id="x", outputs=[{"name": "boxes"}])
    whole, kind = form(b"\xff\xd8" * 8)
    statuses: set[int] = set()
    for number in range(500):
        original, head, path = ((body, headers, f"{MODEL}/infer"), (whole, kind, INFER))[number % 2]
        data = bytearray(original)
        for _ in range(random.integers(1, 6)):
            at = int(random.integers(0, len(data)))
            what = random.integers(0, 4)
            if what == 0:
                data[at] = int(random.integers(0, 256))
            elif what == 1:
                del data[at : at + int(random.integers(1, 20))]
            elif what == 2:
                data[at:at] = data[at : at + 9]
            else:
                head = {**head, "inference-header-content-length": str(random.integers(-2, 500))}
            if not data:
                break
        answer = await site.client.post(path, bytes(data), head)
        assert answer.status in (400, 413), (answer, bytes(data))
        assert msgspec.json.decode(answer.body)["code"] in ("bad-input", "bad-source", "too-large"), answer
        statuses.add(answer.status)
    assert statuses == {400}
