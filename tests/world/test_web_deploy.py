"""The page's deploy view on a whole system in this process: checks, dry run, deploy, uploads, jobs, roles."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

from hams_services.models.prepare import bring_in
from hams_services.models.uploads import uploads
from hams_services.web import api_deploy
from hams_services.web.options import WebOptions
from hams_shared.bus.audit import stored as audited
from hams_shared.bus.control import Control
from hams_shared.bus.jobs import jobs
from hams_shared.group.spec import group_of
from hams_shared.wire.subjects import MODEL_STORE
from support.web import Client, page
from support.world.stub import StubDevice
from support.world.system import System, light

VIEWER = WebOptions(credentials=True, public_view=True)
TEXT = (
    "name: g\nnodes:\n  n: {model: uploaded:tiny, input: {size: [8, 8]}, task: {type: raw}}\n"
    "streams: {s: {source: push}}\n"
)
LIGHT = (
    "name: g\nnodes:\n  n: {model: light.tflite, input: {size: [8, 8]}, task: {type: regression}}\n"
    "streams: {s: {source: push}}\n"
)


def tiny() -> bytes:
    """A network that adds one."""
    one = numpy_helper.from_array(np.ones((1,), np.float32), "one")
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 3, 8, 8]) for n in ("image", "out")]
    graph = helper.make_graph([helper.make_node("Add", ["image", "one"], ["out"])], "tiny", ends[:1], ends[1:], [one])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


async def send(client: Client, *files: tuple[str, bytes], **more: Any) -> httpx.Response:
    headers = {"X-CSRF-Token": await client.token(), **more}
    return await client.http.post("/api/uploads", files=[("file", one) for one in files], headers=headers)


async def told(client: Client, path: str, text: str, **more: Any) -> list[dict[str, Any]]:
    """All lines of an answer with progress."""
    answer = await client.post(path, {"text": text, **more})
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines() if line]


async def test_mistakes_have_line_and_column_and_what_is_right_has_none(world: System) -> None:
    async with page(world.bus) as client:
        wrong = (await client.post("/api/validate", {"text": TEXT.replace("size", "sice")})).json()
        assert (wrong["ok"], wrong["code"]) == (False, "bad-group")
        assert (3, 37, "nodes.n.input.sice") in [(f["line"], f["column"], f["path"]) for f in wrong["findings"]]
        right = (await client.post("/api/validate", {"text": TEXT})).json()
        assert (right["ok"], right["name"], right["streams"]) == (True, "g", {"s": "push"})
        for text in ("", "a: [", "\0", "&a [*a]", "name: !!python/object:os.system x"):
            found = (await client.post("/api/validate", {"text": text})).json()
            assert not found["ok"], text
        assert (await client.post("/api/validate", {"text": "x" * (5 << 20)})).status_code == 413
        assert (await client.post("/api/validate", {"txt": ""})).json()["code"] == "bad-input"


async def test_the_schema_describes_group_files(world: System) -> None:
    async with page(world.bus) as client:
        schema = (await client.get("/api/schema")).json()
        assert "GroupSpec" in schema["$defs"] or "Group" in schema["$defs"]
        first = (await client.get("/api/deploy")).json()
        for example in first["examples"][:1]:
            assert (await client.post("/api/validate", {"text": example["text"]})).json()["ok"]


async def test_viewers_look_and_change_nothing(world: System) -> None:
    async with page(world.bus, VIEWER, client="10.1.2.3") as client:
        assert (await client.get("/api/deploy")).status_code == 200
        assert (await client.get("/api/schema")).status_code == 200
        assert (await client.post("/api/validate", {"text": TEXT})).json()["ok"]
        for method, path in [
            ("POST", "deploy"), ("POST", "dry-run"), ("POST", "still"), ("POST", "uploads"), ("POST", "nco/jobs"),
            ("DELETE", "groups/g"), ("DELETE", "uploads/x"), ("DELETE", "nco/jobs/x"),
        ]:  # fmt: skip
            answer = await client.post(f"/api/{path}", {"text": TEXT}, method=method)
            assert (answer.status_code, answer.json()["code"]) == (403, "refused"), path


async def test_without_the_token_nothing_is_changed(world: System) -> None:
    async with page(world.bus) as client:
        for method, path in [("POST", "deploy"), ("POST", "uploads"), ("DELETE", "groups/g"), ("POST", "nco/jobs")]:
            assert (await client.http.request(method, f"/api/{path}", json={"text": TEXT})).status_code == 403


async def test_an_uploaded_network_is_stored_under_its_digest(world: System) -> None:
    async with page(world.bus) as client:
        stored = (await send(client, ("Tiny.onnx", tiny()))).json()
        assert (stored["source"], stored["inputs"]) == ("uploaded:tiny", {"image": "[?,3,8,8]"})
        assert stored["digest"] in world.server.stores[MODEL_STORE]
        assert [one["name"] for one in (await client.get("/api/deploy")).json()["uploads"]] == ["tiny"]
        record = await bring_in(world.control, group_of(TEXT, "g", Path), lambda *_: None)
        assert record.models["n"].name == "tiny"
        assert (await client.post("/api/uploads/tiny", method="DELETE")).status_code == 200
        failed = (await told(client, "/api/deploy", TEXT))[-1]["error"]
        assert failed["code"] == "not-found"


async def test_a_group_is_planned_deployed_read_again_and_undeployed(world: System, tmp_path: Path) -> None:
    await world.box(sim=StubDevice(fps=100))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "light.tflite").write_text("brightness")
    async with page(world.bus, WebOptions(files=(tmp_path / "models",))) as client:
        lines = await told(client, "/api/dry-run", LIGHT)
        assert {one["strategy"] for one in lines[-1]["done"]["answers"]} >= {"hfs", "optimal"}, lines[-1]
        assert all(one["fps"] > 50 for one in lines[-1]["done"]["answers"])
        assert (await world.view()).groups == ()
        lines = await told(client, "/api/deploy", LIGHT)
        assert lines[-1]["done"]["name"] == "g", lines[-1]
        assert any(line.get("step", "").startswith("import") for line in lines)
        assert (await client.get("/api/deploy")).json()["groups"] == ["g"]
    async with page(world.bus) as client:  # this one may not read the file: the broker has the network
        shown = (await client.get("/api/groups/g")).json()["text"]
        assert str(tmp_path / "models" / "light.tflite") in shown
        again = (await told(client, "/api/deploy", shown))[-1]
        assert (again["done"]["name"], again["done"]["version"], again["done"]["changed"]) == ("g", 1, False), again
        assert (await client.post("/api/groups/g", method="DELETE")).status_code == 200
        assert (await client.post("/api/groups/g", method="DELETE")).status_code == 404
        assert (await client.post("/api/groups/..%2fx", method="DELETE")).status_code in (400, 404)
        changes = [(one.what, one.entry.target, one.entry.actor) async for one in audited(world.bus, 3600.0)]
        assert changes == [(what, "g", "local@hams-web") for what in ("deploy", "undeploy")]


async def test_what_someone_else_changed_meanwhile_is_not_overwritten(world: System, tmp_path: Path) -> None:
    await world.box(sim=StubDevice(fps=100))
    (tmp_path / "light.tflite").write_text("brightness")
    async with page(world.bus, WebOptions(files=(tmp_path,))) as client:
        text = LIGHT.replace("models/", "")
        assert (await told(client, "/api/deploy", text, version=None))[-1]["done"]["version"] == 1
        opened = (await client.get("/api/groups/g")).json()
        base = await world.control.running("g")
        assert base.record is not None
        other = base.record.spec.model_copy(update={"priority": 7})
        await Control(world.bus, "eve@box").deploy(
            base.record.model_copy(update={"spec": other, "deployed_at": 1.0}), base
        )
        lost = (await told(client, "/api/deploy", opened["text"], version=opened["version"]))[-1]["error"]
        assert (lost["code"], "changed by eve@box" in lost["text"]) == ("conflict", True), lost
        assert lost["hint"].startswith("open the group here again")
        opened = (await client.get("/api/groups/g")).json()
        changed = opened["text"].replace("priority: 7", "priority: 8")
        won = (await told(client, "/api/deploy", changed, version=opened["version"]))[-1]["done"]
        assert (won["version"], won["changed"]) == (3, True)


async def test_what_cannot_be_placed_has_a_reason(world: System, tmp_path: Path) -> None:
    await world.box(sim=StubDevice(fps=100))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "light.tflite").write_text("brightness")
    async with page(world.bus, WebOptions(files=(tmp_path / "models",))) as client:
        pinned = LIGHT.replace("task:", "pin: [other.cpu.0], task:")
        answers = (await told(client, "/api/dry-run", pinned))[-1]["done"]["answers"]
        assert answers[0]["error"]["text"]


async def test_an_error_of_the_scheduler_in_a_dry_run_keeps_its_name(
    world: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.box(sim=StubDevice(fps=100))
    (tmp_path / "light.tflite").write_text("brightness")
    monkeypatch.setattr(api_deploy, "PLAN_S", 0.0)
    async with page(world.bus, WebOptions(files=(tmp_path,))) as client:
        error = (await told(client, "/api/dry-run", LIGHT.replace("models/", "")))[-1]["error"]
        assert error["code"] == "deadline", error


async def test_a_network_of_two_files_comes_in_one_form(world: System, tmp_path: Path) -> None:
    ir = openvino.Core().read_model(tiny(), b"")
    openvino.save_model(ir, tmp_path / "two.xml")
    files = [(f"two.{kind}", (tmp_path / f"two.{kind}").read_bytes()) for kind in ("xml", "bin")]
    async with page(world.bus) as client:
        stored = (await send(client, *files)).json()
        assert stored["name"] == "two", stored
        assert (await send(client, files[0], ("two.bin", b""))).json()["code"] == "bad-model"


def zipped() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", b"\0" * (8 << 20))
    return data.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("cut.onnx", tiny()[:60], "bad-model"),
        ("empty.onnx", b"", "bad-model"),
        ("noise.tflite", b"\x1c\0\0\0TFL3" + bytes(range(256)), "bad-model"),
        ("bomb.onnx", zipped(), "bad-model"),
        ("net.zip", zipped(), "bad-input"),
        ("../../etc/cron.d/x.onnx", tiny(), "bad-input"),
        ("..\\x.onnx", tiny(), "bad-input"),
        ("x.py", b"print()", "bad-input"),
        ("alone.xml", b"<net/>", "bad-model"),
        ("alone.bin", b"0", "bad-input"),
        ("-.onnx", tiny(), "bad-input"),
    ],
)
async def test_hostile_uploads_get_a_named_error(world: System, name: str, data: bytes, said: str) -> None:
    async with page(world.bus) as client:
        answer = await send(client, (name, data))
        assert (answer.status_code >= 400, answer.json()["code"]) == (True, said), answer.text
        assert answer.json()["text"]


async def test_weights_in_other_files_are_not_read(world: System, tmp_path: Path) -> None:
    model = onnx.load_from_string(tiny())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")
    async with page(world.bus) as client:
        answer = await send(client, ("outside.onnx", model.SerializeToString()))
        assert answer.json()["code"] == "bad-model", answer.text


async def test_weights_in_another_file_come_with_it(world: System, tmp_path: Path) -> None:
    onnx.save(onnx.load_from_string(tiny()), tmp_path / "t.onnx", save_as_external_data=True, location="t.onnx.data",
              size_threshold=0)  # fmt: skip
    main, weights = (tmp_path / "t.onnx").read_bytes(), (tmp_path / "t.onnx.data").read_bytes()
    async with page(world.bus) as client:
        alone = await send(client, ("t.onnx", main))
        assert "t.onnx.data, which is not there" in alone.json()["text"]
        kept = await send(client, ("t.onnx", main), ("t.onnx.data", weights))
        assert kept.status_code == 200, kept.text
        assert kept.json()["size"] > len(weights)
        record = (await uploads(world.bus))["t"]
        assert [part.suffix for part in record.ref.parts] == [".onnx"]
        bad = await send(client, ("t.onnx", main), ("..%2f.data", weights))
        assert bad.json()["code"] == "bad-input"


async def test_uploads_have_a_limit_and_a_form(world: System) -> None:
    async with page(world.bus, WebOptions(upload_mib=1)) as client:
        assert (await send(client, ("big.onnx", b"0" * (2 << 20)))).status_code == 413
        assert (await client.post("/api/uploads", {"a": 1})).json()["code"] == "bad-input"
        two = await send(client, ("a.onnx", tiny()), ("b.onnx", tiny()))
        assert two.json()["code"] in ("bad-input",), two.text
        three = await send(client, ("a.xml", b"1"), ("a.bin", b"1"), ("b.bin", b"1"))
        assert three.json()["code"] == "bad-input"


async def test_group_files_of_the_page_read_no_other_files(world: System, tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    async with page(world.bus, WebOptions(files=(tmp_path / "media",))) as client:
        for text in (TEXT.replace("uploaded:tiny", "/etc/passwd"), TEXT.replace("push", "/etc/passwd")):
            assert "may use" in (await client.post("/api/validate", {"text": text})).json()["text"]
            assert (await told(client, "/api/deploy", text))[-1]["error"]["code"] == "bad-group"
            refused = await client.post("/api/still", {"text": text, "stream": "s"})
            assert refused.json()["code"] == "bad-group"


async def test_jobs_are_begun_listed_and_cancelled(world: System) -> None:
    await world.box(sim=StubDevice(fps=100))
    async with page(world.bus) as client:
        job = {"kind": "optimize", "group": "g", "budget_s": 60}
        assert (await client.post("/api/nco/jobs", job)).status_code == 404
        await world.deploy(light(name="g"))
        begun = (await client.post("/api/nco/jobs", job)).json()
        assert [one["id"] for one in (await client.get("/api/nco/jobs")).json()["jobs"]] == [begun["id"]]
        for wrong in ({**job, "samples": "/etc"}, {**job, "kind": "rm"}, {**job, "budget_s": 1e9}):
            assert (await client.post("/api/nco/jobs", wrong)).json()["code"] == "bad-input"
        ended = await client.post(f"/api/nco/jobs/{begun['id']}", method="DELETE")
        assert ended.json()["state"] == "cancelled"
        assert (await client.post(f"/api/nco/jobs/{begun['id']}", method="DELETE")).status_code == 403
        assert (await client.post("/api/nco/jobs/..", method="DELETE")).status_code in (404, 405)
        assert [one.state for one in await jobs(world.bus)] == ["cancelled"]
