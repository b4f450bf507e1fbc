"""The report's picture: group FPS before and after by strategy, and agreement against images/s, a panel per device."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hams_shared.wire.messages.scheduler import MatrixView, StrategyAnswer, VariantRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS: dict[str, Any] = {
    "source": "o", "fp32": "P", "fp16": "s", "bf16": "^", "int8": "v", "int8+bf16": "D", "student": "*",
    "pruned": "X", "pruned int8": "d", "downscaled": "p", "downscaled int8": "h",
    "cropped": (4, 1, 0), "cropped int8": (4, 1, 45), "dropped-outputs": "<", "dropped-outputs int8": ">",
}  # fmt: skip
"""By the words of a variant's label between format and input; all are outlines that can be filled."""
WIDTH, HEIGHT = 5.2, 4.6
"""Of a panel, inches."""


def available() -> bool:
    """Whether matplotlib (extra ``nco``) is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def plot(matrix: MatrixView, answers: tuple[StrategyAnswer, ...], group: str, path: Path) -> None:
    """Draw it. Filled: it serves, by the first of `answers`; an arrow leads there from the source."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in matrix.variants if row.node.startswith(f"{group}/")]
    nodes = list(dict.fromkeys(row.node for row in rows))
    colors = {node: f"C{i % 10}" for i, node in enumerate(nodes)}
    panels = 1 + len(matrix.devices)
    figure, axes = pyplot.subplots(1, panels, figsize=(WIDTH * panels, HEIGHT + 0.9), squeeze=False)
    _groups(axes[0][0], answers)
    for column, (device, axis) in enumerate(zip(matrix.devices, axes[0][1:], strict=True)):
        _device(axis, device, column, rows, colors, answers[0] if answers else None)
    lines = [pyplot.Line2D([], [], marker="o", linestyle="", color=colors[n], label=n.split("/", 1)[1]) for n in nodes]
    kinds = {_kind(row.label): None for row in rows}
    lines += [
        pyplot.Line2D([], [], marker=MARKERS[k], linestyle="", color="0.4", markerfacecolor="none", label=k)
        for k in MARKERS
        if k in kinds
    ]
    figure.legend(handles=lines, loc="lower center", ncol=min(9, max(1, len(lines))), frameon=False, fontsize=9)
    figure.suptitle(f"Group {group} with variants (filled: it serves; dashed: the floor)")
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _kind(label: str) -> str:
    """``onnx int8 u8`` is ``int8``; where a mixture has no mark of its own, its first word's."""
    words = [word for word in label.split() if word in MARKERS]
    return next((kind for kind in (" ".join(words), *words) if kind in MARKERS), "source")


def _groups(axis: Axes, answers: tuple[StrategyAnswer, ...]) -> None:
    good = [answer for answer in answers if answer.error is None]
    names = [answer.strategy for answer in good]
    before = [answer.source_fps if answer.source_fps is not None else answer.fps for answer in good]
    for shift, values, name, color in (
        (-0.2, before, "without variants", "0.75"),
        (0.2, [answer.fps for answer in good], "with", "C2"),
    ):
        bars = axis.bar([i + shift for i in range(len(good))], values, 0.38, label=name, color=color)
        axis.bar_label(bars, fmt="%.1f", fontsize=8)
    axis.set_xticks(range(len(names)), names)
    axis.margins(y=0.18)
    axis.set_ylabel("predicted group FPS")
    axis.set_title("Group FPS")
    axis.legend(frameon=False, fontsize=8, loc="upper left")


def _device(
    axis: Axes, device: str, column: int, rows: list[VariantRow], colors: dict[str, str], answer: StrategyAnswer | None
) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    sources: dict[str, float] = {}
    serving = _serving(device, answer)
    for row in rows:
        fps = row.fps[column] if column < len(row.fps) else None
        if not fps:
            continue
        name = row.node.split("/", 1)[1]
        if row.label == "source":
            sources[name] = fps
        agreement = 1.0 if row.agreement is None else row.agreement
        chosen = serving.get(name) == (row.digest if row.label != "source" else "")
        color = colors[row.node]
        style: dict[str, Any] = {"marker": MARKERS[_kind(row.label)], "edgecolors": color, "zorder": 3}
        axis.scatter(fps, agreement, s=70, facecolors=color if chosen else "none", **style)
        if chosen and row.label != "source" and name in sources:
            arrow = {"arrowstyle": "->", "color": color, "alpha": 0.6, "shrinkA": 6, "shrinkB": 6}
            axis.annotate("", (fps, agreement), xytext=(sources[name], 1.0), arrowprops=arrow)
    for floor in sorted({row.floor for row in rows}):
        axis.axhline(floor, color="gray", linewidth=0.8, linestyle="--")
    axis.set_xscale("log")
    speeds = [fps for row in rows if column < len(row.fps) and (fps := row.fps[column])]
    linear = bool(speeds) and max(speeds) < 20 * min(speeds)
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if linear else (1.0, 3.0)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.margins(x=0.12)
    low = min([row.floor for row in rows], default=0.98)
    axis.set_ylim(low - 0.25 * (1.0 - low) - 1e-3, 1.0 + 0.12 * (1.0 - low) + 1e-3)
    axis.set_title(device)
    axis.set_xlabel("images/s")
    axis.set_ylabel("agreement with the source")
    axis.grid(alpha=0.3)


def _serving(device: str, answer: StrategyAnswer | None) -> dict[str, str]:
    """Node → digest of the variant it has on `device` by `answer`, empty for the source; those placed there only."""
    if answer is None or answer.error is not None:
        return {}
    placed = [node for node, shares in answer.shares.items() if device in shares]
    chosen = {node: answer.variants.get(node, {}).get(device) for node in placed}
    return {node: choice.model.digest if choice else "" for node, choice in chosen.items()}
