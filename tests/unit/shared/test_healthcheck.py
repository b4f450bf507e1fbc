from __future__ import annotations

from pathlib import Path

import pytest

from hams_shared.bus.nats.client import NatsBus
from hams_shared.errors import BrokerError, DeadlineError
from hams_shared.healthcheck import Asked, answers, ask, running
from hams_shared.runtime.process import machine
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
                await answers(asking, Asked("scheduler", "elsewhere"), 1.0)
        with pytest.raises(DeadlineError):
            await answers(asking, asked, 0.3)


async def test_without_a_broker_it_says_so(own_nats_server: NatsServer) -> None:
    own_nats_server.stop()
    with pytest.raises(BrokerError):
        await ask(Asked("agent", machine()), own_nats_server.url, 1.0)
