"""Events posted to a web address: signed, at least once, in order, with pauses while it does not take them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
import time
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hams_client import Event
from hams_services.ctl.actions.events import wanted
from hams_services.ctl.actions.webhook import To, receiver_of
from hams_services.ctl.options import kinds_of
from hams_services.sinks.courier import Courier, LaterError
from hams_services.sinks.event_queue import EventQueue
from hams_services.sinks.last_sequence import LastSequence
from hams_services.sinks.webhook import Webhook, message_id, secrets_of, sendable, signed
from hams_shared.errors import BadInputError, CredentialsError, HamsError, SourceError
from hams_shared.runtime.backoff import Backoff
from hams_shared.runtime.lifecycle import ended
from support.events import event
from support.hook_server import Hooks, hook_server
from support.wait import until

QUICK = Backoff(first=0.001, longest=0.01)
STAYS = Event(**event("rule", 3, rule="stays", crop=b"\xff\xd8").model_dump(), sequence=7)
NEW = Event(**event("new", 4).model_dump(), sequence=8)
DOCS = Path(__file__).parents[4] / "docs"
KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


@asynccontextmanager
async def sending(url: str, queue: EventQueue | None = None, keys: tuple[bytes, ...] = ()) -> AsyncIterator[Courier]:
    courier = Courier(EventQueue(None) if queue is None else queue, Webhook(url, keys), QUICK)
    task = asyncio.create_task(courier.send())
    try:
        yield courier
        if task.done():
            task.result()
    finally:
        await ended([task])


async def sent(hooks: Hooks, courier: Courier, *events: Event) -> None:
    """Send events; wait until all of them are dealt with."""
    for one in events:
        await courier.take(one)
    await until(lambda: courier.sent + courier.refused == len(events), what="all events")


async def test_an_event_is_posted_as_json() -> None:
    with hook_server() as hooks:
        async with sending(hooks.url) as courier:
            await sent(hooks, courier, STAYS, NEW)
    first, second = hooks.posted
    assert (first["kind"], first["rule"], first["track"], first["sequence"]) == ("rule", "stays", 3, 7)
    assert first["crop"] == "/9g="
    assert (second["kind"], second["crop"]) == ("new", None)
    assert (courier.sent, courier.refused) == (2, 0)
    assert "webhook-signature" not in hooks.headers[0]


@pytest.mark.parametrize("status", [0, 408, 425, 429, 500, 502, 503])
async def test_what_fails_for_now_is_sent_again(status: int) -> None:
    with hook_server() as hooks:
        hooks.statuses = [status, status, status]
        async with sending(hooks.url) as courier:
            await sent(hooks, courier, STAYS, NEW)
    assert [one["track"] for one in hooks.posted] == [3, 3, 3, 3, 4]
    assert len({one["id"] for one in hooks.posted}) == 2
    assert len({one["idempotency-key"] for one in hooks.headers}) == 2
    assert (courier.sent, courier.refused) == (2, 0)


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 410])
async def test_what_is_refused_for_good_does_not_stop_the_others(status: int) -> None:
    queue = EventQueue(None)
    with hook_server() as hooks:
        hooks.statuses = [status]
        async with sending(hooks.url, queue) as courier:
            await sent(hooks, courier, STAYS, NEW)
    assert [one["track"] for one in hooks.posted] == [3, 4]
    assert (courier.sent, courier.refused) == (1, 1)
    assert (queue.refused, len(queue)) == (1, 0)


async def test_nobody_at_the_address_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with hook_server() as hooks:
        url = hooks.url + "/token-in-the-path"
    queue = EventQueue(None)
    async with sending(url, queue) as courier:
        await courier.take(NEW)
        await until(lambda: "takes no event" in caplog.text, what="a warning")
        assert (courier.sent, len(queue)) == (0, 1)
    assert "token-in-the-path" not in caplog.text


@pytest.mark.parametrize(
    ("text", "least", "most"), [("7", 7, 7), ("soon", 0, 0), ("", 0, 0), ("-3", 0, 0), ("9" * 50, 1e8, 1e9)]
)
def test_the_receiver_may_ask_for_a_pause(text: str, least: float, most: float) -> None:
    with hook_server() as hooks:
        hooks.statuses, hooks.retry_after = [503, 503], text
        with pytest.raises(LaterError) as caught:
            Webhook(hooks.url).deliver("id", b"{}")
        assert least <= caught.value.pause_s <= most
        hooks.retry_after = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 100))
        with pytest.raises(LaterError) as caught:
            Webhook(hooks.url).deliver("id", b"{}")
        assert 50 < caught.value.pause_s <= 100


@pytest.mark.parametrize(
    "url",
    ["", "example.org/hook", "file:///etc/passwd", "ftp://example.org", "http://", "http://a:b", "http://a b", "http://a..b",
     f"http://{'a' * 64}.org", "https://user:s3cret/word@example.org", "https://user:s3cret @example.org"],
)  # fmt: skip
def test_what_is_no_web_address(url: str) -> None:
    with pytest.raises(BadInputError, match=r"https://example\.org") as caught:
        Webhook(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("login", "sent_"),
    [
        ("user:s3cret", "user:s3cret"),
        ("us%40er:s3%3Ac%2Fr%C3%A9t", "us@er:s3:c/rét"),
        ("user:sécret", "user:sécret"),
        ("user", "user:"),
        (":s3cret", ":s3cret"),
    ],
)
def test_user_and_password_of_the_address_are_sent_as_a_login(login: str, sent_: str) -> None:
    with hook_server() as hooks:
        receiver = Webhook(hooks.url.replace("://", f"://{login}@"))
        receiver.deliver("id", b"{}")
    assert hooks.headers[0]["authorization"] == "Basic " + base64.b64encode(sent_.encode()).decode()
    assert hooks.headers[0]["host"] == hooks.url.split("/")[2]
    assert hooks.paths == ["/hook"]
    assert receiver.where == "http://127.0.0.1"


async def test_a_password_of_the_address_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    with hook_server() as hooks:
        url = hooks.url.replace("://", "://user:s3cret@")
        hooks.statuses = [503, 401]
        async with sending(url) as courier:
            await sent(hooks, courier, STAYS)
    async with sending(url) as courier:
        await courier.take(NEW)
        await until(lambda: "refused" in caplog.text.lower() and "Errno" in caplog.text, what="a warning")
    assert "s3cret" not in caplog.text
    with hook_server() as hooks:
        Webhook(hooks.url).deliver("id", b"{}")
    assert "authorization" not in hooks.headers[0]


def test_letters_that_are_not_ascii_are_sent_as_a_browser_does() -> None:
    with hook_server() as hooks:
        Webhook(hooks.url + "/tür%20é?ort=łódź&a=%C3%A4#teil").deliver("id", b"{}")
    assert hooks.paths == ["/hook/t%C3%BCr%20%C3%A9?ort=%C5%82%C3%B3d%C5%BA&a=%C3%A4"]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://łódź.example/hook", "xn--d-uga0v4h.example"),
        ("https://user:pw@tür.example:8443/hook", "xn--tr-xka.example:8443"),
        ("https://EXAMPLE.org:443", "example.org:443"),
        ("http://[::1]:80/hook", "[::1]:80"),
        ("http://[::1]", "[::1]"),
    ],
)
def test_names_of_hosts(url: str, host: str) -> None:
    assert urllib.parse.urlsplit(sendable(url)[0]).netloc == host


# ── signatures ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_signature_is_the_standards() -> None:
    """The example of the standard's own libraries, and the formula by other means."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    found = signed([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    content = b"an_id.17.{}"
    by_hand = base64.b64encode(hmac.new(KEY, content, hashlib.sha256).digest()).decode()
    assert signed([KEY], "an_id", 17, b"{}")["webhook-signature"] == f"v1,{by_hand}"


async def test_requests_are_signed_over_what_is_sent() -> None:
    other = bytes(24)
    with hook_server() as hooks:
        hooks.statuses = [503]
        async with sending(hooks.url, keys=(KEY, other)) as courier:
            await sent(hooks, courier, STAYS, NEW)
    for headers, body in zip(hooks.headers, hooks.bodies, strict=True):
        id, stamp = headers["webhook-id"], headers["webhook-timestamp"]
        assert "." not in id
        assert abs(int(stamp) - time.time()) < 60
        assert headers["idempotency-key"] == id
        wanted_ = [hmac.new(key, f"{id}.{stamp}.".encode() + body, hashlib.sha256).digest() for key in (KEY, other)]
        assert headers["webhook-signature"].split() == ["v1," + base64.b64encode(one).decode() for one in wanted_]
    ids = [one["webhook-id"] for one in hooks.headers]
    assert ids[0] == ids[1] != ids[2]


async def test_the_receiver_of_the_docs_verifies_them() -> None:
    """The snippet in docs/webhooks.md accepts what is sent, and nothing else."""
    (code,) = re.findall(r"```python\n(def verify.*?|import .*?)```", (DOCS / "webhooks.md").read_text(), re.DOTALL)
    space: dict[str, object] = {}
    exec(code, space)
    verify = space["verify"]
    assert callable(verify)
    with hook_server() as hooks:
        async with sending(hooks.url, keys=(KEY,)) as courier:
            await sent(hooks, courier, NEW)
    headers, body = hooks.headers[0], hooks.bodies[0]
    assert verify(SECRET, headers, body)
    assert not verify(SECRET, headers, body + b" ")
    assert not verify("whsec_" + base64.b64encode(bytes(32)).decode(), headers, body)
    assert not verify(SECRET, headers | {"webhook-id": "other"}, body)
    assert not verify(SECRET, headers | {"webhook-timestamp": str(int(time.time()) - 301)}, body)
    assert not verify(SECRET, {}, body)


def test_ids_of_messages_have_no_dots_and_stay_different() -> None:
    ids = ["yard.cam.r1.3.rule.stays", "yard.cam.r1.3.rule~stays", "yard~cam.r1", "yard.cam.r1", "a%2Eb", "a.b", "ä.b"]
    made = [message_id(one) for one in ids]
    assert len(set(made)) == len(ids)
    assert all("." not in one and one.isascii() and one.isprintable() and " " not in one for one in made)
    assert made[0] == "yard~cam~r1~3~rule~stays"


@pytest.mark.parametrize(
    "text",
    ["s3cr3t", "whsec_", "whsec_!!!!", "whsec_" + base64.b64encode(bytes(23)).decode(),
     "whsec_" + base64.b64encode(bytes(65)).decode(), base64.b64encode(bytes(32)).decode(), f"{SECRET}\ns3cr3t"],
)  # fmt: skip
def test_bad_secrets(tmp_path: Path, text: str) -> None:
    file = tmp_path / "secret"
    file.write_text(text)
    for make in (lambda: secrets_of(file, {}), lambda: secrets_of(None, {"HAMS_WEBHOOK_SECRET": text})):
        with pytest.raises(CredentialsError, match="openssl rand -base64 32") as caught:
            make()
        assert text == "whsec_" or text not in str(caught.value).replace(str(file), "")


def test_secrets(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n{SECRET}\n")
    assert secrets_of(file, {}) == (KEY, KEY)
    assert secrets_of(None, {"HAMS_WEBHOOK_SECRET": SECRET}) == (KEY,)
    assert secrets_of(None, {}) == ()
    file.write_text("\n")
    with pytest.raises(CredentialsError, match="is empty"):
        secrets_of(file, {})
    with pytest.raises(CredentialsError, match="No such file"):
        secrets_of(tmp_path / "none", {})


@pytest.mark.parametrize(
    ("to", "text"),
    [
        (To(), "give a web address or --notify"),
        (To(url="https://a.org", notify="json://a.org"), "give a web address or --notify"),
        (To(notify="json://a.org", secret_file=Path("x")), "apprise signs nothing"),
        (To(url="https://a.org", body="x"), "are for --notify"),
        (To(notify="no-such-thing://token"), "apprise takes no address like this"),
        (To(notify="just words"), "apprise takes no address like this"),
        (To(notify="json://a.org", body="{wrong}"), "no event has the field {wrong}"),
    ],
)
def test_options_that_do_not_fit(to: To, text: str) -> None:
    with pytest.raises(HamsError) as caught:
        receiver_of(to)
    assert text in str(caught.value)
    assert "token" not in str(caught.value)


# ── where to read on, and what is wanted ──────────────────────────────────────────────────────────────────────────────


def test_the_last_sequence_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "last"
    assert LastSequence(path).read() is None
    LastSequence(path).write(17)
    assert LastSequence(path).read() == 17
    LastSequence(None).write(17)
    assert LastSequence(None).read() is None
    path.write_text("what?")
    with pytest.raises(SourceError, match="delete it"):
        LastSequence(path).read()
    with pytest.raises(SourceError, match="cannot write"):
        LastSequence(tmp_path / "none" / "last").write(1)


def test_which_events_are_wanted() -> None:
    assert wanted(STAYS, kinds_of(None), [])
    assert wanted(STAYS, ("rule",), ["stays", "other"])
    assert not wanted(STAYS, ("rule",), ["other"])
    assert not wanted(STAYS, ("new",), [])
    assert not wanted(NEW, ("rule",), ["stays"])
