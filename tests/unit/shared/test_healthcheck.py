from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from hams_shared.bus.nats.client import NatsBus
from hams_shared.errors import BadInputError, BrokerError, DeadlineError, HamsError
from hams_shared.healthcheck import Asked, answers, ask, connected, page, running
from hams_shared.runtime.process import machine
from support.file_server import serving
from support.nats_server import NatsServer, nats_server, own_nats_server

__all__ = ["nats_server", "own_nats_server"]


@pytest.mark.parametrize(
    ("metadata", "device", "meant"),
    [
        ({"machine": "here"}, "", True),
        ({"machine": "there"}, "", False),
        ({"machine": "here", "device": "a.b.c"}, "a.b.c", True),
        ({"machine": "here", "device": "a.b.d"}, "a.b.c", False),
        ({}, "", False),
    ],
)
def test_which_answer_counts(metadata: dict[str, str], device: str, meant: bool) -> None:
    assert Asked("agent", "here", device).meant({"name": "hams-agent", "metadata": metadata}) is meant
    assert not Asked("agent", "here").meant({"name": "hams-agent"})


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("/opt/hams/bin/python\0/opt/hams/bin/hams-agent\0--device\0openvino:CPU\0", "agent"),
        ("/sbin/docker-init\0--\0hams-scheduler\0", "scheduler"),
        ("hams-ctl\0results\0face\0", ""),
    ],
)
def test_what_a_container_runs(tmp_path: Path, command: str, part: str) -> None:
    (tmp_path / "cmdline").write_text(command)
    assert running(tmp_path / "cmdline") == part
    assert running(tmp_path / "absent") == ""


async def test_a_part_answers_while_it_serves_and_not_after(nats_server: NatsServer) -> None:
    asked = Asked("scheduler", machine())
    async with NatsBus(nats_server.url) as asking:
        async with NatsBus(nats_server.url) as part:
            await part.serve("hams-scheduler-replica", "1.0.0", {}, {})
            await answers(asking, asked, 5.0)
            await ask(asked, nats_server.url, 5.0)
            with pytest.raises(DeadlineError, match=r"scheduler on elsewhere did not answer .* 1 elsewhere did"):
                await answers(asking, Asked("scheduler", "elsewhere"), 3.0)
        with pytest.raises(DeadlineError):
            await answers(asking, asked, 0.3)


async def test_without_a_broker_it_says_so(own_nats_server: NatsServer) -> None:
    own_nats_server.stop()
    with pytest.raises(BrokerError):
        await ask(Asked("agent", machine()), own_nats_server.url, 1.0)


def test_a_page_answers_or_the_error_says_what_is_wrong() -> None:
    with serving({"/ready": b"yes"}) as files:
        page(f"{files.url}/ready", 5.0)
        with pytest.raises(HamsError, match=r"/absent answers with status 404"):
            page(f"{files.url}/absent", 5.0)
    with pytest.raises(HamsError, match="does not answer"):
        page(f"{files.url}/ready", 1.0)


TCP = "  sl  local_address rem_address   st tx_queue\n"


@pytest.mark.parametrize(
    ("url", "tcp", "tcp6", "well"),
    [
        ("nats://nats", "  0: 0100007F:9C40 0200007F:107E 01 0\n", "", True),  # port 4222
        ("mqtts://broker,mqtt://other:1884", "", f"  0: {'0' * 32}:9C40 {'0' * 32}:075C 01 0\n", True),  # 1884
        ("nats://nats", "  0: 0100007F:9C40 0200007F:107E 06 0\n", "", False),  # it is closed already
        ("nats://nats:4223", "  0: 0100007F:9C40 0200007F:107E 01 0\n", "", False),
    ],
)
def test_whether_there_is_a_connection(tmp_path: Path, url: str, tcp: str, tcp6: str, well: bool) -> None:
    (tmp_path / "tcp").write_text(TCP + tcp)
    if tcp6:
        (tmp_path / "tcp6").write_text(TCP + tcp6)
    if well:
        connected(url, tmp_path)
    else:
        with pytest.raises(BrokerError, match="no connection to port 422"):
            connected(url, tmp_path)


def test_a_connection_of_this_process_is_found(nats_server: NatsServer) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(nats_server.url).port or 0)):
        connected(nats_server.url)


def test_an_address_without_a_known_port_is_named() -> None:
    with pytest.raises(BadInputError, match="no known port"):
        connected("amqp://broker")
