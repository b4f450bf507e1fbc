"""What hams-ctl prints of differences and versions, and how single keys of a group are changed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hams_services.ctl.actions.change import changed
from hams_services.ctl.actions.diff import lines, plain_changes
from hams_services.ctl.actions.versions import versions_table
from hams_services.models.group_text import group_text, hidden_in
from hams_shared.bus.deployments import Version
from hams_shared.errors import GroupSpecError
from hams_shared.group import strict_yaml
from hams_shared.group.difference import difference
from hams_shared.group.edit import edited
from hams_shared.group.spec import GroupSpec, parse_group
from hams_shared.wire import codec
from hams_shared.wire.messages.group import GroupRecord
from support.build import group_record, group_spec

LONG = [[round(i / 7, 6), round(i * i / 49, 6)] for i in range(7)]
OLD = group_spec("yard", streams={"gate": {"source": "push"}, "cam": {"source": "rtsp://u:geheim@cam/1"}})
NEW = group_spec(
    "yard",
    priority=3,
    nodes=("det", "age", "eyes"),
    streams={"cam": {"source": "rtsp://u:geheim@cam/2", "zones": {"a-zone-with-quite-a-long-name": LONG}}},
)


def found(old: GroupSpec = OLD, new: GroupSpec = NEW) -> Any:
    return difference(group_record(old), group_record(new))


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    printed = lines(found(), OLD, NEW, width)
    assert max(map(len, printed)) <= width
    text = "\n".join(printed)
    for part in ("nodes.eyes", "stream gate is closed", "rtsp://cam/1 → rtsp://cam/2", "priority  0 → 3"):
        assert part in text
    assert "geheim" not in text


def test_in_short_the_rest_is_counted() -> None:
    printed = lines(found(), OLD, NEW, 80, most=2)
    assert sum("→" in line for line in printed) < sum("→" in line for line in lines(found(), OLD, NEW, 80))
    assert "    and 1 key more" in printed


def test_programs_get_every_change_with_its_effect() -> None:
    plain = {one["path"]: one for one in plain_changes(found())}
    assert (plain["priority"]["old"], plain["priority"]["new"], plain["priority"]["effect"]) == (0, 3, "plan")
    assert plain["streams.cam.source"]["touches"] == "stream cam alone is opened anew"
    assert "geheim" not in str(plain)


@pytest.mark.parametrize("width", [80, 120])
def test_versions_name_who_when_and_what(width: int) -> None:
    records = [group_record(OLD), group_record(NEW), group_record(OLD)]
    numbered = [r.model_copy(update={"version": n, "by": "al@box"}) for n, r in enumerate(records, 1)]
    versions = [Version(one, None if one.version == 3 else 5.0) for one in reversed(numbered)]
    console = Console(file=io.StringIO(), width=width)
    console.print(versions_table("yard", versions))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    for part in ("3 (runs)", "as version 1 again", "the first", "al@box", "1970-01-01"):
        assert part in text
    console.print(versions_table("yard", versions[:1]))
    assert "the oldest that is kept" in console.file.getvalue()  # type: ignore[attr-defined]


class TestChanged:
    def test_files_are_those_of_the_folder(self, tmp_path: Path) -> None:
        new = changed(OLD, lambda data: edited(data, "streams.gate.source", "v.mp4"), tmp_path)
        assert new.streams["gate"].source == str(tmp_path / "v.mp4")
        assert new.streams["cam"] == OLD.streams["cam"]

    def test_nothing_else_changes(self, tmp_path: Path) -> None:
        assert changed(OLD, lambda data: data, tmp_path) == OLD

    def test_a_group_keeps_its_name(self, tmp_path: Path) -> None:
        with pytest.raises(GroupSpecError, match="a running group keeps its name"):
            changed(OLD, lambda data: edited(data, "name", "other"), tmp_path)

    def test_a_wrong_value_is_named_as_in_a_group_file(self, tmp_path: Path) -> None:
        with pytest.raises(GroupSpecError, match="group yard: nodes.age.parent"):
            changed(OLD, lambda data: edited(data, "nodes.age.parent", "nobody"), tmp_path)
        with pytest.raises(GroupSpecError, match=r"streams.gate.pause: unknown key .did you mean paused"):
            changed(OLD, lambda data: edited(data, "streams.gate.pause", True), tmp_path)


DESCRIBE = {"type": "describe", "prompt": "x"}


@pytest.mark.parametrize(
    "more",
    [{}, {"variants": True}, {"input": {"size": [64, 64], "color": "bgr"}}, {"cadence": {"seconds": 3}, "budget": 0.5}],
)
def test_what_a_person_gave_comes_back_though_the_task_implies_another(more: dict[str, Any]) -> None:
    root = {"model": "pypi:a", "input": {"size": [64, 64]}, "task": {"type": "yolo"}, "track": {}}
    text = {"model": "pypi:b", "input": {"size": [64, 64]}, "parent": "det", "task": DESCRIBE}
    spec = parse_group({"name": "g", "nodes": {"det": root, "text": {**text, **more}}})
    assert parse_group(strict_yaml.load(group_text(spec)).data) == spec
    record = group_record(spec)
    assert codec.decode(GroupRecord, codec.encode(record)) == record


def test_what_an_export_hides_is_named() -> None:
    node = {"input": {"size": [64, 64]}, "task": {"type": "raw"}, "sha256": "a" * 64}
    spec = parse_group(
        {
            "name": "g",
            "nodes": {
                "det": {**node, "model": "https://host/x.onnx?token=geheim"},
                "age": {**node, "model": "https://host/y.onnx", "parent": "det"},
                "text": {**node, "model": "pypi:a==1/b:c@d.onnx", "parent": "det"},
                "file": {**node, "model": "file:///models/z.onnx", "parent": "det"},
            },
            "streams": {"cam": {"source": "rtsp://u:geheim@h/1"}, "gate": {"source": "push"}},
        }
    )
    assert hidden_in(spec) == ["stream cam", "node det"]
    shown = group_text(spec)
    assert "geheim" not in shown
    for model in ("https://host/y.onnx", "pypi:a==1/b:c@d.onnx", "file:///models/z.onnx"):
        assert model in shown
    assert parse_group(strict_yaml.load(group_text(spec, secrets=True)).data) == spec
