"""The audit: who changed what is kept, in order, and nobody takes anything out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nats
import pytest

from hams_services.ctl.system.audit_file import deliver, tell, waiting_file
from hams_services.ctl.system.broker import MAX_PAYLOAD, Broker
from hams_services.security.folder import set_up_site
from hams_shared.bus.audit import Audit, Audited, audit_journal, stored
from hams_shared.bus.control import Control
from hams_shared.bus.jobs import cancel, submit
from hams_shared.bus.nats.client import NatsBus
from hams_shared.bus.protocol import Bus
from hams_shared.errors import NotFoundError
from hams_shared.runtime.credentials import load
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.agents import DeviceHealth
from hams_shared.wire.messages.optimizer import JobRecord
from support.nats_server import NatsServer


async def told(bus: Bus, since_s: float = 3600.0, what: str = "*") -> list[Audited]:
    return [one async for one in stored(bus, since_s, what)]


async def test_changes_by_control_and_jobs_are_told_with_who_made_them(connect: Any, name: str) -> None:
    async with connect() as bus:
        control = Control(bus, "anna@hams-web")
        groups = await bus.kv(subjects.bucket("groups"))
        await groups.put(name, b"a record")
        health = await bus.kv(subjects.bucket("health"))
        await health.put(
            f"box.openvino.{name}", codec.encode(DeviceHealth(device=f"box.openvino.{name}", reason="hung"))
        )
        await control.undeploy(name)
        await control.resume(f"box.openvino.{name}")
        job = JobRecord(id=name[:6], kind="optimize", group=name, created_at=1.0)
        await submit(bus, job, "anna@hams-web")
        await cancel(bus, job.id, 2.0, "bob@box")
        found = [one for one in await told(bus) if one.entry.target in (name, f"box.openvino.{name}", job.id)]
        assert [(one.what, one.user, one.entry.actor, one.entry.text) for one in found] == [
            ("undeploy", "local", "anna@hams-web", "undeployed"),
            ("resume", "local", "anna@hams-web", "quarantine ended"),
            ("job", "local", "anna@hams-web", f"optimize {name} submitted"),
            ("job", "local", "bob@box", f"optimize {name} cancelled"),
        ]
        assert [one.entry.target for one in await told(bus, what="resume")][-1] == f"box.openvino.{name}"


async def test_what_fails_is_not_told(connect: Any, name: str) -> None:
    async with connect() as bus:
        with pytest.raises(NotFoundError):
            await Control(bus).undeploy(name)
        assert not [one for one in await told(bus) if one.entry.target == name]


async def test_more_changes_than_a_page_are_read_in_order(connect: Any, name: str) -> None:
    async with connect() as bus:
        for number in range(150):
            await Audit(bus, "anna").tell("set", name, str(number))
        found = [one.entry.text for one in await told(bus, what="set") if one.entry.target == name]
        assert found == [str(number) for number in range(150)]


async def test_a_damaged_entry_hides_no_other(connect: Any, name: str) -> None:
    async with connect() as bus:
        journal = await audit_journal(bus)
        await journal.publish(subjects.audit("token", "local"), b"\xc1", name)
        await Audit(bus, "anna").tell("token", name, "added")
        assert [one.entry.text for one in await told(bus, what="token") if one.entry.target == name] == ["added"]


async def test_what_was_changed_without_a_broker_is_told_later_and_once(
    connect: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAMS_HOME", str(tmp_path))
    tell("token", name, "app token added for all groups")
    waiting = waiting_file().read_text()
    async with connect() as bus:
        assert await deliver(bus) == 1
        assert await deliver(bus) == 0
        waiting_file().write_text("damaged\n" + waiting)  # as if it was ended before it took the line out
        assert await deliver(bus) == 2
        assert len([one for one in await told(bus, what="token") if one.entry.target == name]) == 1


@pytest.mark.parametrize("verb", ["PURGE", "MSG.DELETE"])
async def test_the_stream_is_append_only_also_without_users(nats_server: NatsServer, name: str, verb: str) -> None:
    async with NatsBus(nats_server.url) as bus:
        await Audit(bus, "anna").tell("deploy", name, "deployed")
        raw = await nats.connect(nats_server.url)
        answer = await raw.request(f"$JS.API.STREAM.{verb}.{subjects.AUDIT}", b'{"seq": 1}', timeout=60)
        await raw.close()
        assert b'"error"' in answer.data
        assert name in {one.entry.target for one in await told(bus)}


async def test_the_broker_proves_the_user_and_lets_no_role_forge_or_remove(tmp_path: Path) -> None:
    site = tmp_path / "site"
    set_up_site(site, [], ["box"], max_payload=MAX_PAYLOAD)
    async with (
        Broker(tmp_path / "store", secrets=site) as broker,
        NatsBus(broker.url, credentials=load(site / "admin.creds")) as admin,
    ):
        await Audit(admin, "anna@box").tell("deploy", "face", "deployed")
        for role in ("app", "dashboard", "scheduler", "pipeline", "optimizer", "agent-box"):
            async with NatsBus(broker.url, credentials=load(site / f"{role}.creds")) as bus:
                await bus.publish("hams.v1.audit.deploy.admin", codec.encode((await told(admin))[0].entry))
                await bus.flush()
        for verb in ("DELETE", "PURGE", "UPDATE"):
            await admin.publish(f"$JS.API.STREAM.{verb}.{subjects.AUDIT}", b"{}")
        await admin.flush()
        assert [(one.user, one.entry.actor, one.entry.target) for one in await told(admin)] == [
            ("admin", "anna@box", "face")
        ]
