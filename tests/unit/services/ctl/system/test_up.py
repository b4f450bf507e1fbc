"""How `hams-ctl up` keeps its parts: which devices count as its own, and how often a part is started again."""

from __future__ import annotations

from pathlib import Path

import pytest

from hams_services.ctl.system.up import (
    SystemOptions,
    agent_names,
    check_children,
    check_gateway,
    fresh,
    incarnations,
    part,
    system,
)
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.memory.server import MemoryServer
from hams_shared.errors import BadInputError, DeviceSpecError
from hams_shared.runtime.supervise import Supervisor
from hams_shared.wire import codec
from hams_shared.wire.messages.scheduler import DeviceView
from support.build import device
from support.wait import until


def test_a_part_that_keeps_failing_is_started_again_without_end() -> None:
    policy = part("x", "x", "nats://127.0.0.1:1", Path("logs"), credentials=None).policy
    assert policy is not None
    pauses = [policy.record_exit(float(second)) for second in range(1000)]
    assert None not in pauses
    assert max(pause or 0.0 for pause in pauses) == 10.0


async def test_a_part_that_does_not_start_is_named(tmp_path: Path) -> None:
    spec = part("agent", "hams_no_such_module", "nats://127.0.0.1:1", tmp_path, credentials=None)
    async with Supervisor() as supervisor:
        child = await supervisor.start(spec)
        await until(lambda: child.restarts > 1, 30)
        with pytest.raises(DeviceSpecError, match="agent does not start: .*hams_no_such_module"):
            check_children(supervisor, tmp_path)


async def test_only_new_agents_of_this_box_count() -> None:
    mine, other, old = device("box1.ov.cpu0"), device("box2.ov.cpu0"), device("box1.ov.gpu")
    before = {"i0"}
    views = [
        DeviceView(record=mine, state="alive"),
        DeviceView(record=other, state="alive"),
        DeviceView(record=old.model_copy(update={"incarnation": "i0"}), state="alive"),
        DeviceView(record=device("box1.ov.npu"), state="lost"),
        DeviceView(record=device("box11.ov.cpu0"), state="alive"),
    ]
    assert fresh(views, "box1", before) == ("box1.ov.cpu0",)
    async with InMemoryBus(MemoryServer()) as bus:
        records = await bus.kv("devices")
        for record in (mine, other):
            await records.put(record.device, codec.encode(record))
        await records.put("box1.ov.damaged", b"x")
        assert await incarnations(records, "box1") == {"i1"}


def test_equal_names_of_agents_are_numbered() -> None:
    devices = ["openvino:CPU@0", "emulated:a/x.yaml", "emulated:b/x.yaml", "emulated:c/x.yaml"]
    assert list(agent_names(devices).values()) == [
        "agent-openvino-CPU@0",
        "agent-x-yaml",
        "agent-x-yaml-2",
        "agent-x-yaml-3",
    ]


async def test_credentials_that_its_broker_does_not_take_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAMS_HOME", str(tmp_path))
    monkeypatch.setenv("HAMS_CREDENTIALS", str(tmp_path / "admin.creds"))
    with pytest.raises(BadInputError, match="HAMS_CREDENTIALS is set.*without --secrets"):
        async with system(SystemOptions(["openvino:CPU"], port=0)):
            pass


def test_the_last_port_has_no_next_one_for_grpc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAMS_HOME", str(tmp_path))
    with pytest.raises(BadInputError, match="no next port"):
        check_gateway("127.0.0.1:65535")
