"""Training: size, losses, when it stops, and that a killed run ends as one that was not.

A run is a process; those that are not killed here are run in the tests' own.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import openvino as ov
import pytest
from onnx import helper

from hams_services.optimizer.accuracy.evaluate import Candidate, Predictions
from hams_services.optimizer.accuracy.samples import NodeSamples
from hams_services.optimizer.distill import distillation
from hams_services.optimizer.distill.distillation import SIZES, Distill
from hams_services.optimizer.importing.convert import import_file
from hams_services.optimizer.sandbox.process import JOBS, JobProcess
from hams_services.optimizer.variant_builder import VariantBuilder
from hams_services.optimizer.variant_folder import VariantStore
from hams_shared.errors import BadInputError, HamsError, ModelError
from hams_shared.group.node_spec import NodeSpec
from hams_shared.runtime.child_limits import Limits
from hams_shared.wire.messages.optimizer import JobRecord
from support.networks import graph, write
from support.noise import noise

OLD_EXPORTER = "ignore::DeprecationWarning"
"""PyTorch's own, which training uses."""


class Timed:
    """An evaluator on which a student of 1 GFLOP makes `speed` images/s, and others as many as their size allows."""

    device = "a device"

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self.error: HamsError | None = None

    def decode(self, name: str, node: NodeSpec, candidates: list[Candidate], *_: Any, time_it: bool) -> Any:
        assert time_it
        return [Predictions([], fps=self.speed / float(candidates[0].path.read_text()), error=self.error)]


def sized(tmp_path: Path, evaluator: Timed, monkeypatch: pytest.MonkeyPatch) -> tuple[Distill, list[float]]:
    """Training whose smallest student has 0.001 GFLOPs; and the sizes that were asked for."""
    asked: list[float] = []

    def train(self: Distill, request: dict[str, Any], doing: str) -> dict[str, Any]:
        assert request["epochs"] == 0
        asked.append(request["gflops"])
        (tmp_path / "student.onnx").write_text(str(max(request["gflops"], 0.001)))
        return {"files": [str(tmp_path / "student.onnx")], "gflops": max(request["gflops"], 0.001)}

    monkeypatch.setattr(Distill, "_train", train)
    node = NodeSpec.model_validate({"model": "m.onnx", "input": {"size": [16, 16]}, "task": {"type": "embedding"}})
    builder: Any = SimpleNamespace(evaluator=lambda device: evaluator, devices={"openvino": "x"})
    return Distill("node", node, None, builder, tmp_path), asked  # type: ignore[arg-type]


@pytest.mark.parametrize("largest", [20.0, 9.0, 0.4, 0.0013, 0.001])
def test_the_search_for_a_size_ends_just_below_the_largest_that_is_fast_enough(
    tmp_path: Path, largest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = Timed(100.0 * largest)
    distill, asked = sized(tmp_path, evaluator, monkeypatch)
    samples = NodeSamples("node", distill.node, tmp_path, [], ["a.png"])

    def found(fps: float) -> float:
        return distill._gflops_for(JobRecord(id="j", kind="train", group="g", fps=fps), {}, samples)

    assert 0.8 * min(largest, SIZES[0]) <= found(100.0) <= largest
    assert len(asked) <= 8
    with pytest.raises(BadInputError, match=r"no student reaches .* on a device; the fastest reaches \d+"):
        found(200_000.0 * largest)
    evaluator.error = ModelError("it does not run")
    with pytest.raises(ModelError, match="it does not run"):
        found(100.0)
    with pytest.raises(BadInputError, match="neither a budget nor a speed"):
        found(0.0)


@pytest.mark.train
def test_losses_are_zero_for_the_truth_and_grow_with_the_error() -> None:
    import torch

    from hams_services.optimizer.distill.students import Student, Target

    for kind, truth, logits in (
        ("probabilities", [[0.9, 0.1], [0.2, 0.8]], np.log([[0.9, 0.1], [0.2, 0.8]])),
        ("numbers", [[1.0, 200.0], [2.0, 400.0]], [[1.0, 200.0], [2.0, 400.0]]),
        ("heat", [[[[0.9, 0.1]]], [[[0.2, 0.8]]]], np.log([[[[9, 1 / 9]]], [[[0.25, 4]]]])),
        ("numbers", [[[[1.0, 200.0]]], [[[2.0, 400.0]]]], [[[[1.0, 200.0]]], [[[2.0, 400.0]]]]),
    ):
        grid = (*np.shape(truth)[1:], 1, 1)[:3]
        target = Target("y", np.shape(truth)[1:], kind, grid)  # type: ignore[arg-type]
        student, values = Student(torch.nn.Identity(), [target]), torch.tensor(truth).reshape(-1, *target.grid)
        found = torch.tensor(np.asarray(logits), dtype=torch.float32).reshape(-1, *target.grid)
        student.calibrate(values, values)
        error = torch.tensor([0.0, 1.0]).reshape((2, 1, 1) if np.ndim(truth) == 2 else (1, 1, 2))
        assert float(student.loss(found, values)) == pytest.approx(0, abs=1e-6)
        near = float(student.loss(found + 0.1 * error, values))
        far = float(student.loss(found + 2.0 * error, values))
        assert 0 < near < far


@pytest.mark.train
def test_the_widest_student_within_the_budget() -> None:
    from hams_services.optimizer.distill.students import Target, fitting, gflops

    targets = [Target("y", (3, 1, 1), "probabilities", (3, 1, 1)), Target("z", (5,), "numbers", (5, 1, 1))]
    student, note = fitting((3, 64, 64), targets, 0.02)
    assert note == ""
    assert gflops(student, (3, 64, 64)) <= 0.02
    import torch

    outputs = student.eval()(torch.zeros(2, 3, 64, 64))
    assert [tuple(one.shape) for one in outputs] == [(2, 3, 1, 1), (2, 5)]
    assert outputs[0].sum(1).flatten().tolist() == pytest.approx([1, 1])
    wider, _ = fitting((3, 64, 64), targets, 0.2)
    assert 0.1 < gflops(wider, (3, 64, 64)) <= 0.2
    smallest, _ = fitting((3, 64, 64), targets, 1e-6)
    assert 1e-6 < gflops(smallest, (3, 64, 64)) < 0.01


@pytest.mark.train
@pytest.mark.filterwarnings(OLD_EXPORTER)
def test_a_budget_below_the_smallest_student_is_refused_but_its_speed_can_be_measured(tmp_path: Path) -> None:
    given = request(tmp_path, gflops=1e-6)
    with pytest.raises(BadInputError, match="smallest student needs"):
        trained(given)
    assert trained(given | {"epochs": 0})["gflops"] > 1e-6


def teacher(folder: Path) -> Path:
    """Says how bright the left half of an image is, and the right."""
    pool = helper.make_node("AveragePool", ["x"], ["p"], kernel_shape=[16, 8], strides=[16, 8])
    mean = helper.make_node("ReduceMean", ["p"], ["m"], axes=[1], keepdims=0)
    large = helper.make_node("Mul", ["m", "thousand"], ["l"])
    add = helper.make_node("Add", ["l", "offset"], ["y"])  # far from what a fresh network says
    constants = {"thousand": np.float32([1000]), "offset": np.float32([5000])}
    nodes = [pool, mean, large, add]
    return write(folder / "teacher.onnx", graph(nodes, constants=constants, outputs={"y": ["n", 1, 2]}, sides=(16, 16)))


def request(folder: Path, count: int = 20, epochs: int = 4, gflops: float = 0.002) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    np.save(folder / "tensors.npy", halves(count))
    given = {"teacher": str(teacher(folder)), "folder": str(folder)}
    return given | {"gflops": gflops, "rate": 0.005, "epochs": epochs}


def halves(count: int) -> np.ndarray:
    """Images of 16×16 whose quarters differ in brightness."""
    random = np.random.default_rng(0)
    images = np.repeat(np.repeat(random.normal(size=(count, 3, 2, 2)), 8, 2), 8, 3).astype(np.float32)
    return images + 0.1 * random.normal(size=images.shape).astype(np.float32)


def trained(given: dict[str, Any]) -> dict[str, Any]:
    """Run it in this process."""
    from hams_services.optimizer.distill.training import train_student

    return train_student(given, lambda text, done, total: None)


def trained_until(bar: float, given: dict[str, Any], off: Callable[[dict[str, Any]], float]) -> dict[str, Any]:
    """Train until the student is off by less than `bar`; how many epochs that takes depends on the processor."""
    for longer in (1, 2, 4):
        result = trained(given | {"epochs": longer * given["epochs"]})  # goes on after those before
        if (error := off(result)) < bar:
            return result
    pytest.fail(f"off by {error:.2f}, not below {bar}")


def in_child(given: dict[str, Any], *, kill_after: str = "") -> tuple[dict[str, Any], list[str]]:
    """Run it in a child process, which is killed once it has reported `kill_after`; the result and all progress."""
    lines: list[str] = []
    with JobProcess(Path(given["folder"]), Limits(memory_mib=0)) as child:

        def progress(text: str, done: int, total: int) -> None:
            lines.append(text)
            if kill_after and kill_after in text:
                assert child.pid is not None
                os.kill(child.pid, signal.SIGKILL)

        answer = child.run(JOBS["train"], {"request": given}, timeout=900, progress=progress)
    return answer, lines


def killed_after(text: str, given: dict[str, Any]) -> None:
    """Kill -9 a run once it has reported `text`."""
    with pytest.raises(ModelError, match="was killed"):
        in_child(given, kill_after=text)


@pytest.mark.train
@pytest.mark.filterwarnings(OLD_EXPORTER)
def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole = trained(request(tmp_path / "whole"))
    assert (whole["epochs"], whole["stopped"]) == (4, "epochs")

    given = request(tmp_path / "killed")
    killed_after("epoch 2", given)
    again, lines = in_child(given)
    begun = next(line for line in lines if "augment" not in line and "teacher" not in line)
    assert "goes on after epoch" in begun
    assert again["loss"] == whole["loss"]
    assert student_of(again).read_bytes() == student_of(whole).read_bytes()


@pytest.mark.train
def test_training_stops_where_the_loss_no_longer_falls_or_the_time_is_spent(tmp_path: Path) -> None:
    from hams_services.optimizer.distill.training import Training, TrainRequest

    training = Training(TrainRequest.model_validate(request(tmp_path, epochs=100)), lambda text, done, total: None)
    training.seconds = training.request.budget_s
    assert training.why() == ""  # one epoch is done whatever the budget
    training.plateau.step(0.1)
    assert training.why() == "budget"
    training.seconds, rate = 0.0, training.optimizer.param_groups[0]["lr"]
    while not training.why():
        training.plateau.step(2.0)
    assert training.why() == "patience"
    assert 15 < training.plateau.last_epoch < 50
    assert training.optimizer.param_groups[0]["lr"] < 0.1 * rate
    assert training.plateau.best == 0.1
    for _ in range(100):
        training.plateau.step(0.1)
    assert training.why() == "epochs"


@pytest.mark.train
@pytest.mark.filterwarnings(OLD_EXPORTER)
def test_numbers_are_learned_alike_in_both_formats(tmp_path: Path) -> None:
    """Both files say what the teacher says, for any batch."""
    images = halves(380)[300:]
    truth = 5000 + 1000 * np.stack([images[:, :, :, :8].mean((1, 2, 3)), images[:, :, :, 8:].mean((1, 2, 3))], 1)

    def outputs(result: dict[str, Any]) -> dict[str, np.ndarray]:
        onnx = onnxruntime.InferenceSession(student_of(result), providers=["CPUExecutionProvider"])
        values = onnx.run(None, {onnx.get_inputs()[0].name: images})
        return {port.name: one for port, one in zip(onnx.get_outputs(), values, strict=True)}

    result = trained_until(0.75, request(tmp_path, 120, 6), lambda found: off(outputs(found)["y"], truth))
    assert result["gflops"] <= 0.002
    said = outputs(result)
    assert list(said) == ["y"]
    ir = ov.Core().compile_model(as_ir(result), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    same = np.concatenate([ir([image[None]])[0] for image in images]).reshape(len(images), -1)
    assert np.abs(said["y"].reshape(same.shape) - same).max() < 1


def off(found: np.ndarray, truth: np.ndarray) -> float:
    """How far numbers are off; 1: as far as their mean, all that one that learned nothing may know."""
    return float(np.abs(found.reshape(truth.shape) - truth).mean() / np.abs(truth - truth.mean(0)).mean())


def student_of(result: dict[str, Any]) -> Path:
    return Path(result["files"][0])


def as_ir(result: dict[str, Any]) -> str:
    """The student as OpenVINO IR, made as the optimizer makes it."""
    file = student_of(result)
    path: str = import_file(str(file), str(file.parent / "ir"))["files"]["openvino"][0]
    return path


def detector(folder: Path) -> Path:
    """Says for each place, at a quarter of the size, whether something bright is there, and how red that is.

    One output's name is a number, as old exporters made them.
    """
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["grey"], axes=[1], keepdims=1),
        helper.make_node("AveragePool", ["grey"], ["near"], kernel_shape=[8, 8], strides=[4, 4], pads=[2, 2, 2, 2]),
        helper.make_node("Sub", ["near", "half"], ["above"]),
        helper.make_node("Mul", ["above", "steep"], ["sure"]),
        helper.make_node("Sigmoid", ["sure"], ["heat"]),
        helper.make_node("AveragePool", ["x"], ["colours"], kernel_shape=[8, 8], strides=[4, 4], pads=[2, 2, 2, 2]),
        helper.make_node("Slice", ["colours", "first", "second", "axis"], ["red"]),
        helper.make_node("Mul", ["red", "thousand"], ["538"]),
    ]
    constants = {
        "half": np.float32([0.8]),
        "steep": np.float32([16]),
        "first": np.array([0]),
        "second": np.array([1]),
        "axis": np.array([1]),
        "thousand": np.float32([1000]),
    }
    outputs: dict[str, list[int | str] | None] = {"heat": ["n", 1, 16, 16], "538": ["n", 1, 16, 16]}
    return write(folder / "detector.onnx", graph(nodes, constants=constants, outputs=outputs, sides=(64, 64)))


def squares(count: int) -> np.ndarray:
    """Dark noise with one bright square each, some redder than others."""
    random = np.random.default_rng(1)
    images = 0.1 * random.normal(size=(count, 3, 64, 64)).astype(np.float32)
    for image in images:
        side, red = random.integers(12, 24), random.uniform(0, 1)
        y, x = random.integers(0, 64 - side, 2)
        image[:, y : y + side, x : x + side] += np.float32([0.6 + red, 1.3 - red / 2, 1.3 - red / 2])[:, None, None]
    return images


def detections(origin: str, result: dict[str, Any], unseen: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Heat and redness as the teacher says them and as the student does, the same in both its formats."""
    teacher = onnxruntime.InferenceSession(origin, providers=["CPUExecutionProvider"])
    student = onnxruntime.InferenceSession(student_of(result), providers=["CPUExecutionProvider"])
    said = teacher.run(["heat", "538"], {"x": unseen}), student.run(["heat", "538"], {"input": unseen})
    ir = ov.Core().compile_model(as_ir(result), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert np.abs(ir([unseen[:1]])["heat"] - said[1][0][:1]).max() < 1e-3
    return said


@pytest.mark.train
@pytest.mark.filterwarnings(OLD_EXPORTER)
def test_maps_of_a_detector_are_learned_where_they_are_hot(tmp_path: Path) -> None:
    images = squares(100)
    np.save(tmp_path / "tensors.npy", images[:60])
    given = {
        "teacher": str(detector(tmp_path)),
        "folder": str(tmp_path),
        "gflops": 0.002,
        "rate": 0.005,
        "epochs": 12,
    }

    def wrong(result: dict[str, Any]) -> float:
        """How far it is off in what is redder, where it finds most of what is hot."""
        (heat, red), (hot, reddish) = detections(given["teacher"], result, images[60:])
        right, sure = hot > 0.5, heat > 0.5
        overlap = (right & sure).sum() / max(1, (right | sure).sum())
        return off(reddish[sure], red[sure]) if overlap > 0.7 else np.inf

    assert trained_until(0.75, given, wrong)["gflops"] <= 0.002


def convolutional(folder: Path) -> Path:
    """As :func:`detector`, of convolutions only, on images of 128×128."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["near"], kernel_shape=[8, 8], strides=[4, 4], pads=[2, 2, 2, 2]),
        helper.make_node("Conv", ["near", "sure", "half"], ["above"], kernel_shape=[1, 1]),
        helper.make_node("Sigmoid", ["above"], ["heat"]),
        helper.make_node("Conv", ["near", "thousand"], ["538"], kernel_shape=[1, 1]),
    ]
    mean = np.full((8, 8), 1 / 64, np.float32)
    constants = {
        "w": np.stack([np.stack([mean / 3] * 3), np.stack([mean, 0 * mean, 0 * mean])]),
        "sure": np.float32([[16, 0]])[:, :, None, None],
        "half": np.float32([-12.8]),
        "thousand": np.float32([[0, 1000]])[:, :, None, None],
    }
    outputs: dict[str, list[int | str] | None] = {"heat": ["n", 1, 32, 32], "538": ["n", 1, 32, 32]}
    return write(folder / "detector.onnx", graph(nodes, constants=constants, outputs=outputs, sides=(128, 128)))


@pytest.mark.train
@pytest.mark.filterwarnings(OLD_EXPORTER)
def test_a_detector_on_a_smaller_image_goes_on_after_a_kill(tmp_path: Path) -> None:
    images = np.repeat(np.repeat(squares(140), 2, 2), 2, 3)
    np.save(tmp_path / "tensors.npy", images[:120])
    origin = str(convolutional(tmp_path))
    given = {
        "teacher": origin,
        "origin": origin,
        "folder": str(tmp_path),
        "gflops": 0.0005,
        "epochs": 8,
    }
    killed_after("epoch 2", given)
    result, _ = in_child(given)
    (tmp_path / "whole").mkdir()
    np.save(tmp_path / "whole" / "tensors.npy", images[:120])
    whole = trained(given | {"folder": str(tmp_path / "whole")})
    assert student_of(result).read_bytes() == student_of(whole).read_bytes()
    assert (result["kind"], result["note"]) == ("the network itself, on 96×96", "")
    assert (result["epochs"], result["stopped"]) == (8, "epochs")
    assert result["gflops"] <= 0.0005

    unseen = images[120:]
    (heat, red), (hot, reddish) = detections(origin, result, unseen)
    right, sure = hot > 0.5, heat > 0.5
    assert (right & sure).sum() / (right | sure).sum() > 0.85
    assert np.abs(reddish - red)[sure].mean() < 0.25 * red[sure].std()


@pytest.mark.train
def test_what_cannot_begin_as_the_network_says_why_and_begins_anew(tmp_path: Path) -> None:
    from hams_services.optimizer.distill.students import Target, fitting

    targets = [Target("heat", (1, 32, 32), "heat", (1, 32, 32))]
    scatter = helper.make_node("NonZero", ["x"], ["heat"])
    unknown = write(tmp_path / "unknown.onnx", graph([scatter], outputs={"heat": ["n", 1, 32, 32]}, sides=(128, 128)))
    bound = helper.make_node("Reshape", ["x", "rows"], ["heat"])
    old = graph([bound], constants={"rows": np.array([-1, 1, 32, 32])}, outputs={"heat": None}, sides=(128, 128))
    for origin, why in (
        (unknown, "does not start as the network: ."),
        (write(tmp_path / "old.onnx", old), "no smaller maps"),
        (convolutional(tmp_path), "outputs of its ONNX file differ"),
    ):
        wanted = targets if "differ" not in why else [replace(targets[0], name="heat of it")]
        student, note = fitting((3, 128, 128), wanted, 0.05, origin)
        assert student.kind == "inverted residuals"
        assert re.search(why, note), note


@pytest.mark.train
def test_smaller_sizes_keep_the_shape() -> None:
    from hams_services.optimizer.distill.students import smaller_sizes

    found = smaller_sizes((480, 640))
    assert found[-1] == (448, 608)
    assert (288, 384) in found
    assert all(h % 32 == w % 32 == 0 and 0.55 < h / w < 0.95 for h, w in found)
    assert [h * w for h, w in found] == sorted({h * w for h, w in found})
    assert smaller_sizes((64, 64)) == []


@pytest.mark.train
@pytest.mark.filterwarnings(OLD_EXPORTER)
def test_images_with_channels_last_are_learned_too(tmp_path: Path) -> None:
    turn = helper.make_node("Transpose", ["x"], ["planes"], perm=[0, 3, 1, 2])
    mean = helper.make_node("ReduceMean", ["planes"], ["y"], axes=[2, 3], keepdims=0)
    network = graph([turn, mean], outputs={"y": ["n", 3]}, sides=(16, 16))
    dims = network.input[0].type.tensor_type.shape.dim
    dims[1].dim_value, dims[3].dim_value = 16, 3
    given = request(tmp_path, 100, 8)
    np.save(tmp_path / "tensors.npy", halves(100).transpose(0, 2, 3, 1))
    given |= {"teacher": str(write(tmp_path / "last.onnx", network)), "layout": "nhwc"}
    images = halves(130)[100:].transpose(0, 2, 3, 1)

    def wrong(result: dict[str, Any]) -> float:
        session = onnxruntime.InferenceSession(student_of(result), providers=["CPUExecutionProvider"])
        return off(session.run(["y"], {"input": images})[0], images.mean((1, 2)))

    trained_until(0.8, given, wrong)


@pytest.mark.train
def test_a_list_of_boxes_cannot_be_learned(tmp_path: Path) -> None:
    node = helper.make_node("Reshape", ["x", "rows"], ["boxes"])
    boxes = graph(
        [node], constants={"rows": np.array([-1, 1536, 8])}, outputs={"boxes": ["n", 1536, 8]}, sides=(64, 64)
    )
    np.save(tmp_path / "tensors.npy", squares(24))
    given = {
        "teacher": str(write(tmp_path / "boxes.onnx", boxes)),
        "folder": str(tmp_path),
        "gflops": 0.01,
        "epochs": 1,
    }
    with pytest.raises(BadInputError, match="is no map of the image"):
        trained(given)


@pytest.mark.train
def test_what_cannot_be_learned_is_named(tmp_path: Path) -> None:
    given = request(tmp_path)
    np.save(tmp_path / "tensors.npy", halves(5))
    with pytest.raises(BadInputError, match="5 samples are too few"):
        in_child(given)


@pytest.mark.train
def test_a_student_is_as_large_as_the_wanted_speed_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At one image a second that is the largest; it is stored in both formats and compared."""
    monkeypatch.setattr(distillation, "SIZES", [0.2, 0.1, 0.05])  # each that is timed is made in a process
    spec = {"model": "teacher.onnx", "input": {"size": [16, 16]}, "task": {"type": "embedding"}}
    node = NodeSpec.model_validate(spec)
    frames, file = noise(tmp_path / "frames", 36), teacher(tmp_path)
    wanted = JobRecord(id="job", kind="train", group="g", node="say", fps=1.0, epochs=1, budget_s=60.0)
    with JobProcess(tmp_path / "job") as job:
        builder = VariantBuilder(VariantStore(tmp_path / "store"), job)
        source = builder.import_file(file, "say").variants["openvino"]
        distill = Distill("say", node, source, builder, tmp_path / "run", bf16=False)
        records, result = distill.run(frames, wanted)
        assert {record.made.format for record in records} == {"openvino", "onnx"}
        assert all(record.made.form == "student" and record.agreements for record in records)
        assert result["gflops"] > 0.05
        assert not list(distill.folder.rglob("*.npy"))  # no pictures stay


def test_labels_for_images_that_are_held_out_only(tmp_path: Path) -> None:
    spec = {"model": "teacher.onnx", "input": {"size": [16, 16]}, "task": {"type": "regression"}}
    frames = noise(tmp_path / "frames", 30)
    (frames / "labels.json").write_text('{"29.png": {"value": 1}}')
    node = NodeSpec.model_validate(spec)
    distill = Distill("say", node, None, None, tmp_path / "run")  # type: ignore[arg-type]
    job = JobRecord(id="job", kind="train", group="g", node="say", labels=str(frames))
    with pytest.raises(BadInputError, match="has no label for the first two thirds of the images"):
        distill._request(NodeSamples.of("say", node, frames, 1000), job)
    assert distill.folder.stat().st_mode & 0o077 == 0
