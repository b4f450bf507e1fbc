"""The report's picture: agreement against images/s, a panel per device."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from hams_shared.messages import MatrixView


def available() -> bool:
    """Whether matplotlib (extra ``nco``) is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def plot(matrix: MatrixView, group: str, path: Path) -> None:
    """Draw each node's variants on each device; filled: it serves there."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in matrix.variants if row.node.startswith(f"{group}/")]
    nodes = list(dict.fromkeys(row.node for row in rows))
    colors = {node: f"C{i % 10}" for i, node in enumerate(nodes)}
    figure, axes = pyplot.subplots(1, len(matrix.devices), figsize=(6 * len(matrix.devices), 5), squeeze=False)
    for column, (device, axis) in enumerate(zip(matrix.devices, axes[0], strict=True)):
        for row in rows:
            fps = row.fps[column] if column < len(row.fps) else None
            if not fps:
                continue
            agreement = 1.0 if row.agreement is None else row.agreement
            serves = device in row.serves
            color = colors[row.node]
            axis.scatter(fps, agreement, s=60, facecolors=color if serves else "none", edgecolors=color)
            axis.annotate(row.label, (fps, agreement), xytext=(5, 4), textcoords="offset points", fontsize=7)
        for floor in sorted({row.floor for row in rows}):
            axis.axhline(floor, color="gray", linewidth=0.8, linestyle="--")
        axis.set_xscale("log")
        axis.set_title(device)
        axis.set_xlabel("images/s")
        axis.set_ylabel("agreement with the source")
        axis.grid(alpha=0.3)
    handles = [pyplot.Line2D([], [], marker="o", linestyle="", color=colors[node], label=node) for node in nodes]
    figure.legend(handles=handles, loc="lower center", ncol=min(6, max(1, len(nodes))), frameon=False)
    figure.suptitle(f"{group}: variants (filled: it serves; dashed: the floor)")
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
