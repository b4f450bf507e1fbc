"""From a file to variants with measured agreement: real tools, small networks, real processes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import openvino as ov
import pytest
from onnx import helper

from hams_services.optimizer.accuracy.evaluate import Candidate, Evaluator
from hams_services.optimizer.accuracy.samples import NodeSamples
from hams_services.optimizer.passes.downscale_input import DownscaleInput
from hams_services.optimizer.passes.drop_outputs.drop_outputs_pass import SAME, DropOutputs
from hams_services.optimizer.passes.filter_pruning.filter_pruning_pass import FilterPruning
from hams_services.optimizer.passes.precision.precision_pass import convert
from hams_services.optimizer.passes.quantization.int8_pass import SCOPES, Int8, Scope
from hams_services.optimizer.passes.trial import Start, TrialContext
from hams_services.optimizer.sandbox.process import JobProcess
from hams_services.optimizer.variant_builder import VariantBuilder
from hams_services.optimizer.variant_folder import VariantStore
from hams_shared.errors import BadInputError, DigestError, UnsupportedModelError
from hams_shared.group.node_spec import NodeSpec, Precision
from hams_shared.group.spec import parse_group
from hams_shared.wire.variants import RuntimeFormat, VariantRecord, shortfall, task_key
from support.hostile import convolutions
from support.networks import graph, write

SIZE = 16
NODE = NodeSpec.model_validate(
    {
        "model": "net.onnx",
        "input": {"size": [SIZE, SIZE], "color": "rgb", "mean": [120, 110, 100], "scale": [60]},
        "task": {"type": "classification", "labels": ["a", "b", "c", "d"], "activation": "none"},
    }
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """24 pictures of coloured noise."""
    place = tmp_path / "samples"
    place.mkdir()
    random = np.random.default_rng(0)
    for index in range(24):
        tint = random.integers(0, 200, 3)
        cv2.imwrite(str(place / f"{index:03d}.png"), (random.integers(0, 56, (SIZE, SIZE, 3)) + tint).astype(np.uint8))
    return place


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobProcess]:
    with JobProcess(tmp_path_factory.mktemp("job")) as process:
        yield process


@pytest.fixture
def builder(tmp_path: Path, job: JobProcess) -> VariantBuilder:
    return VariantBuilder(VariantStore(tmp_path / "store"), job)


def of(folder: Path, node: NodeSpec = NODE) -> NodeSamples:
    return NodeSamples.of("net", node, folder)


def quantized(
    builder: VariantBuilder,
    base: VariantRecord,
    samples: NodeSamples,
    floor: float,
    scopes: tuple[Scope, ...] = SCOPES,
    budget_s: float = 300.0,
) -> VariantRecord:
    [made] = Int8(scopes).apply(builder, Start(base), samples, floor=floor, budget_s=budget_s)
    return made


def agreement(record: VariantRecord) -> float:
    return record.agreements[task_key(NODE)].value


def test_variants_agree_with_their_source(builder: VariantBuilder, tmp_path: Path, folder: Path) -> None:
    imported = builder.import_file(convolutions(tmp_path), "net")
    ir, graph = imported.variants["openvino"], imported.variants["onnx"]
    assert {ir.made.batch, graph.made.batch} == {"dynamic"}
    half = convert(builder, ir, "fp16")
    short = convert(builder, ir, "bf16", batch="static")
    assert half.model.parts[1].size < 0.6 * ir.model.parts[1].size
    assert (short.made.batch, short.label) == ("static", "openvino bf16")
    assert ov.Core().read_model(builder.store.path(short)).get_rt_info(["hams", "precision"]).value == "bf16"
    embedded = [convert(builder, one, "fp32", embed=NODE.input) for one in (ir, graph)]
    assert all(one.made.input is not None and one.made.input.dtype == "u8" for one in embedded)
    measured = builder.measure(ir, [ir, graph, half, *embedded], of(folder))
    assert [agreement(one) for one in measured] == [1.0] * 5
    assert measured[0].agreements[task_key(NODE)].samples == 8
    assert shortfall(measured[0], NODE, 0.98) == ""
    assert shortfall(short, NODE, 0.98) == "openvino bf16 was not compared with its source"
    with pytest.raises(UnsupportedModelError, match="bf16"):
        convert(builder, graph, "bf16")


def test_the_calibration_set_is_made_once(builder: VariantBuilder, tmp_path: Path, folder: Path) -> None:
    """Searches copy their context, with another deadline or another network of the same input."""
    base = builder.import_file(convolutions(tmp_path), "net").variants["onnx"]
    context = TrialContext(builder, Start(base), of(folder), base, 0.9, 0.0, tmp_path)
    made = replace(context, deadline=1.0).calibration
    written = made[0].stat()
    assert replace(context, deadline=2.0).calibration == made
    assert (made[0].stat().st_ino, made[0].stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)


def test_no_trial_begins_after_the_budget(builder: VariantBuilder, tmp_path: Path, folder: Path) -> None:
    """The first scope takes longer than the budget, so the second one is not tried."""
    base = builder.import_file(convolutions(tmp_path), "net").variants["onnx"]
    texts: list[str] = []
    builder.progress = lambda text, *_: texts.append(text)
    quantized(builder, base, of(folder), floor=0.0, budget_s=0.01)
    assert len([text for text in texts if "layers kept" in text]) == 1


FORMATS = [pytest.param("openvino", marks=pytest.mark.nco), "onnx"]


def as_tensors(folder: Path, format: str, out: Path) -> Path:
    """The pictures as NODE's network takes them."""
    names = sorted(path.name for path in folder.glob("*.png"))
    Evaluator(f"{'onnxruntime' if format == 'onnx' else 'openvino'}:CPU").tensors(NODE, folder, names, out)
    return out


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_bytes_in_another_process(tmp_path: Path, folder: Path, format: RuntimeFormat) -> None:
    """The same source, samples and tools, in another folder."""
    tensors = str(as_tensors(folder, format, tmp_path / "tensors.npy"))
    made = []
    for name in ("one", "two"):
        with JobProcess(tmp_path / name / "job") as job:
            maker = VariantBuilder(VariantStore(tmp_path / name / "store"), job)
            base = maker.import_file(convolutions(tmp_path / name), "net").variants[format]
            plain = [base, *(convert(maker, base, one) for one in PLAIN[format])]
            files = [str(maker.store.path(one)) for one in plain]
            for scope in TRIED_SCOPES[format]:
                out = str(job.folder / scope)
                arguments = {"source": files[0], "out": out, "tensors": tensors, "scope": scope}
                files += maker.run(f"{QUANTISERS[format]}:quantize", arguments)["files"]
            made.append([Path(file).read_bytes() for file in files])
    assert made[0] == made[1]
    assert len(set(made[0])) == len(made[0])


QUANTISERS = {
    format: f"hams_services.optimizer.passes.quantization.{module}"
    for format, module in {"openvino": "nncf_ir", "onnx": "qdq"}.items()
}
PLAIN: dict[str, tuple[Precision, ...]] = {"openvino": ("fp16", "bf16"), "onnx": ()}
TRIED_SCOPES: dict[str, tuple[Scope, ...]] = {"openvino": ("all", "layers"), "onnx": ("layers",)}


@pytest.mark.parametrize("format", FORMATS)
def test_int8_records_how_it_was_made(
    builder: VariantBuilder, tmp_path: Path, folder: Path, format: RuntimeFormat
) -> None:
    base = builder.import_file(convolutions(tmp_path), "net").variants[format]
    plain = quantized(builder, base, of(folder), 0.0, ("layers",))
    assert plain.made.settings["scope"] == "layers"
    assert plain.made.calibration is not None
    assert plain.made.calibration.samples == 16
    assert (plain.made.precision, plain.made.kept, plain.made.batch) == ("int8", (), "dynamic")
    assert agreement(plain) > 0.8
    if format == "openvino":
        assert convert(builder, plain, "bf16").label == "openvino int8+bf16"
    with pytest.raises(BadInputError, match="no source of fp16"):
        convert(builder, plain, "fp16")


@pytest.mark.parametrize("format", FORMATS)
def test_layers_are_kept_until_the_floor(
    builder: VariantBuilder, tmp_path: Path, folder: Path, format: RuntimeFormat
) -> None:
    """A floor that INT8 cannot reach by itself: more and more layers stay, and what is said was measured."""
    reported: list[str] = []
    builder.progress = reported.append  # type: ignore[assignment]
    base = builder.import_file(convolutions(tmp_path), "net").variants[format]
    # Regression on a probability: an agreement of exactly 1 needs all layers in higher precision.
    node = NODE.model_copy(update={"task": NODE.task.model_validate({"type": "regression"})})
    best = quantized(builder, base, of(folder, node), 1.0, budget_s=600.0)
    tried = [re.search(r"(all|layers), (\d+) layers kept, agreement ([\d.]+)", line) for line in reported]
    values = [(found[1], int(found[2]), float(found[3])) for found in tried if found]
    assert [value[:2] for value in values[:2]] == [("all", 0), ("layers", 0)]
    better = max(values[:2], key=lambda value: value[2])
    assert better[2] < 1.0
    assert {value[0] for value in values[2:]} == {better[0]}  # what agrees better is made better still
    assert [value[1] for value in values[2:4]] == [1, 2]
    assert best.agreements[task_key(node)].value == pytest.approx(max(value[2] for value in values), abs=1e-4)
    assert "below the floor of 1" in shortfall(best, node, 1.0)
    kept = [one for one in builder.store.all() if one.made.precision == "int8"]
    assert [one.model.digest for one in kept] == [best.model.digest]  # what was tried beside it is gone


@pytest.mark.parametrize("format", FORMATS)
def test_the_layer_that_costs_most_accuracy_is_found(
    builder: VariantBuilder, tmp_path: Path, folder: Path, format: RuntimeFormat
) -> None:
    """One channel a thousand times as large as the others: in eight bits the others are lost."""
    random = np.random.default_rng(3)
    weights = [random.normal(0, 0.3, shape).astype(np.float32) for shape in ((8, 3, 3, 3), (8, 8, 3, 3), (4, 8, 3, 3))]
    weights[0][0] *= 1000
    weights[1][:, 0] /= 1000
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], pads=[1] * 4),
        helper.make_node("Conv", ["a", "w1"], ["b"], pads=[1] * 4),
        helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1] * 4),
        helper.make_node("GlobalAveragePool", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["y"]),
    ]
    constants = {f"w{index}": value for index, value in enumerate(weights)}
    file = write(tmp_path / "spoilt.onnx", graph(nodes, constants=constants, sides=(SIZE, SIZE)))
    base = builder.import_file(file, "net").variants[format]
    tensors = str(as_tensors(folder, format, tmp_path / "tensors.npy"))
    scopes: tuple[Scope, ...] = ("all", "layers")
    for scope in scopes:
        source, out = str(builder.store.path(base)), str(builder.job.folder / f"{format}-{scope}")
        arguments = {"source": source, "out": out, "tensors": tensors, "scope": scope}
        done = builder.run(f"{QUANTISERS[format]}:quantize", arguments)
        arguments = {"source": done.get("prepared", source), "quantised": done["named"], "tensors": tensors}
        ranked = builder.run(f"{QUANTISERS[format]}:rank", arguments)
        worst, *others = ranked["layers"]
        assert ranked["errors"][worst] < 0.2 * min(ranked["errors"][name] for name in others)
        assert worst == [name for name in done["layers"] if "Conv" in name][1]


def test_outputs_that_the_task_does_not_use_are_dropped(builder: VariantBuilder, tmp_path: Path, folder: Path) -> None:
    """Where the task names an output; another task does not report what it uses."""
    file = convolutions(tmp_path)
    model = onnx.load_model(file)
    model.graph.node.append(helper.make_node("GlobalMaxPool", ["r2"], ["more"]))
    model.graph.output.append(helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, ["n", 8, 1, 1]))
    file.write_bytes(model.SerializeToString())
    base = builder.import_file(file, "net").variants["onnx"]
    points, all_of_it = (
        NODE.model_copy(update={"task": NODE.task.model_validate({**task, "output": "y"})})
        for task in ({"type": "landmarks", "points": 2}, {"type": "embedding"})
    )
    [dropped] = DropOutputs().apply(builder, Start(base), of(folder, points), floor=SAME)
    assert (dropped.label, dropped.made.settings["dropped-outputs"]) == ("onnx dropped-outputs", "more")
    assert dropped.agreements[task_key(points)].value == 1.0
    assert DropOutputs().apply(builder, Start(base), of(folder, all_of_it), floor=SAME) == []


def changed(size: int, task: str, floor: float) -> NodeSpec:
    """NODE with another size of image, task and floor."""
    change = {"task": NODE.task.model_validate({"type": task}), "min_agreement": floor}
    return NODE.model_copy(update={"input": NODE.input.model_copy(update={"size": (size, size)}), **change})


@pytest.mark.nco
def test_pruned_as_far_as_the_floor_allows(builder: VariantBuilder, tmp_path: Path, folder: Path) -> None:
    reported: list[str] = []
    builder.progress = reported.append  # type: ignore[assignment]
    node = changed(8, "embedding", 0.9)
    samples = of(folder, node)
    imported = builder.import_file(convolutions(tmp_path, size=8, width=32), "net", (1, 3, 8, 8)).variants
    base, key = imported["onnx"], task_key(node)
    coarse = [quantized(builder, imported[format], samples, 0.9, ("all",)) for format in ("onnx", "openvino")]
    made = FilterPruning().apply(builder, Start(base), samples, floor=0.9, int8=coarse)
    assert [one.label for one in made] == ["onnx pruned", "onnx pruned int8", "openvino pruned int8"]
    assert all(one.agreements[key].value >= 0.9 for one in made)
    tried = [re.search(r"pruned, (\d+)% of the multiplications left, agreement ([\d.]+)", line) for line in reported]
    plain = [(int(found[1]), float(found[2])) for found in tried if found]
    assert min(value for _, value in plain) < 0.9  # it was too narrow once
    least = min(share for share, value in plain if value >= 0.9)
    assert float(made[0].made.settings["pruned"]) >= least / 100 - 0.005
    assert len(plain) == len({share for share, _ in plain})  # what is the same is not compared again
    for whole, narrow in zip(coarse, made[1:], strict=True):
        assert narrow.made.settings["scope"] == whole.made.settings["scope"]
    left = {one.model.digest for one in builder.store.all()}
    assert left == {one.model.digest for one in (*imported.values(), *coarse, *made)}  # what was tried beside is gone
    ir = builder.as_ir(made[0])
    assert (ir.label, ir.made.settings) == ("openvino pruned", made[0].made.settings)
    [again] = builder.measure(base, [ir], samples)
    assert again.agreements[key].value == pytest.approx(made[0].agreements[key].value, abs=1e-3)


def edges(path: Path, size: int) -> Path:
    """A network that outputs how bright an image is, and how rough: smaller images are less so."""
    kernels = np.zeros((4, 3, 3, 3), np.float32)
    kernels[0, :, 1, 1], kernels[3, 0, 1, 1] = 0.3, 1
    kernels[1, :, 1, 1], kernels[1, :, 1, 2] = 1, -1
    kernels[2, :, 1, 1], kernels[2, :, 2, 1] = 1, -1
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["a"], pads=[1] * 4),
        helper.make_node("Abs", ["a"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["y"]),
    ]
    return write(path, graph(nodes, constants={"k": kernels}, sides=(size, size)))


def test_a_smaller_image_as_far_as_the_floor_allows(builder: VariantBuilder, tmp_path: Path, folder: Path) -> None:
    samples = of(folder, changed(64, "embedding", 0.98))
    base = builder.import_file(edges(tmp_path / "edges.onnx", 64), "net").variants["onnx"]
    [made] = DownscaleInput().apply(builder, Start(base), samples, floor=0.98)
    assert (made.label, made.made.settings["size"]) == ("onnx downscaled", "32×32")
    assert made.agreements[samples.key].value >= 0.98
    assert {one.model.digest for one in builder.store.all() if one.made.format == "onnx"} == {
        base.model.digest,
        made.model.digest,
    }
    [short] = DownscaleInput().apply(builder, Start(base), samples, floor=1.0, budget_s=0.1)
    assert "below the floor of 1" in shortfall(short, samples.node, 1.0)


def test_whose_image_may_not_be_smaller(builder: VariantBuilder, tmp_path: Path, folder: Path) -> None:
    base = builder.import_file(convolutions(tmp_path), "net").variants["onnx"]
    places = NODE.model_copy(update={"task": NODE.task.model_validate({"type": "yolo"})})
    with pytest.raises(UnsupportedModelError, match="places in the image"):
        DownscaleInput().apply(builder, Start(base), of(folder, places), floor=0.98)


class WithoutItsTool(FilterPruning):
    """Filter pruning where a package that it needs is not installed."""

    def tool(self, start: Start) -> str:
        return "no_such_package"


def test_a_pass_without_its_tool_is_refused(builder: VariantBuilder, tmp_path: Path, folder: Path) -> None:
    base = builder.import_file(convolutions(tmp_path), "net").variants["onnx"]
    with pytest.raises(UnsupportedModelError, match=r"no_such_package is not installed \(pip install 'hams\[nco\]'\)"):
        WithoutItsTool().apply(builder, Start(base), of(folder), floor=0.98)


def test_labels(builder: VariantBuilder, tmp_path: Path, folder: Path) -> None:
    """A student is trained with the others."""
    base = builder.import_file(convolutions(tmp_path), "net").variants["onnx"]
    said = Evaluator("onnxruntime:CPU").decode("net", NODE, [Candidate(builder.store.path(base))], folder)[0].items
    names = sorted(path.name for path in folder.glob("*.png"))
    wrong = {"label": next(label for label in "abcd" if label != said[-1]["label"])}
    labels = {name: {"label": item["label"]} for name, item in zip(names, said, strict=True)} | {names[-1]: wrong}
    import json

    (folder / "labels.json").write_text(json.dumps(labels))
    record = builder.measure_labels([base], of(folder))[0]
    found = record.agreements[f"{task_key(NODE)}:labels"]
    assert (found.against, found.samples) == ("labels", 8)
    assert found.value == pytest.approx(7 / 8)
    (folder / "labels.json").write_text('{"000.png": {"label": "a"}}')
    assert builder.measure_labels([base], of(folder)) == [base]
    (folder / "labels.json").write_text('{"nowhere.png": {"label": "a"}}')
    with pytest.raises(BadInputError, match=r"names nowhere\.png, which is not there"):
        builder.measure_labels([base], of(folder))


def test_a_variant_that_fails_says_why(builder: VariantBuilder, tmp_path: Path, folder: Path) -> None:
    """A static batch of another shape than the node's: its runtime refuses it, the others are measured."""
    base = builder.import_file(convolutions(tmp_path), "net").variants["onnx"]
    other = builder.import_file(convolutions(tmp_path / "more", size=2 * SIZE), "net").variants["onnx"]
    bad, good = builder.measure(base, [other, base], of(folder))
    assert shortfall(bad, NODE, 0.5).startswith("onnx fp32 failed: model net takes ?×3×32×32")
    assert agreement(good) == 1.0


def test_a_changed_file_is_not_believed(builder: VariantBuilder, tmp_path: Path) -> None:
    record = builder.import_file(convolutions(tmp_path), "net").variants["onnx"]
    path = builder.store.path(record)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DigestError):
        builder.store.path(record)


def test_too_few_samples(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(BadInputError, match="too few"):
        of(tmp_path)


def test_what_children_are_shown(tmp_path: Path) -> None:
    """Frames go through the parent's network and task; what the child gets is written with where it was."""
    from onnx import TensorProto, helper, numpy_helper

    from support.networks import write

    row = np.float32([[[[0, 1, 0.9, 0.25, 0.25, 0.75, 0.75]]]])
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Mul", ["m", "zero"], ["n"]),
        helper.make_node("Add", ["n", "row"], ["y"]),
    ]
    weights = [numpy_helper.from_array(row, "row"), numpy_helper.from_array(np.float32([0]), "zero")]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 1, 7])]
    detector = write(tmp_path / "d.onnx", helper.make_graph(nodes, "d", inputs, outputs, weights))
    spec = parse_group(
        {
            "name": "g",
            "nodes": {
                "find": {
                    "model": "d.onnx",
                    "input": {"size": [32, 32]},
                    "task": {"type": "detection_output", "labels": {1: "thing"}},
                },
                "say": {**NODE.model_dump(mode="json"), "parent": "find"},
            },
        }
    )
    frames = tmp_path / "frames"
    frames.mkdir()
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[16:48, 16:48] = (10, 200, 30)
    cv2.imwrite(str(frames / "a.png"), frame)
    at = {"find": Candidate(detector), "say": Candidate(convolutions(tmp_path))}
    counts = Evaluator("onnxruntime:CPU").collect(spec, at, frames, tmp_path / "out")
    assert counts == {"find": 1, "say": 1}
    crop = cv2.imread(str(tmp_path / "out" / "say" / "000000.png"))
    assert crop.shape == (SIZE, SIZE, 3)
    assert (crop == (10, 200, 30)).all()
    said = Evaluator("onnxruntime:CPU").decode("find", spec.nodes["find"], [at["find"]], tmp_path / "out" / "find")[0]
    assert said.items[0][0]["box"] == [16.0, 16.0, 48.0, 48.0]
    assert onnx.load_model(detector).graph.name == "d"

    wide = {"size": [2 * SIZE, SIZE], "fit": "letterbox", "pad": 7}
    nodes_with = {
        **spec.model_dump(mode="json")["nodes"],
        "say": {**NODE.model_dump(mode="json"), "parent": "find", "input": wide},
    }
    padded = parse_group({"name": "g", "nodes": nodes_with})
    Evaluator("onnxruntime:CPU").collect(padded, at, frames, tmp_path / "padded")
    crop = cv2.imread(str(tmp_path / "padded" / "say" / "000000.png"))
    assert crop.shape == (SIZE, SIZE, 3)  # what is beside it in the image is not kept
    where = tmp_path / "tensors.npy"
    samples = tmp_path / "padded" / "say"
    filled = Evaluator("onnxruntime:CPU").tensors(padded.nodes["say"], samples, ["000000.png"], where)
    assert filled == (SIZE, SIZE)
    tensor = np.load(where)
    assert tensor.shape == (1, 3, SIZE, 2 * SIZE)
    assert (tensor[0, :, :, SIZE:] == 7).all()
    assert (tensor[0, :, :, :SIZE] == np.float32([10, 200, 30])[:, None, None]).all()
