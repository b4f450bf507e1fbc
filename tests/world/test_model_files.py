"""Model files that nothing needs are deleted after an hour; those that something needs stay."""

from __future__ import annotations

from hams_scheduler.model_keeper import LOOK_S
from hams_shared.bus.model_prune import prune, stored
from hams_shared.group.spec import GroupSpec
from hams_shared.wire import subjects
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.model_garbage import GRACE_S
from support.world.stub import StubDevice
from support.world.system import System, light, model


async def test_files_that_no_record_names_are_deleted_after_an_hour(world: System) -> None:
    world.scheduler()  # and nothing else, so that hours cost little
    kept, gone = model("brightness"), model("boxes")
    store = await world.bus.objects(subjects.MODEL_STORE)
    for group, (ref, data) in {"kept": kept, "gone": gone}.items():
        await store.put(ref.digest, data)
        spec = GroupSpec.model_validate(light(name=group))
        await world.control.deploy(GroupRecord(spec=spec, models={"light": ref}, deployed_at=1.0))
    both = await store.sizes()
    await store.put("f" * 64, b"of a record that is gone")
    await world.control.undeploy("gone")  # its versions are kept
    all_of_them = await store.sizes()
    await world.later(GRACE_S - LOOK_S)
    assert await store.sizes() == all_of_them
    await world.later(3 * LOOK_S)
    assert await store.sizes() == both


async def test_a_person_deletes_them_at_once_but_never_one_that_is_needed(world: System) -> None:
    world.scheduler()
    world.pipeline()
    world.agent("sim", StubDevice(fps=100))
    await world.deploy(light())
    store = await world.bus.objects(subjects.MODEL_STORE)
    await store.put("f" * 64, b"left over")
    found = await stored(world.bus)
    assert list(found.unused) == ["f" * 64]
    assert await prune(world.bus, found.sizes) == ["f" * 64]
    assert len(await store.sizes()) == 1
