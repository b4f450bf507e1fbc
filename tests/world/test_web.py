"""The page's server on a whole system in this process: sessions, what is refused, and what it answers."""

from __future__ import annotations

import json
import struct
from contextlib import aclosing
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse

from hams_services.web import api_state, api_timeline, pictures
from hams_services.web.options import WebOptions
from hams_services.web.pictures import MOST_TILES
from support.web import page
from support.world.stub import StubDevice
from support.world.system import System, boxes_and_light

SECURED = WebOptions(credentials=True)


async def test_each_answer_carries_the_headers_that_protect_the_page(world: System) -> None:
    async with page(world.bus) as client:
        for path in ("/", "/static/main.js", "/api/session", "/api/nothing", "/healthz"):
            headers = (await client.get(path)).headers
            assert "script-src 'self'" in headers["content-security-policy"], path
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"


async def test_without_credentials_it_may_change_things_from_this_machine(world: System) -> None:
    async with page(world.bus) as client:
        session = (await client.get("/api/session")).json()
        assert (session["right"], session["login"]) == ("change", False)
        for headers in ({"Host": "evil.example"}, {"X-Forwarded-For": "1.2.3.4"}):
            assert (await client.get("/api/session", headers=headers)).status_code == 403


async def test_with_credentials_nothing_is_shown_before_login_but_the_page_itself(world: System) -> None:
    async with page(world.bus, SECURED) as client:
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/api/session")).json()["right"] == "none"
        refused = await client.get("/api/self")
        assert (refused.status_code, refused.json()["code"]) == (401, "credentials")


async def test_public_view_lets_everybody_view_and_nobody_change(world: System) -> None:
    async with page(world.bus, WebOptions(credentials=True, public_view=True), client="10.1.2.3") as client:
        assert (await client.get("/api/self")).status_code == 200
        assert (await client.get("/api/session")).json()["right"] == "view"


@pytest.mark.parametrize(
    "headers",
    [{}, {"X-CSRF-Token": "wrong"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}],
)
async def test_a_changing_request_that_is_not_of_the_page_is_refused(world: System, headers: dict[str, str]) -> None:
    async with page(world.bus) as client:
        given = (
            {"X-CSRF-Token": await client.token(), **headers} if "X-CSRF-Token" not in headers and headers else headers
        )
        answer = await client.http.delete("/api/session", headers=given)
        assert (answer.status_code, answer.json()["code"]) == (403, "refused")


async def test_a_login_needs_a_credentials_file(world: System) -> None:
    async with page(world.bus, SECURED) as client:
        for body in (b"nonsense", b"\xff\xfe", b""):
            answer = await client.post("/api/session", body)
            assert answer.status_code == 401
            assert "credentials file" in answer.json()["text"]
        assert (await client.post("/api/session", b"x" * 70_000)).status_code == 413


async def test_logins_are_limited(world: System) -> None:
    async with page(world.bus, SECURED) as client:
        found = [(await client.post("/api/session", b"x")).status_code for _ in range(7)]
        assert found[:5] == [401] * 5
        assert found[-1] == 429


async def test_credentials_are_not_taken_over_plain_http_from_elsewhere(world: System) -> None:
    async with page(world.bus, SECURED, client="10.1.2.3") as client:
        assert "plain http" in (await client.get("/api/session")).json()["refused"]
        assert (await client.post("/api/session", b"x")).status_code == 403
    proxied = WebOptions(credentials=True, proxies=("10.0.0.0/8",))
    async with page(world.bus, proxied, client="10.1.2.3") as client:
        assert (await client.post("/api/session", b"x")).status_code == 401
    async with page(world.bus, SECURED, client="10.1.2.3", base="https://box:8090") as client:
        assert (await client.post("/api/session", b"x")).status_code == 401


async def test_one_client_may_not_ask_without_end(world: System) -> None:
    async with page(world.bus) as client:
        client.site.now = lambda: 0.0
        found = [(await client.get("/healthz")).status_code for _ in range(250)]
        assert found.count(429) == 50
        assert found[0] == 200


async def test_it_works_below_a_folder_with_and_without_a_proxy_that_strips_it(world: System) -> None:
    async with page(world.bus, WebOptions(root_path="/a/hams")) as client:
        for path in ("/a/hams/", "/a/hams/api/session", "/a/hams/static/main.js", "/", "/api/session"):
            assert (await client.get(path)).status_code == 200, path
        moved = await client.get("/a/hams")
        assert (moved.status_code, moved.headers["location"]) == (308, "/a/hams/")


async def test_the_state_is_read_only_while_somebody_looks(world: System) -> None:
    await world.box(sim=StubDevice(fps=100))
    await world.deploy(boxes_and_light())
    async with page(world.bus) as client:
        live, costs = client.site.live, client.site.costs
        await world.later(10)
        assert costs.states == 0
        async with aclosing(live.viewer()) as one, aclosing(live.viewer()) as other:
            for _ in range(3):
                state = json.loads(await anext(one))
            assert json.loads(await anext(other))["groups"][0]["name"] == "grey"
            assert state["groups"][0]["state"] == "serving"
            assert state["devices"][0]["state"] == "alive"
            assert state["alarms"] == []
            assert live.viewers == 2
            assert costs.states <= 4
        await world.later(2)
        read = costs.states
        await world.later(10)
        assert costs.states == read


async def test_pictures_are_made_only_while_somebody_looks_and_once_for_all_who_do(world: System) -> None:
    await world.box(sim=StubDevice(fps=100))
    await world.deploy(boxes_and_light({"mode": "live"}))
    world.play(fps=20)
    async with page(world.bus) as client:
        shown, costs = client.site.pictures, client.site.costs
        tile = ("grey", "s0")
        async with aclosing(shown.viewer([tile])) as one, aclosing(shown.viewer([tile])) as two:
            heads = [first(await anext(one)) for _ in range(10)]
            assert first(await anext(two))["frame"] > 0
            assert [h["frame"] for h in heads] == sorted({h["frame"] for h in heads})
            assert heads[0]["width"] == 64
            assert {o["label"] for h in heads for o in h["objects"]} == {"thing"}
            began, made = world.clock.now(), costs.encoded
            await world.later(20)
            assert costs.encoded - made <= 5 * (world.clock.now() - began) + 2, "at most 5 a second"
            assert costs.encoded - made >= 80
            assert first(await anext(one))["frame"] > heads[-1]["frame"] + 100, "a slow viewer gets the newest"
            assert shown.streams == 1
        await world.later(10)
        made = costs.encoded
        await world.later(30)
        assert (costs.encoded, shown.streams) == (made, 0)


def first(records: bytes) -> dict[str, Any]:
    """The JSON of the first record; its picture is a JPEG."""
    size, jpeg = struct.unpack_from(">II", records)
    assert records[8 + size : 8 + size + 2] == b"\xff\xd8"
    assert len(records) >= 8 + size + jpeg
    return json.loads(records[8 : 8 + size])


@pytest.mark.parametrize("tile", ["", "grey", "../x/y", "a/b/c", "*/>", "é/a"])
async def test_names_of_streams_are_checked(world: System, tile: str) -> None:
    async with page(world.bus) as client:
        answer = await client.get("/api/pictures", params={"tile": tile})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad-input")


async def test_streams_that_do_not_exist_take_no_place_of_those_that_do(
    world: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_state, "QUIET_S", 1.0)
    await world.box(sim=StubDevice(fps=100))
    await world.deploy(boxes_and_light({"mode": "live"}, streams=2))
    world.play(fps=20)
    async with page(world.bus) as client:
        absent = [("tile", f"x/{number}") for number in range(MOST_TILES)]
        answer = await client.get("/api/pictures", params=absent)
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
        assert client.site.pictures.streams == 0
        answer = await client.get("/api/pictures", params=[*absent[1:], ("tile", "grey/s0")])
        assert answer.status_code == 200, "and it ends, so that the browser asks for the others again"
        assert first(answer.content)["stream"] == "s0"
        monkeypatch.setattr(pictures, "MOST_TILES", 1)
        async with aclosing(client.site.pictures.viewer([("grey", "s0")])) as one:
            await anext(one)
            answer = await client.get("/api/pictures", params={"tile": "grey/s1"})
            assert (answer.status_code, answer.json()["code"]) == (429, "overloaded")
            assert client.site.pictures.streams == 1


async def test_what_if_asks_the_scheduler_and_changes_nothing(world: System) -> None:
    await world.box(fast=StubDevice(fps=100), slow=StubDevice(fps=50))
    await world.deploy(boxes_and_light())
    before = [plan.epoch for plan in [(await world.group()).active] if plan]
    fast = next(name for name in await world.states() if name.endswith("fast"))
    async with page(world.bus) as client:
        answer = (await client.post("/api/what-if", {"without": [fast]})).json()
        assert answer["after"]["fps"] < answer["before"]["fps"]
        assert all(fast not in places for places in answer["after"]["shares"].values())
        answer = (await client.post("/api/what-if", {"added": [{"like": fast, "host": "other"}]})).json()
        assert answer["after"]["fps"] > answer["before"]["fps"]
        assert "grey/light" in answer["after"]["shares"]
        answer = (await client.post("/api/what-if", {"without": ["no.such.device"]})).json()
        assert "no.such.device" in answer["after"]["error"]["text"]
        assert (await client.post("/api/what-if", {"surprise": 1})).status_code == 400
        matrix = (await client.get("/api/matrix")).json()
        assert {name.split(".")[-1] for name in matrix["devices"]} == {"fast", "slow"}
    assert [plan.epoch for plan in [(await world.group()).active] if plan] == before


async def test_the_history_is_sent_as_it_happens(world: System) -> None:
    await world.box(sim=StubDevice(fps=100))
    async with page(world.bus) as client:
        query = {"query_string": b"since=3600", "hams.session": client.site.anonymous()}
        request = Request({"type": "http", "method": "GET", "path": "/", "headers": [], **query})
        answer = await api_timeline.history(request, client.site)
        assert isinstance(answer, StreamingResponse)
        async with aclosing(answer.body_iterator) as events:  # type: ignore[type-var]
            await world.deploy(boxes_and_light())
            seen: list[str] = []
            async for event in events:
                if b"event: entry" in event:
                    seen.append(json.loads(event.split(b"data: ")[1])["kind"])
                if "plan-active" in seen:
                    break
        assert "group-deployed" in seen
        assert api_timeline.beginning("60", "7") == {"after": 7}
        for last in ("", "x", "-1", "9" * 25):
            assert api_timeline.beginning("60", last) == {"since": 60.0}
        for since in ("x", "-1", "1e9", "nan"):
            assert (await client.get("/api/history", params={"since": since})).status_code == 400
