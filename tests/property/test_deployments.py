"""Whoever changes a group, from whatever they read before, killed at whatever write: its history holds no lie."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hams_shared.bus.deployments import KEPT, Deployments, Running
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.errors import ConflictError, NotFoundError
from hams_shared.wire.messages.group import GroupRecord
from support.build import group_record, group_spec

NAME = "yard"


class Killed(Exception):  # noqa: N818
    """The deployer is killed."""


class Dying:
    """A bus whose client is killed at its `left`-th write: before the broker has it, or after."""

    def __init__(self, bus: InMemoryBus, left: int, before: bool) -> None:
        self._bus, self.left, self._before = bus, left, before

    async def kv(self, bucket: str) -> Any:
        kv, dying = await self._bus.kv(bucket), self

        class Bucket:
            def __getattr__(self, key: str) -> Any:
                found = getattr(kv, key)
                return dying.writing(found) if key in ("put", "create", "update", "delete") else found

        return Bucket()

    def writing(self, write: Any) -> Any:
        async def wrapped(*args: Any) -> Any:
            self.left -= 1
            if self.left == 0 and self._before:
                raise Killed
            done = await write(*args)
            if self.left == 0:
                raise Killed
            return done

        return wrapped


OPS = st.tuples(
    st.sampled_from(["deploy", "deploy", "deploy", "undeploy"]),
    st.booleans(),  # from what runs, or from what was read before the last change
    st.integers(1, 6),  # the write at which it is killed
    st.sampled_from(["lives", "lives", "before", "after"]),
)


async def history(ops: list[tuple[str, bool, int, str]]) -> None:
    async with InMemoryBus() as bus:
        store = Deployments(bus)
        ever: list[GroupRecord] = []
        stale = Running(NAME)
        for number, (kind, fresh, at, fate) in enumerate(ops):
            base = await store.running(NAME)
            stale, used = base, base if fresh else stale
            client = Deployments(bus if fate == "lives" else Dying(bus, at, fate == "before"))  # type: ignore[arg-type]
            now = float(number)
            try:
                if kind == "deploy":
                    new = group_record(group_spec(NAME, priority=number % 100), deployed_at=now)
                    assert (await client.write(new, used, "al@box", now)).spec == new.spec
                else:
                    await client.remove(used, now)
                assert used == base, "a change from what was read before another one was made"
            except (ConflictError, Killed) as error:
                assert isinstance(error, Killed) or used != base
            after = (await store.running(NAME)).record
            if after is not None and after not in ever:
                assert after.version > max((one.version for one in ever), default=0)
                ever.append(after)
            await check(store, ever, after)


async def check(store: Deployments, ever: list[GroupRecord], running: GroupRecord | None) -> None:
    try:
        shown = await store.versions(NAME)
    except NotFoundError:
        assert not ever
        return
    numbers = [one.number for one in shown]
    assert numbers == sorted(set(numbers), reverse=True)
    assert len(shown) <= KEPT + 2  # one more where the last deployer was killed before it has deleted it
    assert all(one.record in ever for one in shown)
    assert [one.record for one in shown if one.ended_at is None] == ([running] if running else [])
    newest = [one.version for one in ever[-KEPT:]]
    assert set(newest) <= set(numbers)


@settings(max_examples=max(50, settings().max_examples // 2))
@given(st.lists(OPS, max_size=14))
def test_its_history_holds_no_lie(ops: list[tuple[str, bool, int, str]]) -> None:
    asyncio.run(history(ops))
