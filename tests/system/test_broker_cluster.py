"""Three brokers and a leaf as in deploy/nats/: HAMS's buckets are on all three and outlive one of them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import pytest

from hams_services.ctl.broker import check_port, find_nats_server
from hams_services.ctl.control import Control
from hams_shared import subjects
from hams_shared.errors import HamsError
from hams_shared.nats_bus import NatsBus
from support.up import ROOT
from support.wait import following

pytestmark = pytest.mark.system

CONFIGS = ROOT / "deploy" / "nats"


def start(config: str, folder: Path, **settings: str) -> subprocess.Popen[bytes]:
    folder.mkdir()
    with (folder / "out").open("wb") as out:
        return subprocess.Popen(
            [str(find_nats_server()), "--config", str(CONFIGS / config)],
            env={**os.environ, **settings, "DATA": str(folder)},
            stdout=out,
            stderr=out,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(10)


class Cluster:
    """Three brokers and a leaf; `urls` of the three by name, `leaf` of the other."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        names = ("one", "two", "three")
        routes = [check_port("127.0.0.1", 0) for _ in names]
        leafs = [check_port("127.0.0.1", 0) for _ in names]
        self.servers: dict[str, subprocess.Popen[bytes]] = {}
        self.urls: dict[str, str] = {}
        for name, route, leaf in zip(names, routes, leafs, strict=True):
            port = check_port("127.0.0.1", 0)
            self.urls[name] = f"nats://127.0.0.1:{port}"
            self.servers[name] = start(
                "cluster.conf",
                folder / name,
                NODE=name,
                PORT=str(port),
                MONITOR='"127.0.0.1:-1"',
                CLUSTER_LISTEN=f'"127.0.0.1:{route}"',
                LEAF_LISTEN=f'"127.0.0.1:{leaf}"',
                ROUTES=str([f"nats://127.0.0.1:{r}" for r in routes]),
            )
            stack.callback(end, self.servers[name])
        port = check_port("127.0.0.1", 0)
        self.leaf = f"nats://127.0.0.1:{port}"
        hubs = str([f"nats://127.0.0.1:{leaf}" for leaf in leafs])
        stack.callback(
            end, start("leaf.conf", folder / "leaf", NODE="leaf", PORT=str(port), MONITOR='"127.0.0.1:-1"', HUBS=hubs)
        )


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("HAMS_KV_REPLICAS", "3")
    with ExitStack() as stack:
        yield Cluster(tmp_path, stack)


async def connected(stack: AsyncExitStack, url: str, timeout: float = 40) -> NatsBus:
    """A bus on which JetStream answers: a cluster elects its leader first."""
    end = asyncio.get_running_loop().time() + timeout
    while True:
        try:
            bus = await stack.enter_async_context(NatsBus(url, connect_timeout=5))
            await bus.kv("warm")
            return bus
        except HamsError as error:
            assert asyncio.get_running_loop().time() < end, f"{url} is not ready within {timeout} s: {error}"
            await asyncio.sleep(0.2)


async def streams(bus: NatsBus) -> dict[str, Any]:
    return {info.config.name: info for info in await bus.jetstream.streams_info()}


async def test_buckets_are_on_three_brokers_and_outlive_one(cluster: Cluster) -> None:
    async with AsyncExitStack() as stack:
        everywhere = await connected(stack, ",".join(cluster.urls.values()))
        through_leaf = await connected(stack, cluster.leaf)
        scheduler = await asyncio.create_subprocess_exec(sys.executable, "-m", "hams_scheduler", "--nats", cluster.leaf)
        stack.push_async_callback(killed, scheduler)
        await until_scheduled(through_leaf)  # the scheduler is there, and so are its buckets

        found = await streams(everywhere)
        names = [f"KV_{subjects.bucket(name)}" for name in subjects.BUCKETS]
        assert [found[name].config.num_replicas for name in names] == [3] * len(names)

        groups = await through_leaf.kv(subjects.bucket("notes"))
        await groups.put("before", b"1")
        watch = (await everywhere.kv(subjects.bucket("notes"))).watch()
        stack.push_async_callback(watch.aclose)
        assert (await following(watch)) is not None

        leader = (await streams(everywhere))[f"KV_{subjects.bucket('notes')}"].cluster.leader
        end(cluster.servers[leader])

        await written(groups, "after")
        entries = await groups.entries()
        assert {key: entry.value for key, entry in entries.items()} == {"before": b"1", "after": b"2"}
        async with asyncio.timeout(30):
            async for entry in watch:
                if entry is not None and entry.key == "after":
                    break
        await until_scheduled(through_leaf)
        assert scheduler.returncode is None


async def written(bucket: Any, key: str) -> None:
    """Write while the survivors still elect the bucket's leader."""
    async with asyncio.timeout(30):
        while True:
            try:
                await bucket.put(key, b"2")
                return
            except HamsError:
                await asyncio.sleep(0.1)


async def until_scheduled(bus: NatsBus) -> None:
    async with asyncio.timeout(40):
        while True:
            try:
                await Control(bus).view()
                return
            except HamsError:
                await asyncio.sleep(0.1)


async def killed(process: asyncio.subprocess.Process) -> None:
    process.kill()
    await process.wait()
