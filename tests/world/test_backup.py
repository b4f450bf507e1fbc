"""A box is lost with all it held; another begins empty, and serves again from its backup."""

from __future__ import annotations

from pathlib import Path

import pytest

from hams_services.ctl.system.backup import back_up, read, restore
from hams_shared.errors import BadInputError, RefusedError
from hams_shared.wire.messages.group import GroupRecord
from support.world.stub import StubDevice
from support.world.system import System, light, values

SPEED = {"brightness": 20.0, "brightness +300": 50.0}


def nothing(_what: str, _done: int, _total: int) -> None: ...


def box(world: System) -> None:
    """All parts of a box."""
    world.scheduler()
    world.pipeline()
    world.agent("sim", StubDevice(fps=SPEED))


@pytest.fixture
async def saved(world: System, tmp_path: Path) -> tuple[Path, GroupRecord]:
    """A backup of a box that is lost by now, and the group that it served."""
    (tmp_path / "first").mkdir()
    path = tmp_path / "hams.tar"
    async with System(tmp_path / "first", world.clock) as lost:
        box(lost)
        record = await lost.deploy(light())
        await lost.add_variant(record, "brightness +300", 0.99)
        assert str(await back_up(lost.bus, path, False, nothing)) == "1 group, 1 variant, 2 model files"
    return path, record


async def served(world: System, name: str = "grey") -> float:
    """Wait until a group serves; return what its network adds to the brightness."""
    results = await world.listen(name)
    world.play(name, count=5)
    await world.until(lambda: len(results.received) == 5)
    return values(results.received)[0]


async def test_another_box_serves_from_the_backup(world: System, saved: tuple[Path, GroupRecord]) -> None:
    path, record = saved
    box(world)
    assert not (await world.view()).groups
    assert await restore(world.bus, read(path), False, False, nothing) == []
    assert await served(world) == pytest.approx(300, abs=0.5)  # the variant came along
    assert (await world.group()).deployed_at == record.deployed_at


async def test_of_a_damaged_backup_nothing_is_used(world: System, saved: tuple[Path, GroupRecord]) -> None:
    path, _ = saved
    path.write_bytes(path.read_bytes()[:5000])
    box(world)
    with pytest.raises(BadInputError, match=r"hams\.tar is damaged"):
        await restore(world.bus, read(path), False, False, nothing)
    await world.later(3)
    assert not (await world.view()).groups


async def test_a_group_deployed_meanwhile_needs_replace(world: System, saved: tuple[Path, GroupRecord]) -> None:
    path, record = saved
    box(world)
    other = await world.deploy(light(node={"model": "brightness +300", "min_agreement": 1.0}))
    with pytest.raises(RefusedError, match="--replace"):
        await restore(world.bus, read(path), False, False, nothing)
    [kept] = await restore(world.bus, read(path), True, False, nothing)
    assert kept.startswith("group grey")
    await world.later(5)
    assert (await world.group()).active.group == other
    await restore(world.bus, read(path), False, True, nothing)
    await world.until(lambda: _active(world, record), every=0.1)
    assert await served(world) == pytest.approx(300, abs=0.5)


async def _active(world: System, record: GroupRecord) -> bool:
    group = await world.group()
    as_saved = {"version": record.version, "by": record.by}  # what was replaced is a version of the group, too
    active = group.active
    return group.state == "serving" and active is not None and active.group.model_copy(update=as_saved) == record


async def test_groups_that_are_not_in_the_backup_go_on(world: System, saved: tuple[Path, GroupRecord]) -> None:
    path, _ = saved
    box(world)
    await world.deploy(light(name="other"))
    results = await world.listen("other")
    world.play("other", fps=5)
    await world.until(lambda: len(results.received) >= 5)
    await restore(world.bus, read(path), False, False, nothing)
    assert await served(world) == pytest.approx(300, abs=0.5)
    seen = len(results.received)
    await world.until(lambda: len(results.received) >= seen + 10)
    results.check()
