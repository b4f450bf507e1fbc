"""The report's picture: what serves is filled and pointed at, nothing is cut off, failed strategies are left out."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from hams_services.optimizer.report_plot import MARKERS, _kind, plot
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.group import ModelPart, ModelRef
from hams_shared.wire.messages.plan import VariantChoice
from hams_shared.wire.messages.scheduler import MatrixView, StrategyAnswer, VariantRow

DEVICES = ("box.openvino.cpu0", "box.onnxruntime.cpu1")


def row(node: str, label: str, digest: str, agreement: float | None, *fps: float | None) -> VariantRow:
    return VariantRow(
        node=f"face/{node}", model=node, digest=digest * 64, label=label, agreement=agreement, floor=0.98, fps=fps
    )


def answer(strategy: str, before: float, fps: float) -> StrategyAnswer:
    digest = "b" * 64
    part = ModelPart(suffix=".xml", digest=digest, size=1)
    chosen = VariantChoice(
        model=ModelRef(name="face", digest=digest, parts=(part,)), label="bf16", agreement=0.995, fps=80, source_fps=24
    )
    return StrategyAnswer(
        strategy=strategy,
        shares={"face": {DEVICES[0]: 1.0}, "age": {DEVICES[1]: 1.0}},
        variants={"face": {DEVICES[0]: chosen}},
        source_fps=before,
        fps=fps,
    )


def matrix(*rows: VariantRow) -> MatrixView:
    return MatrixView(models=("face", "age"), devices=DEVICES, fps=((24, 32), (1500, 1400)), variants=rows)


@pytest.mark.nco
def test_it_is_drawn(tmp_path: Path) -> None:
    rows = (
        row("face", "source", "a", None, 24.0, 32.0),
        row("face", "openvino bf16", "b", 0.995, 80.0, None),
        row("face", "onnx int8 u8", "c", 0.982, 97.0, 62.0),
        row("age", "source", "d", None, 1500.0, 1400.0),
        row("age", "openvino student", "e", 0.985, 9000.0, None),
        row("age", "onnx pruned", "f", 0.983, 3000.0, 2800.0),
        row("age", "onnx pruned int8", "1", 0.981, 4000.0, 2900.0),
    )
    failed = StrategyAnswer(strategy="optimal", error=WireError(code="infeasible", text="no"))
    path = tmp_path / "report.png"
    plot(matrix(*rows), (answer("hfs", 31.8, 83.2), failed, answer("replicated", 52.1, 133.6)), "face", path)
    image = cv2.imread(str(path))
    assert image is not None
    height, width = image.shape[:2]
    assert width > 1.5 * height  # three panels
    edge = [image[:3], image[-3:], image[:, :3], image[:, -3:]]
    assert all((side == 255).all() for side in edge)  # nothing runs out of the picture


@pytest.mark.nco
@pytest.mark.parametrize("answers", [(), (StrategyAnswer(strategy="hfs", error=WireError(code="x", text="no")),)])
def test_without_any_answer_it_is_drawn_too(tmp_path: Path, answers: tuple[StrategyAnswer, ...]) -> None:
    path = tmp_path / "report.png"
    plot(matrix(), answers, "face", path)
    assert cv2.imread(str(path)) is not None


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("source", "source"),
        ("onnx int8 u8", "int8"),
        ("openvino int8+bf16", "int8+bf16"),
        ("onnx pruned", "pruned"),
        ("onnx pruned int8", "pruned int8"),
        ("openvino pruned bf16", "pruned"),
        ("openvino student int8", "student"),
        ("openvino dropped-outputs int8", "dropped-outputs int8"),
        ("onnx cropped", "cropped"),
    ],
)
def test_each_kind_has_its_mark(label: str, kind: str) -> None:
    assert _kind(label) == kind


@pytest.mark.nco
def test_each_mark_can_be_filled() -> None:
    """Of one that is only lines nothing would be seen where it does not serve."""
    from matplotlib.lines import Line2D

    assert all(isinstance(one, tuple) or one in Line2D.filled_markers for one in MARKERS.values())
    assert len(set(MARKERS.values())) == len(MARKERS)
