"""What clients of gRPC may hold before their token and the size of their message are known."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("grpc", reason="needs hams[gateway]")
pytest.importorskip("starlette", reason="needs hams[gateway]")

import grpc.aio

from hams_services.gateway.guard import Guard
from hams_services.gateway.kserve import grpc as served
from hams_services.gateway.kserve.messages import MESSAGES, SERVICE
from hams_services.gateway.limits import Admission
from hams_services.security import tokens
from hams_services.security.tokens import TokenFile
from support.wait import until

LARGE = b"\xff" * (8 << 20)
METADATA = MESSAGES["ServerMetadataRequest"]().SerializeToString()


class Seen(served.Service):
    """The service, for tests to see whether a message comes."""

    receives: Callable[[], bool]

    def __init__(self, api: Any) -> None:
        super().__init__(api)
        Seen.receives = self._receiving.locked


@pytest.fixture(autouse=True)
def _seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "Service", Seen)


@asynccontextmanager
async def serving(path: Path, most: int = 8, admission: Admission | None = None) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server with tokens; `most` messages may come at a time."""
    guard = Guard(TokenFile(path, required=True), ())
    api: Any = SimpleNamespace(guard=guard, max_body=served.BODY_BYTES // most, admission=admission or Admission())
    server = served.server(api)
    port = served.listen(server, "127.0.0.1", 0, None, None)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel, asyncio.timeout(60):
            yield channel
    finally:
        await server.stop(0)


def opened(channel: grpc.aio.Channel, name: str, token: str = "") -> Any:
    """A call whose message does not come, or not yet."""
    metadata = [("authorization", f"Bearer {token}")] if token else []
    return channel.stream_stream(f"/{SERVICE}/{name}")(metadata=metadata)


async def asked(channel: grpc.aio.Channel, token: str) -> bytes:
    """The answer of a whole call."""
    method = channel.unary_unary(f"/{SERVICE}/ServerMetadata")
    return bytes(await method(METADATA, metadata=[("authorization", f"Bearer {token}")]))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def made(path: Path, role: Any) -> str:
    return tokens.add(path, role, role, (), None, time.time())


@pytest.mark.parametrize("name", ["ModelInfer", "ServerMetadata", "ModelStreamInfer"])
async def test_the_token_is_asked_before_a_message_is_read(path: Path, name: str) -> None:
    made(path, "app")
    async with serving(path) as channel:
        assert await opened(channel, name).code() == grpc.StatusCode.UNAUTHENTICATED
        assert await opened(channel, name, "wrong").code() == grpc.StatusCode.UNAUTHENTICATED


async def test_what_needs_no_token_reads_no_message(path: Path) -> None:
    async with serving(path, most=1) as channel:
        assert MESSAGES["ServerLiveResponse"].FromString(await opened(channel, "ServerLive").read()).live
        whole = await channel.unary_unary(f"/{SERVICE}/ServerLive")(b"")
        assert MESSAGES["ServerLiveResponse"].FromString(whole).live


async def test_few_messages_come_at_a_time_and_none_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = made(path, "viewer")
    async with serving(path, most=2) as channel:
        assert MESSAGES["ServerMetadataResponse"].FromString(await asked(channel, token)).name == "hams"
        monkeypatch.setattr(served, "RECEIVE_S", 1.0)
        held = [opened(channel, "ServerMetadata", token) for _ in range(2)]
        for one in held:
            assert await one.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        monkeypatch.setattr(served, "RECEIVE_S", 30.0)
        assert await asked(channel, token)
        empty = opened(channel, "ServerMetadata", token)
        await empty.done_writing()
        assert await empty.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_call_that_finds_no_place_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = made(path, "viewer")
    async with serving(path, most=1) as channel:
        held = opened(channel, "ServerMetadata", token)
        await until(Seen.receives)  # the first has the place for a minute
        monkeypatch.setattr(served, "RECEIVE_S", 0.2)
        with pytest.raises(grpc.aio.AioRpcError, match="too many messages"):
            await asked(channel, token)
        held.cancel()
        monkeypatch.setattr(served, "RECEIVE_S", 30.0)
        assert await asked(channel, token)


async def test_a_message_that_is_not_asked_for_stays_with_its_client(path: Path) -> None:
    token = made(path, "viewer")
    metadata = [("authorization", f"Bearer {token}")]
    async with serving(path, most=1) as channel:
        held = opened(channel, "ServerMetadata", token)
        await until(Seen.receives)
        method = channel.unary_unary(f"/{SERVICE}/ServerMetadata")
        before = resident()
        calls = [method(LARGE, metadata=metadata) for _ in range(8)]
        await asyncio.sleep(2.0)
        assert not any(one.done() for one in calls)
        assert resident() - before < 100, "MiB: those of the client and no more"
        held.cancel()
        for one in calls:
            assert await one.code() == grpc.StatusCode.INVALID_ARGUMENT


def resident() -> int:
    """Memory of this process, MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20


async def test_bytes_of_contents_count_as_those_of_raw_contents_do(path: Path) -> None:
    token, admission = made(path, "app"), Admission(body_bytes=100)
    request = MESSAGES["ModelInferRequest"](model_name="face")
    image = request.inputs.add(name="image", datatype="BYTES", shape=[1])
    image.contents.bytes_contents.append(bytes(60))
    async with serving(path, admission=admission) as channel:
        with admission.request() as grow:
            grow(60)
            call = opened(channel, "ModelInfer", token)
            await call.write(request.SerializeToString())
            assert "are under way already" in await call.details()


async def test_few_streams_are_open_at_a_time(path: Path) -> None:
    token = made(path, "app")
    async with serving(path, most=1) as channel:
        first = opened(channel, "ModelStreamInfer", token)
        await first.write(b"no request")
        answer = MESSAGES["ModelStreamInferResponse"].FromString(await first.read())
        assert "are not a ModelInferRequest" in answer.error_message
        second = opened(channel, "ModelStreamInfer", token)
        assert "1 streams are under way" in await second.details()
        await first.done_writing()
        assert await first.code() == grpc.StatusCode.OK
