"""Nodes and group files that are written for inspected networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hams_services.models.groups import load_group
from hams_services.models.inspect import Inspection
from hams_services.models.manifest import names_of
from hams_services.models.new_group import check_head, group_text, new_node, stream_lines
from hams_services.models.node_text import name_of
from hams_shared.errors import BadInputError

INPUT = {"size": [64, 64], "color": "rgb"}


def fit(kind: str, detects: bool = False, stand_ins: dict[str, str] | None = None, **params: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "params": params,
        "reason": "",
        "stand_ins": stand_ins or {},
        "detects": detects,
        "input": INPUT,
        "stated": [],
        "guessed": ["a family"],
    }


def network(*fits: dict[str, Any], zoo: str = "", alike: str = "") -> Inspection:
    facts = {"inputs": [{"name": "ids", "shape": [1, 8], "dtype": "int64"}], "image": "ids" if fits else None}
    return Inspection(Path("net.onnx"), {"model": "net.onnx"}, facts, [], [], list(fits), "", zoo, alike)


YOLO = fit("yolo", True, version="v8", labels=["cat", "dog"])


def written(folder: Path, *nodes: Any, stream: str | None = None) -> Any:
    path = folder / "group.yaml"
    for node in nodes:
        for name, lines in node.files.items():
            (folder / name).write_text("\n".join(lines))
    path.write_text(group_text("own", nodes, stream_lines(stream, "video"), ["hams-ctl deploy group.yaml"]))
    return load_group(path)


@pytest.mark.parametrize(
    ("one", "name"),
    [
        (YOLO, "object"),
        (fit("yolo", True, version="v8", labels=["Hard Hat"]), "hard-hat"),
        (fit("classification", labels=["a", "b"]), "class"),
        (fit("embedding"), "who"),
        (fit("detection_output", True, labels={1: "object"}), "object"),
        (fit("zero_shot", labels=["a"]), "zero_shot"),
    ],
)
def test_a_node_gets_a_name(tmp_path: Path, one: dict[str, Any], name: str) -> None:
    node = new_node(network(one))
    assert node.name == name
    assert written(tmp_path, node).nodes[name].task.type == one["type"]


def test_long_lists_go_to_a_file(tmp_path: Path) -> None:
    labels = [f"class{i}" for i in range(1000)]
    node = new_node(network(fit("classification", labels=labels)), prefix="own-")
    assert list(node.files) == ["own-class-labels.txt"]
    assert written(tmp_path, node).nodes["class"].task.params["labels"] == labels


def test_a_child_and_a_stream(tmp_path: Path) -> None:
    root = new_node(network(YOLO))
    child = new_node(network(fit("landmarks", points=5)), parent=root.name)
    spec = written(tmp_path, root, child, stream="a: b #c.mp4")
    assert spec.nodes["landmarks"].parent == "object"
    assert spec.nodes["landmarks"].crop.square
    assert Path(spec.streams["video"].source).name == "a: b #c.mp4"
    assert spec.streams["video"].loop


@pytest.mark.parametrize("source", ["camera:0", "rtsp://user:secret@door.example/1", "push"])
def test_cameras_do_not_loop(tmp_path: Path, source: str) -> None:
    spec = written(tmp_path, new_node(network(YOLO)), stream=source)
    assert spec.streams["video"].source == source
    assert not spec.streams["video"].loop


def test_further_inputs_are_named() -> None:
    """Whoever deploys it says what feeds them."""
    found = network(YOLO)
    found.facts["inputs"].append({"name": "orig_target_sizes", "shape": [1, 2], "dtype": "int64"})
    assert "orig_target_sizes" in new_node(found).remarks["input"][0]


def test_labels_replace_stand_ins() -> None:
    stood = fit("yolo", True, {"labels": "they stand in"}, version="v8", labels=["class0", "class1"])
    node = new_node(network(stood), labels=["cat", "dog"])
    assert node.node["task"]["labels"] == ["cat", "dog"]
    assert not node.remarks["task"]
    listed = new_node(network(fit("detection_output", True, labels={0: "class0"})), labels=["car", "plate"])
    assert listed.node["task"]["labels"] == {1: "car", 2: "plate"}


@pytest.mark.parametrize(
    ("of", "options", "text"),
    [
        ((YOLO,), {"labels": ["a"]}, "1 lines, and the network has 2 classes"),
        ((YOLO,), {"labels": ["a", "a"]}, "a label is there twice"),
        ((fit("embedding"),), {"labels": ["a"]}, "task embedding has no labels"),
        ((YOLO, fit("raw")), {"task": "ssd"}, "task ssd does not fit .*these do: yolo, raw"),
        ((), {}, "takes no image: its inputs are ids"),
    ],
)
def test_what_does_not_fit_is_named(of: tuple[Any, ...], options: dict[str, Any], text: str) -> None:
    with pytest.raises(BadInputError, match=text):
        new_node(network(*of), **options)


def test_a_file_of_the_zoo_gets_the_zoos_node(tmp_path: Path) -> None:
    node = new_node(network(fit("centerface", True), zoo="centerface"))
    spec = written(tmp_path, node)
    assert spec.nodes["face"].input.size == (640, 480)
    assert not node.guessed


def test_a_network_of_a_name_of_the_zoo_keeps_its_own_layout() -> None:
    """The zoo's has N×H×W×C."""
    name = "vehicle-license-plate-detection-barrier-0106"
    listed = fit("detection_output", True, labels={0: "class0"}) | {"input": {"size": [300, 300], "color": "bgr"}}
    node = new_node(network(listed, alike=name))
    assert list(node.node["task"]["labels"].values()) == ["vehicle", "plate"]
    assert "layout" not in node.node["input"]
    assert node.guessed
    other = fit("detection_output", True, labels={0: "class0"})  # of another size: only the name is the same
    assert new_node(network(other, alike=name)).node["task"]["labels"] == {0: "class0"}


@pytest.mark.parametrize(
    ("text", "name"), [("YOLO11n (1)", "yolo11n-1"), ("0106", "network"), ("détecteur", "d-tecteur"), ("", "network")]
)
def test_names_are_names_in_a_group_file(text: str, name: str) -> None:
    assert name_of(text) == name


AGES = "age-gender-recognition-retail-0013"


@pytest.mark.parametrize(
    ("head", "task"),
    [
        ("age", {"type": "regression", "scale": 100}),
        ("gender", {"type": "classification", "labels": ["female", "male"]}),
    ],
)
def test_the_head_that_was_named_is_the_nodes(tmp_path: Path, head: str, task: dict[str, Any]) -> None:
    """By its digest a file is the network with all of its heads."""
    likeliest = fit("classification", labels=["class0", "class1"], output="prob")
    found = replace(network(likeliest, zoo=AGES), source={"model": f"zoo:{AGES}/{head}@FP32"})
    root = new_node(network(YOLO))
    node = new_node(found, parent=root.name)
    assert (node.node["model"], node.guessed) == (f"zoo:{AGES}/{head}@FP32", False)
    read = written(tmp_path, root, node).nodes[node.name]
    assert read.task.model_dump().items() >= task.items()
    assert read.outputs == (("fc3_a",) if head == "age" else ("prob",))


def test_several_heads_without_a_name_are_refused() -> None:
    check_head("net.onnx", None)
    check_head("zoo:centerface", None)
    check_head(f"zoo:{AGES}/age", None)
    check_head(f"zoo:{AGES}", "raw")
    with pytest.raises(BadInputError, match="several heads"):
        check_head(f"zoo:{AGES}", None)
    assert names_of(f"{AGES}@FP32") == [f"zoo:{AGES}/age@FP32", f"zoo:{AGES}/gender@FP32"]
    assert names_of("centerface") == ["zoo:centerface"]
