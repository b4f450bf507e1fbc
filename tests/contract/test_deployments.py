"""Groups as people change them: of two who change one at once one wins; what ran before is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hams_shared.bus.control import Control
from hams_shared.bus.deployments import KEPT, UNDEPLOYED_S, Deployments, Running
from hams_shared.bus.model_prune import stored
from hams_shared.bus.protocol import Bus, KeyValue
from hams_shared.errors import BrokerError, ConflictError, NotFoundError, RefusedError
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.group import GroupRecord, VersionRecord
from support.build import group_record, group_spec, model_ref

NOW = 1_000_000.0


@pytest.fixture
async def bus(connect: Any) -> AsyncIterator[Bus]:
    async with connect() as bus:
        yield bus


def record(name: str, priority: int = 0) -> GroupRecord:
    return group_record(group_spec(name, priority=priority), deployed_at=NOW + priority)


async def history(bus: Bus) -> KeyValue:
    return await bus.kv(subjects.bucket(subjects.VERSIONS))


async def deploy(bus: Bus, name: str, priority: int, now: float = NOW) -> GroupRecord:
    store = Deployments(bus)
    return await store.write(record(name, priority), await store.running(name), "al@box", now)


async def test_versions_count_up_and_the_last_are_kept(bus: Bus, name: str) -> None:
    for priority in range(KEPT + 3):
        written = await deploy(bus, name, priority, NOW + priority)
        assert (written.version, written.by) == (priority + 1, "al@box")
    versions = await Deployments(bus).versions(name)
    assert [one.number for one in versions] == list(range(KEPT + 3, 2, -1))
    assert [one.record.spec.priority for one in versions] == list(range(KEPT + 2, 1, -1))
    assert [one.ended_at for one in versions[:2]] == [None, NOW + KEPT + 2]
    keys = {key for key in await (await history(bus)).entries() if key.startswith(f"{name}.")}
    assert len(keys) == KEPT


async def test_of_two_who_deploy_at_once_one_wins(bus: Bus, name: str) -> None:
    store = Deployments(bus)
    for _ in range(3):  # a new group, then one that runs
        base = await store.running(name)
        tries = (store.write(record(name, n), base, f"p{n}@box", NOW) for n in range(1, 4))
        done = await asyncio.gather(*tries, return_exceptions=True)
        won = [one for one in done if isinstance(one, GroupRecord)]
        lost = [one for one in done if isinstance(one, ConflictError)]
        assert (len(won), len(lost)) == (1, 2)
        assert (await store.running(name)).record == won[0]
        for error in lost:
            assert f"version {won[0].version} runs now" in error.text
            assert won[0].by in error.text
            assert "hams-ctl diff" in error.hint
    assert [one.number for one in await store.versions(name)] == [3, 2, 1]


async def test_what_was_read_before_someone_elses_change_is_not_written(bus: Bus, name: str) -> None:
    store, old = Deployments(bus), await Deployments(bus).running(name)
    await deploy(bus, name, 1)
    with pytest.raises(ConflictError, match="changed by al@box"):
        await store.write(record(name, 2), old, "b@box", NOW)
    base = await store.running(name)
    await store.remove(base, NOW)
    with pytest.raises(ConflictError, match="was undeployed meanwhile"):
        await store.write(record(name, 2), base, "b@box", NOW)
    with pytest.raises(ConflictError):
        await store.remove(base, NOW)


async def test_an_answer_that_was_lost_is_no_conflict(bus: Bus, name: str) -> None:
    class Twice:
        """The broker stores a value, and its client, without an answer, sends it again."""

        def __init__(self, kv: KeyValue) -> None:
            self._kv = kv

        def __getattr__(self, key: str) -> Any:
            return getattr(self._kv, key)

        async def create(self, key: str, value: bytes) -> int:
            await self._kv.create(key, value)
            return await self._kv.create(key, value)

    store = Deployments(bus)
    groups = await store._groups()

    async def twice() -> KeyValue:
        return Twice(groups)  # type: ignore[return-value]

    store._groups = twice  # type: ignore[method-assign]
    written = await store.write(record(name), Running(name), "al@box", NOW)
    assert (await store.running(name)).record == written


async def test_a_crash_between_the_two_writes_leaves_no_lie(bus: Bus, name: str) -> None:
    await deploy(bus, name, 1)
    running = (await Deployments(bus).running(name)).record
    assert running is not None
    kept = codec.encode(VersionRecord(record=running, ended_at=NOW + 5))
    await (await history(bus)).put(f"{name}.1", kept)  # and now the deployer is killed
    versions = await Deployments(bus).versions(name)
    assert [(one.number, one.ended_at) for one in versions] == [(1, None)]
    await deploy(bus, name, 2, NOW + 9)
    versions = await Deployments(bus).versions(name)
    assert [(one.number, one.ended_at) for one in versions] == [(2, None), (1, NOW + 9)]


async def test_the_history_of_an_undeployed_group_is_kept_for_a_while(bus: Bus, name: str) -> None:
    store = Deployments(bus)
    for priority in (1, 2):
        await deploy(bus, name, priority)
    await store.remove(await store.running(name), NOW + 10)
    assert [one.ended_at for one in await store.versions(name)] == [NOW + 10, NOW]
    assert (await deploy(bus, name, 3)).version == 3  # numbers go on
    await store.remove(await store.running(name), NOW + 20)
    await deploy(bus, f"{name}o", 1, NOW + UNDEPLOYED_S)
    assert len(await store.versions(name)) == 3
    await deploy(bus, f"{name}o", 2, NOW + 21 + UNDEPLOYED_S)
    with pytest.raises(NotFoundError, match="no version of it is kept"):
        await store.versions(name)
    assert len(await store.versions(f"{name}o")) == 2  # old, but it runs


async def test_networks_of_kept_versions_are_in_use(bus: Bus, name: str) -> None:
    store = Deployments(bus)
    for node in ("one", "two"):
        one = group_record(group_spec(name, nodes=(f"{name}{node}",)))
        await store.write(one, await store.running(name), "al@box", NOW)
    await store.remove(await store.running(name), NOW)
    assert {model_ref(f"{name}{node}").digest for node in ("one", "two")} <= (await stored(bus)).referenced


async def test_a_record_that_cannot_be_read_is_replaced(bus: Bus, name: str) -> None:
    groups = await bus.kv(subjects.bucket("groups"))
    await groups.put(name, b"\xc1")
    try:
        assert (await deploy(bus, name, 1)).version == 1
    finally:
        await groups.delete(name)


async def test_a_record_of_an_earlier_hams_becomes_version_0(bus: Bus, name: str) -> None:
    old = codec.unpack(codec.encode(record(name)))
    for key in ("version", "by"):
        del old[key]
    await (await bus.kv(subjects.bucket("groups"))).put(name, codec.pack(old))
    await deploy(bus, name, 1)
    assert [one.number for one in await Deployments(bus).versions(name)] == [1, 0]


class TestRollback:
    @pytest.fixture
    async def control(self, bus: Bus, name: str) -> Control:
        control = Control(bus, "al@box")
        for priority in (1, 2, 3):
            await control.deploy(record(name, priority))
        return control

    async def store_models(self, bus: Bus, name: str) -> None:
        store = await bus.objects(subjects.MODEL_STORE)
        for ref in record(name).models.values():
            await store.put(ref.digest, b"x")

    async def test_it_is_a_new_version(self, control: Control, bus: Bus, name: str) -> None:
        await self.store_models(bus, name)
        written = await control.rollback(await control.running(name))
        assert (written.version, written.spec.priority) == (4, 2)
        assert written.deployed_at != record(name, 2).deployed_at
        written = await control.rollback(await control.running(name), 1)
        assert (written.version, written.spec.priority) == (5, 1)
        assert [one.number for one in await control.deployments.versions(name)] == [5, 4, 3, 2, 1]

    async def test_an_undeployed_group_is_deployed_again(self, control: Control, bus: Bus, name: str) -> None:
        await self.store_models(bus, name)
        await control.undeploy(name)
        written = await control.rollback(await control.running(name))
        assert (written.version, written.spec.priority) == (4, 3)

    async def test_what_cannot_be_rolled_back_to_is_named(self, control: Control, bus: Bus, name: str) -> None:
        with pytest.raises(RefusedError, match="version 3 of group .* runs already"):
            await control.rollback(await control.running(name), 3)
        with pytest.raises(NotFoundError, match=r"no version 9 of .* is kept \(kept: 3, 2, 1;"):
            await control.rollback(await control.running(name), 9)
        await self.store_models(bus, name)
        store = await bus.objects(subjects.MODEL_STORE)
        await store.delete(record(name).models["age"].digest)
        with pytest.raises(BrokerError, match="the network age of node age is no longer stored"):
            await control.rollback(await control.running(name))
        with pytest.raises(NotFoundError, match="no group absent"):
            await control.rollback(Running("absent"))
