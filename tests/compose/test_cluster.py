"""Three brokers and a leaf by `deploy/`, each as on a box of its own: with an address and a folder of secrets."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import pytest

from compose.docker import Docker, Project, run
from hams_shared.bus.nats.client import NatsBus
from hams_shared.errors import HamsError
from hams_shared.runtime.credentials import load
from hams_shared.wire import subjects
from support.wait import PATIENCE

BROKERS = ("10.99.7.1", "10.99.7.2", "10.99.7.3")
LEAF = "10.99.7.4"

T = TypeVar("T")


@pytest.fixture
def addresses(docker: Docker) -> Iterator[None]:
    """Addresses that this machine has besides its own, which containers reach too."""
    with ExitStack() as stack:
        for address in (*BROKERS, LEAF):
            run("ip", "address", "replace", f"{address}/32", "dev", "lo")
            stack.callback(run, "ip", "address", "del", f"{address}/32", "dev", "lo")
        yield


async def test_three_brokers_and_a_leaf(
    docker: Docker, addresses: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAMS_KV_REPLICAS", "3")
    secrets = tmp_path / "secrets"
    init = [sys.executable, "-m", "hams_services.ctl", "init", "--dir", str(secrets), "--leaf", LEAF]
    run(*init, *(word for address in BROKERS for word in ("--cluster", address)))
    admin = load(secrets / "admin.creds")

    def project(kind: str, address: str) -> Project:
        own = Project(
            docker, f"hams-test-{kind}-{address[-1]}", f"deploy/nats-{'leaf' if kind == 'leaf' else 'cluster'}.yml",
            HAMS_BIND=address, HAMS_SECRETS=str(secrets / kind / address),
        )  # fmt: skip
        stack.enter_context(own)("up", "--detach")
        return own

    with ExitStack() as stack:
        brokers = [project("cluster", address) for address in BROKERS]
        project("leaf", LEAF)("up", "--detach", "--wait", "--wait-timeout", "450")
        async with asyncio.timeout(120 * PATIENCE), NatsBus(f"nats://{LEAF}:4222", credentials=admin) as bus:
            groups = await until_done(lambda: bus.kv(subjects.bucket("groups")))
            await until_done(lambda: groups.put("kept", b"1"))
            async with NatsBus(f"nats://{BROKERS[1]}:4222", credentials=admin) as hub:  # a leaf may not list them
                assert {info.config.num_replicas for info in await hub.jetstream.streams_info()} == {3}
            brokers[0]("kill", "nats")
            await until_done(lambda: groups.put("more", b"2"))
            found = await until_done(groups.entries)
            assert {key: entry.value for key, entry in found.items()} == {"kept": b"1", "more": b"2"}


async def until_done(job: Callable[[], Awaitable[T]]) -> T:
    """Try until it succeeds: brokers elect leaders first. The caller has the deadline."""
    while True:
        try:
            return await job()
        except HamsError:
            await asyncio.sleep(0.2)
