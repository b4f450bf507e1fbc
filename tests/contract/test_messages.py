from __future__ import annotations

import asyncio
import gc
import json
import weakref
from typing import Any

import pytest

from hams_shared.bus.nats.client import NatsBus
from hams_shared.bus.protocol import MACHINE, Message
from hams_shared.errors import (
    BadInputError,
    BrokerError,
    DeadlineError,
    GroupSpecError,
    InternalError,
    NotFoundError,
)
from hams_shared.runtime.process import machine
from support.nats_server import NatsServer
from support.wait import until


def collector(into: list[tuple[str, bytes]]) -> Any:
    async def take(message: Message) -> None:
        into.append((message.subject, message.data))

    return take


async def test_a_subscription_that_ended_is_forgotten(connect: Any, name: str) -> None:
    """A process that serves for a year makes and ends many of them."""
    got: list[tuple[str, bytes]] = []
    async with connect() as bus:
        handler = collector(got)
        known = weakref.ref(handler)
        subscription = await bus.subscribe(name, handler)
        await bus.publish(name, b"")
        await until(lambda: got)
        await subscription.unsubscribe()
        del handler, subscription
        await until(lambda: gc.collect() >= 0 and known() is None)


async def test_messages_arrive_in_order(connect: Any, name: str) -> None:
    got: list[tuple[str, bytes]] = []
    async with connect() as a, connect() as b:
        await b.subscribe(name, collector(got), limit=2000)
        await b.flush()
        for i in range(1000):
            await a.publish(name, b"%d" % i)
        await until(lambda: len(got) == 1000)
    assert [int(data) for _, data in got] == list(range(1000))


@pytest.mark.parametrize(
    ("pattern", "hears"),
    [
        ("{n}.a.b", ["{n}.a.b"]),
        ("{n}.*.b", ["{n}.a.b", "{n}.c.b"]),
        ("{n}.>", ["{n}.a", "{n}.a.b", "{n}.c.b", "{n}.a.b.c"]),
        ("{n}.*", ["{n}.a"]),
        ("{n}.a.>", ["{n}.a.b", "{n}.a.b.c"]),
    ],
)
async def test_wildcards(connect: Any, name: str, pattern: str, hears: list[str]) -> None:
    got: list[tuple[str, bytes]] = []
    async with connect() as bus:
        await bus.subscribe(pattern.format(n=name), collector(got))
        await bus.subscribe(f"{name}-end", collector(got))
        for subject in ("{n}", "{n}.a", "{n}.a.b", "{n}.c.b", "{n}.a.b.c", "{n}-end"):
            await bus.publish(subject.format(n=name), b"")
        await until(lambda: any(s.endswith("-end") for s, _ in got))
        await until(lambda: len(got) == len(hears) + 1)
    assert [s for s, _ in got if not s.endswith("-end")] == [s.format(n=name) for s in hears]


async def test_a_queue_group_shares_the_messages_and_others_get_all(connect: Any, name: str) -> None:
    one: list[Any] = []
    two: list[Any] = []
    other: list[Any] = []
    async with connect() as a, connect() as b, connect() as c:
        await a.subscribe(name, collector(one), queue="workers")
        await b.subscribe(name, collector(two), queue="workers")
        await c.subscribe(name, collector(other))
        for bus in (a, b, c):
            await bus.flush()
        for i in range(200):
            await c.publish(name, b"%d" % i)
        await until(lambda: len(other) == 200 and len(one) + len(two) == 200)
    assert one
    assert two
    assert not {data for _, data in one} & {data for _, data in two}


async def test_what_exceeds_the_bound_is_dropped_and_counted(connect: Any, name: str) -> None:
    gate = asyncio.Event()
    got: list[bytes] = []

    async def slow(message: Message) -> None:
        got.append(message.data)
        await gate.wait()

    others: list[Any] = []
    async with connect() as bus:
        subscription = await bus.subscribe(name, slow, limit=10)
        await bus.subscribe(name, collector(others))
        await bus.publish(name, b"first")
        await until(lambda: got)
        for i in range(30):
            await bus.publish(name, b"%d" % i)
        await until(lambda: len(others) == 31)
        await until(lambda: subscription.dropped == 20)
        gate.set()
        await until(lambda: len(got) == 11)
        await bus.publish(name, b"last")
        await until(lambda: len(got) == 12)
    assert got == [b"first", *(b"%d" % i for i in range(10)), b"last"]


async def test_one_message_at_a_time_per_subscription(connect: Any, name: str) -> None:
    inside = most = done = 0

    async def handler(message: Message) -> None:
        nonlocal inside, most, done
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.001)
        inside -= 1
        done += 1

    async with connect() as bus:
        await bus.subscribe(name, handler)
        for _ in range(20):
            await bus.publish(name, b"")
        await until(lambda: done == 20)
    assert most == 1


async def test_handler_exceptions_are_logged_and_not_fatal(
    connect: Any, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[bytes] = []

    async def faulty(message: Message) -> None:
        got.append(message.data)
        if message.data == b"1":
            raise ValueError("boom")
        if message.data == b"2":
            raise asyncio.CancelledError

    async with connect() as bus:
        await bus.subscribe(name, faulty)
        for i in range(4):
            await bus.publish(name, b"%d" % i)
        await until(lambda: len(got) == 4)
    assert "boom" in caplog.text
    assert "cancelled" in caplog.text


async def test_unsubscribe(connect: Any, name: str) -> None:
    got: list[Any] = []
    seen: list[Any] = []
    async with connect() as bus:
        gone = await bus.subscribe(name, collector(got))
        await bus.subscribe(name, collector(seen))
        await gone.unsubscribe()
        await gone.unsubscribe()
        await bus.publish(name, b"x")
        await until(lambda: seen)
    assert got == []


async def test_a_handler_may_unsubscribe_itself_and_runs_to_its_end(connect: Any, name: str) -> None:
    got: list[str] = []
    seen: list[Any] = []
    async with connect() as bus:

        async def once(message: Message) -> None:
            await subscription.unsubscribe()
            await asyncio.sleep(0.01)
            got.append("end")

        subscription = await bus.subscribe(name, once)
        await bus.subscribe(name, collector(seen))
        for _ in range(3):
            await bus.publish(name, b"")
        await until(lambda: got and len(seen) == 3)
        await bus.publish(name, b"")
        await until(lambda: len(seen) == 4)
    assert got == ["end"]


async def test_request_and_answer(connect: Any, name: str) -> None:
    async def double(message: Message) -> None:
        await message.respond(message.data * 2)

    async with connect() as a, connect() as b:
        await a.subscribe(name, double)
        await a.flush()
        answers = await asyncio.gather(*(b.request(name, b"%d" % i, timeout=60) for i in range(20)))
        assert [answer.data for answer in answers] == [b"%d%d" % (i, i) for i in range(20)]


async def test_respond_without_a_reply_subject_does_nothing(connect: Any, name: str) -> None:
    done = []

    async def handler(message: Message) -> None:
        assert message.reply == ""
        await message.respond(b"nobody asked")
        done.append(True)

    async with connect() as bus:
        await bus.subscribe(name, handler)
        await bus.publish(name, b"")
        await until(lambda: done)


async def test_an_answer_goes_to_an_inbox_and_nowhere_else(connect: Any, name: str) -> None:
    heard, asked = [], []

    async def listen(message: Message) -> None:
        heard.append(message.subject)

    async def answer(message: Message) -> None:
        asked.append(message.subject)
        await message.respond(b"answer")

    async def fail(message: Message) -> None:
        raise GroupSpecError("no")

    async with connect() as a, connect() as b:
        for subject in (f"{name}.elsewhere", f"_INBOX.{name}", f"_INBOX_user.{name}"):
            await b.subscribe(subject, listen)
        await b.flush()
        await a.subscribe(f"{name}.plain", answer)
        await a.serve(name, "1.0.0", {}, {"ok": (f"{name}.ok", answer), "bad": (f"{name}.bad", fail)})
        await a.flush()
        for verb in (f"{name}.plain", f"{name}.ok", f"{name}.bad", f"$SRV.PING.{name}"):
            for reply in (f"{name}.elsewhere", f"_INBOX.{name}", f"_INBOX_user.{name}"):
                await b.publish(verb, b"", reply=reply)
        await until(lambda: len(heard) == 8)
        for verb in (f"{name}.plain", f"{name}.ok", f"$SRV.PING.{name}"):
            await b.request(verb, b"", timeout=60)
        with pytest.raises(GroupSpecError):
            await b.request(f"{name}.bad", b"", timeout=60)
    assert sorted(heard) == [f"_INBOX.{name}"] * 4 + [f"_INBOX_user.{name}"] * 4


async def test_request_without_listeners(connect: Any, name: str) -> None:
    async with connect() as bus:
        with pytest.raises(NotFoundError, match=name):
            await bus.request(name, b"", timeout=60)


async def test_request_without_answer(connect: Any, name: str) -> None:
    got: list[Any] = []
    async with connect() as bus:
        await bus.subscribe(name, collector(got))
        with pytest.raises(DeadlineError, match=name):
            await bus.request(name, b"", timeout=0.1)
        await until(lambda: got)


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nb"])
async def test_bad_subjects(connect: Any, subject: str) -> None:
    async with connect() as bus:
        with pytest.raises(BadInputError):
            await bus.publish(subject, b"")


@pytest.mark.parametrize("subject", ["", "a b", "a..b", "a.>.b", "a.b*", ">a"])
async def test_bad_subscriptions(connect: Any, subject: str) -> None:
    async with connect() as bus:
        with pytest.raises(BadInputError):
            await bus.subscribe(subject, collector([]))


async def test_size_limit(connect: Any, name: str) -> None:
    got: list[Any] = []
    async with connect() as bus:
        assert bus.max_payload == 8 * 1024 * 1024
        await bus.subscribe(name, collector(got))
        with pytest.raises(BrokerError, match=str(bus.max_payload)):
            await bus.publish(name, bytes(bus.max_payload + 1))
        await bus.publish(name, bytes(bus.max_payload))
        await until(lambda: got)
        assert len(got[0][1]) == bus.max_payload


async def test_a_closed_bus_says_so(connect: Any, name: str) -> None:
    async with connect() as bus:
        pass
    for call in (bus.publish(name, b""), bus.subscribe(name, collector([])), bus.flush(), bus.kv(name)):
        with pytest.raises(BrokerError):
            await call
    with pytest.raises(BrokerError):
        await bus.request(name, b"", timeout=1)


async def test_what_was_published_before_closing_arrives(connect: Any, name: str) -> None:
    got: list[Any] = []
    async with connect() as a:
        await a.subscribe(name, collector(got))
        await a.flush()
        async with connect() as b:
            for _ in range(100):
                await b.publish(name, bytes(1000))
        await until(lambda: len(got) == 100)


async def test_services_are_found(connect: Any, name: str) -> None:
    async def echo(message: Message) -> None:
        await message.respond(message.data)

    async with connect() as a, connect() as b:
        await a.serve(name, "1.2.3", {"host": "box"}, {"echo": (f"{name}.echo", echo)})
        ping = json.loads((await b.request(f"$SRV.PING.{name}", b"", timeout=60)).data)
        info = json.loads((await b.request(f"$SRV.INFO.{name}", b"", timeout=60)).data)
        answer = await b.request(f"{name}.echo", b"hello", timeout=60)
    assert (ping["name"], ping["version"], ping["metadata"]) == (name, "1.2.3", {"host": "box", MACHINE: machine()})
    assert ping["type"] == "io.nats.micro.v1.ping_response"
    assert [(e["name"], e["subject"]) for e in info["endpoints"]] == [("echo", f"{name}.echo")]
    assert answer.data == b"hello"


async def test_services_with_queues_of_their_own_are_all_asked(connect: Any, name: str) -> None:
    async def silent(message: Message) -> None:
        asked.append(message.data)

    async def echo(message: Message) -> None:
        await message.respond(message.data)

    asked: list[bytes] = []
    async with connect() as a, connect() as b, connect() as c:
        await a.serve(name, "1.0.0", {}, {"echo": (f"{name}.echo", silent)}, queue="a")
        await b.serve(name, "1.0.0", {}, {"echo": (f"{name}.echo", echo)}, queue="b")
        for i in range(8):
            answer = await c.request(f"{name}.echo", b"%d" % i, timeout=60)
            assert answer.data == b"%d" % i
        await until(lambda: len(asked) == 8)


async def test_service_errors_travel(connect: Any, name: str, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(message: Message) -> None:
        if message.data == b"ours":
            raise GroupSpecError("nodes: missing\nsecond line", "see the manual")
        raise KeyError("oops")

    async with connect() as a, connect() as b:
        await a.serve(name, "1.0.0", {}, {"do": (f"{name}.do", handler)})
        with pytest.raises(GroupSpecError) as ours:
            await b.request(f"{name}.do", b"ours", timeout=60)
        with pytest.raises(InternalError, match="oops"):
            await b.request(f"{name}.do", b"other", timeout=60)
    assert ours.value.text == "nodes: missing\nsecond line"
    assert ours.value.hint == "see the manual"
    assert "oops" in caplog.text


async def test_a_service_needs_a_name_and_version(connect: Any) -> None:
    async with connect() as bus:
        with pytest.raises(BadInputError):
            await bus.serve("no name", "1.0.0", {}, {})
        with pytest.raises(BadInputError):
            await bus.serve("name", "new", {}, {})


async def test_flush_means_that_subscriptions_are_in_force(connect: Any, name: str) -> None:
    async def answer(message: Message) -> None:
        await message.respond(b"")

    async with connect() as a, connect() as b:
        for i in range(50):
            await a.subscribe(f"{name}.{i}", answer)
            await a.flush()
            await b.request(f"{name}.{i}", b"", timeout=60)


async def test_a_service_whose_start_is_cancelled_is_not_left_behind(nats_server: NatsServer, name: str) -> None:
    async def answer(message: Message) -> None:
        await message.respond(b"")

    async with NatsBus(nats_server.url) as a, NatsBus(nats_server.url) as b:
        starting = asyncio.create_task(a.serve(name, "1.0.0", {}, {"own": (f"{name}.own", answer)}))
        while f"{name}.own" not in [one.subject for one in a._nc._subs.values()]:  # noqa: ASYNC110 - not one step more
            await asyncio.sleep(0)
        starting.cancel()  # it waits for the broker's answer
        with pytest.raises(asyncio.CancelledError):
            await starting
        await a.flush()
        assert not [one for one in a._nc._subs.values() if one.subject.startswith(("$SRV", name))]
        with pytest.raises(NotFoundError):
            await b.request(f"{name}.own", b"", timeout=60)
