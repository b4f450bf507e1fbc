"""The table and the picture of docs/benchmarks.md."""

from __future__ import annotations

from pathlib import Path

from benchmarks.prediction.rules import BAR_WORST, Row, summary, verdict

COLOURS = {"default": "#1668b4", "pinned": "#e08a2c", "cpu+emulated": "#3a9a5b", "cuda": "#8a4fb0"}


def markdown(rows: list[Row]) -> str:
    """Return the table: a line per case and group, and the verdict on raw and drift-corrected figures."""
    found = summary(rows)
    lines = [
        "| case | group | predicted | measured | error | drift-corrected | error | expected after | rounds | void |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        cells = [row["case"], row["group"], f"{row['predicted']:.2f}"]
        for key in ("measured", "corrected"):
            value, error = row[key], row[f"{key}_error"]
            cells += ["–", "–"] if value is None else [f"{value:.2f}", f"{error:+.1%}"]
        cells += ["–" if row["expected"] is None else f"{row['expected']:.2f}", f"{row['rounds']}", f"{row['void']}"]
        lines.append(f"| {' | '.join(cells)} |")
    said = {"As measured": "measured_error", "Drift-corrected": "corrected_error"}
    return "\n".join([*lines, "", *(f"- {name}: {verdict(found, key)}." for name, key in said.items()), ""])


def plot(rows: list[Row], path: Path) -> None:
    """Draw predicted against measured FPS (drift-corrected), both logarithmic, with a band of ±10 %."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    found = [row for row in summary(rows) if row["corrected"] is not None]
    values = [row[key] for row in found for key in ("predicted", "corrected")] or [1.0]
    ends = (min(values) / 1.3, max(values) * 1.3)
    figure, axis = plt.subplots(figsize=(7, 6.5))
    axis.fill_between(ends, [v * (1 - BAR_WORST) for v in ends], [v * (1 + BAR_WORST) for v in ends], color="#e4e8ec")
    axis.plot(ends, ends, color="#9aa4ae", linewidth=1)
    for name, colour in COLOURS.items():
        mine = [row for row in found if row["devices"] == name]
        if mine:
            xs, ys = [row["corrected"] for row in mine], [row["predicted"] for row in mine]
            axis.scatter(xs, ys, s=28, color=colour, label=name, zorder=3)
    axis.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="measured, frames/s (drift-corrected)")
    axis.set_ylabel("predicted before deployment, frames/s")
    if found:
        axis.legend(frameon=False, title="devices; grey: ±10 %")
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write(rows: list[Row], out: Path) -> None:
    """Write table and picture into `out`."""
    (out / "prediction.md").write_text(markdown(rows))
    plot(rows, out / "prediction.png")
