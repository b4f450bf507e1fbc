"""Three brokers and a leaf as `hams-ctl init` makes them: who gets in, who does not, and the loss of one."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import nats.errors
import pytest

import hams_client
from hams_services.ctl.system.broker import MAX_PAYLOAD
from hams_services.security.folder import set_up_site
from hams_shared.bus.control import Control
from hams_shared.bus.nats.client import NatsBus
from hams_shared.bus.protocol import Message
from hams_shared.errors import DeadlineError, HamsError, NotFoundError
from hams_shared.runtime.credentials import Credentials, load
from hams_shared.wire import subjects
from support.cluster import Cluster, Member, TakenLeaf, make_site
from support.grey import group_file, picture
from support.refusals import turned_away
from support.wait import PATIENCE, following, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("HAMS_KV_REPLICAS", "3")
    with ExitStack() as stack:
        yield Cluster(tmp_path, stack)


async def connected(stack: AsyncExitStack, url: str, user: Credentials, timeout: float = 60) -> NatsBus:
    """A bus on which JetStream answers: a cluster elects its leader first."""
    end = asyncio.get_running_loop().time() + timeout * PATIENCE
    while True:
        try:
            bus = await stack.enter_async_context(NatsBus(url, credentials=user, connect_timeout=5))
            await bus.kv(subjects.bucket("groups"))
            return bus
        except HamsError as error:
            assert asyncio.get_running_loop().time() < end, (
                f"{url} is not ready within {timeout * PATIENCE:g} s: {error}"
            )
            await asyncio.sleep(0.2)


async def part(stack: AsyncExitStack, cluster: Cluster, module: str, url: str, user: str, *args: str) -> Any:
    """A part in a process of its own; it ends with the test."""
    environment = {
        "HAMS_NATS_URL": url,
        "HAMS_CREDENTIALS": str(cluster.secrets / f"{user}.creds"),
        "HAMS_HOST": cluster.user(user).box or "box",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *args, env={**os.environ, **environment}
    )
    stack.push_async_callback(killed, process)
    return process


async def killed(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


async def streams(bus: NatsBus) -> dict[str, Any]:
    async with asyncio.timeout(120):
        while True:
            try:
                return {info.config.name: info for info in await bus.jetstream.streams_info()}
            except (nats.errors.Error, TimeoutError):
                await asyncio.sleep(0.2)


async def until_done(job: Callable[[], Any], timeout: float = 60) -> Any:
    """Try until it succeeds, while the survivors elect new leaders, and parts start."""
    async with asyncio.timeout(timeout * PATIENCE):
        while True:
            try:
                return await job()
            except HamsError:
                await asyncio.sleep(0.1)


async def test_buckets_are_on_three_brokers_and_outlive_one(cluster: Cluster) -> None:
    async with AsyncExitStack() as stack:
        everywhere = await connected(stack, cluster.urls, cluster.user("admin"))
        through_leaf = await connected(stack, cluster.leaf.url, cluster.user("scheduler"))
        scheduler = await part(stack, cluster, "hams_scheduler", cluster.leaf.url, "scheduler")
        await until_done(Control(everywhere).view)  # the scheduler is there, and so are its buckets

        found = await streams(everywhere)
        names = [f"KV_{subjects.bucket(name)}" for name in subjects.BUCKETS]
        assert [found[name].config.num_replicas for name in names] == [3] * len(names)

        by_leaf = await stack.enter_async_context(NatsBus(cluster.leaf.url, credentials=cluster.user("admin")))
        with pytest.raises(NotFoundError):  # a leaf passes on what parts may ask, and not what only the admin may
            await by_leaf.request("$JS.API.STREAM.DELETE.KV_hams-plans", b"", timeout=30)
        assert "KV_hams-plans" in await streams(everywhere)

        name = subjects.bucket("profiles")
        bucket = await through_leaf.kv(name)
        await bucket.put("before", b"1")
        watch = (await everywhere.kv(name)).watch()
        stack.push_async_callback(watch.aclose)
        assert (await following(watch)) is not None

        leader = (await streams(everywhere))[f"KV_{name}"].cluster.leader
        cluster.members[leader].kill()

        await until_done(lambda: bucket.put("after", b"2"))
        entries = await until_done(bucket.entries)  # reading asks the meta leader, which may be gone as well
        assert {key: entry.value for key, entry in entries.items()} == {"before": b"1", "after": b"2"}
        async with asyncio.timeout(120):
            async for entry in watch:
                if entry is not None and entry.key == "after":
                    break
        await until_done(Control(everywhere).view)
        assert scheduler.returncode is None


async def test_who_has_no_credentials_is_refused_everywhere(cluster: Cluster, tmp_path: Path) -> None:
    make_site(tmp_path / "other")
    leaf = next(path.stem for path in cluster.secrets.glob("leaf-*.creds"))
    cases = (
        (None, "requires credentials.*--credentials"),
        (load(tmp_path / "other" / "app.creds"), "certificate that these credentials do not trust"),
        (cluster.user(leaf), f"rejects the credentials of {leaf}"),  # it is no client
    )

    async with asyncio.TaskGroup() as tasks:
        for url in [*(member.url for member in cluster.all()), cluster.urls]:
            for identity, said in cases:
                tasks.create_task(turned_away(url, said, identity))


async def test_brokers_that_are_not_of_the_site_stay_out(cluster: Cluster, tmp_path: Path) -> None:
    make_site(tmp_path / "other")
    one, *_ = cluster.members
    leaf = cluster.leaf.host
    names = set(cluster.members)
    await until(lambda: all(m.routes() == names - {m.host} for m in cluster.members.values()), 30)
    await until(lambda: leaf in cluster.joined(), 30)
    theirs = load(next((tmp_path / "other").glob("leaf-*.creds"))).seed

    def has_taken_the_leaf(stranger: Member) -> None:  # with it a certificate of the site, but not what members know
        stranger.take_certificate(cluster.leaf.box)
        stranger.change("cluster.conf", "[0-9a-f]{64}", "guess")

    cases: list[tuple[str, str, Callable[[Member], None], str]] = [
        (
            "cluster",
            one,
            lambda s: s.take_certificate(tmp_path / "other" / "cluster" / one),
            "signed by unknown authority",
        ),
        ("cluster", one, has_taken_the_leaf, "Authorization Violation"),
        ("leaf", leaf, lambda s: s.take_certificate(tmp_path / "other" / "leaf" / leaf), "signed by unknown authority"),
        (
            "leaf",
            leaf,
            lambda s: s.change("tls.conf", "(cert|key)_file: .+\n", ""),
            "client didn't provide a certificate",
        ),
        ("leaf", leaf, lambda s: s.change("leaf.conf", 'nkey: ".+"', ""), "Authorization Violation"),
        ("leaf", leaf, lambda s: s.change("leaf.conf", 'nkey: ".+"', f'nkey: "{theirs}"'), "Authorization Violation"),
    ]
    for kind, name, change, said in cases:
        stranger = cluster.stranger(kind, name)
        change(stranger)
        before = cluster.log().count(said)
        stranger.start()
        await until(partial(refused, said, stranger, cluster, before), 30, said)
        assert "stranger" not in cluster.joined()
        stranger.kill()
    for kind, name in (("leaf", leaf), ("cluster", one)):  # what was changed is what keeps them out
        stranger = cluster.stranger(kind, name)
        stranger.start()
        await until(lambda: "stranger" in cluster.joined(), 30)
        stranger.kill()
        await until(lambda: "stranger" not in cluster.joined(), 30)


def refused(said: str, stranger: Member, cluster: Cluster, before: int) -> bool:
    """Whether the stranger is told `said`, or the cluster says it more often than `before`."""
    return said in stranger.log() or cluster.log().count(said) > before


async def test_who_takes_a_leaf_has_its_rights_and_no_more(cluster: Cluster) -> None:
    hub = next(iter(cluster.members.values()))
    async with AsyncExitStack() as stack:
        admin = await connected(stack, hub.url, cluster.user("admin"))
        with await asyncio.to_thread(TakenLeaf, cluster.leaf, hub.host) as taken:
            taken.send("LS+ >\r\nPING\r\n")
            await asyncio.to_thread(taken.until, b"PONG")
            for subject in ("secret", "_INBOX.x", subjects.work("elsewhere.a.b"), subjects.result("face", "s")):
                await admin.publish(subject, b"")  # in order: the last is one that it may hear
            said = await asyncio.to_thread(taken.until, b"LMSG hams.v1.result.face.s")
            assert said.count(b"LMSG") == 1 + said.count(b"LMSG _INBOX_admin."), said

        for subject in ("$JS.hams.API.STREAM.DELETE.KV_hams-groups", "$JS.API.STREAM.DELETE.KV_hams-groups", "secret"):
            with await asyncio.to_thread(TakenLeaf, cluster.leaf, hub.host) as taken:
                taken.send(f"LMSG {subject} 0\r\n\r\n")
                await asyncio.to_thread(taken.until, b"Permissions Violation for Publish")
        assert "KV_hams-groups" in await streams(admin)


async def test_a_new_box_is_let_in_everywhere(cluster: Cluster) -> None:
    await until(lambda: cluster.leaf.host in cluster.joined(), 30)
    set_up_site(cluster.secrets, [], ["box9"], max_payload=MAX_PAYLOAD)
    for member in cluster.members.values():
        member.update()
    await until(lambda: all("Reloaded server configuration" in m.log() for m in cluster.members.values()), 30)
    cluster.leaf.kill()
    cluster.leaf.update()
    heard: set[bytes] = set()

    async def hear(message: Message) -> None:
        heard.add(message.data)

    async def announce(url: str) -> None:
        async with NatsBus(url, credentials=cluster.user("agent-box9"), connect_timeout=2) as bus:
            await bus.publish(subjects.heartbeat("box9.openvino.cpu0"), url.encode())
        if url.encode() not in heard:
            raise NotFoundError("not heard yet")

    async with NatsBus(cluster.urls, credentials=cluster.user("scheduler")) as scheduler:
        await scheduler.subscribe(subjects.heartbeat(), hear)
        for member in cluster.all():
            await until_done(partial(announce, member.url))


async def test_a_leaf_is_shut_out(cluster: Cluster) -> None:
    await until(lambda: cluster.leaf.host in cluster.joined(), 30)
    for path in cluster.secrets.glob("leaf-*.creds"):
        path.unlink()
    set_up_site(cluster.secrets, [], [], max_payload=MAX_PAYLOAD)
    for member in cluster.members.values():  # a SIGHUP would leave the link as it is
        member.kill()
        member.update()
        await until(member.answers, 30)
    await until(lambda: "Leafnode Error 'Authorization Violation'" in cluster.leaf.log(), 30)
    await until(lambda: cluster.leaf.host not in cluster.joined(), 30)


@pytest.mark.parametrize("where", ["leaf", "cluster"])
async def test_parts_work_through_any_broker_and_the_leaf(cluster: Cluster, tmp_path: Path, where: str) -> None:
    """Agents on one side of the leaf's link, scheduler and pipeline on the other."""
    near, far = (cluster.leaf.url, cluster.urls) if where == "leaf" else (cluster.urls, cluster.leaf.url)
    async with AsyncExitStack() as stack:
        admin = await connected(stack, cluster.leaf.url, cluster.user("admin"))
        await part(stack, cluster, "hams_scheduler", far, "scheduler")
        await until_done(Control(admin).view)
        await part(stack, cluster, "hams_services.pipeline", far, "pipeline")
        agent = cluster.agent_of_leaf if where == "leaf" else "agent-box"
        await part(stack, cluster, "hams_agents", near, agent, "--device", "openvino:CPU@0")
        group = group_file(tmp_path, "push", mode="lossless")

        async def deploy() -> None:  # what has just begun may answer late, or not be found
            command = await part(stack, cluster, "hams_services.ctl", near, "admin", "deploy", str(group))
            if await command.wait() in (DeadlineError.exit_code, NotFoundError.exit_code):
                raise DeadlineError("the store or the scheduler did not answer")
            assert command.returncode == 0

        await until_done(deploy)

        async def infer(url: str) -> float:
            async with hams_client.connect(url, credentials=cluster.secrets / "app.creds") as hams:
                return float((await hams.infer("grey", picture(7), deadline=5)).objects[0]["light"]["value"])

        for member in cluster.all():
            assert await until_done(partial(infer, member.url)) == pytest.approx(28, abs=1)
        link = next(member for member in cluster.members.values() if cluster.leaf.host in member.leaves())
        link.kill()
        survivors = [member for member in cluster.members.values() if member is not link]
        for member in (*survivors, cluster.leaf):
            assert await until_done(partial(infer, member.url)) == pytest.approx(28, abs=1)
        dashboard = await stack.enter_async_context(NatsBus(near, credentials=cluster.user("dashboard")))

        async def serving() -> None:
            if [group.state for group in (await Control(dashboard).view()).groups] != ["serving"]:
                raise NotFoundError("it does not serve yet")

        await until_done(serving)
        assert "Violation" not in cluster.log() + cluster.leaf.log()
