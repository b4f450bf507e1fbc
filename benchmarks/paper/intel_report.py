"""What `intel` finds, as a table, a picture, and questions for ``hams-ctl plan --instance``."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.paper import intel
from benchmarks.serving.cases import ROOT

INSTANCES = ROOT / "examples" / "instances"


def scores() -> dict[str, dict[str, intel.Score]]:
    """Return by form, then by service and ``both``, how well rows are predicted that were left out of the fit."""
    known = intel.rows()
    found = {name: intel.held_out(known, name) for name in intel.FORMS}
    found["our objective"] = intel.held_out(known, intel.BEST, intel.instance_ms)
    return {
        name: {
            "both": intel.Score.of(pairs),
            **{s: intel.Score.of([one for one in pairs if one[0].service == s]) for s in intel.services()},
        }
        for name, pairs in found.items()
    }


def markdown() -> str:
    """Return the scores of every form, every row, the fitted times, and what the strategies choose."""
    known, box = intel.rows(), intel.fit(intel.rows())
    lines = ["| form | rows | rank correlation | median error | worst | face: rank, median | vehicle: rank, median |"]
    lines.append("|" + "---|" * 7)
    for name, by_service in scores().items():
        both = by_service["both"]
        each = [f"{by_service[s].rank:.3f}, {by_service[s].median:.1%}" for s in intel.services()]
        figures = f"{both.rows} | {both.rank:.3f} | {both.median:.1%} | {both.worst:.1%}"
        lines.append(f"| {name} | {figures} | {' | '.join(each)} |")
    lines += ["", f"Fitted on all rows: L {box.loop:.1f} ms, P {box.further:.1f} ms.", "", "| ms | CPU | GPU | MYR |"]
    lines.append("|" + "---|" * 4)
    for network in (n for names in intel.services().values() for n in names):
        lines.append(f"| {network} | {' | '.join(f'{box.times[network, d]:.1f}' for d in intel.DEVICES)} |")
    lines += ["", "| row, left out of the fit | measured FPS | predicted | error | our objective |", "|" + "---|" * 5]
    ours = {(r.service, r.places): ms for r, ms in intel.held_out(known, intel.BEST, intel.instance_ms)}
    for row, ms in intel.held_out(known, intel.BEST):
        name = f"{row.service} {'/'.join(row.places)}"
        mine = 1e3 / ours[row.service, row.places]
        lines.append(f"| {name} | {row.fps:.2f} | {1e3 / ms:.2f} | {row.ms / ms - 1:+.1%} | {mine:.2f} |")
    lines.append("")
    for service in intel.services():
        for strategy, places in intel.chosen(box, service).items():
            lost = intel.loss(known, service, places)
            said = "not measured by Intel" if lost is None else f"{lost:.1%} below the best row"
            lines.append(f"- {service}, `{strategy}`: {'/'.join(places)}, {said}.")
    return "\n".join(lines) + "\n"


def plot(path: Path) -> None:
    """Draw predicted against measured FPS of rows that were left out, for two forms."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 4.4))
    for axis, name in zip(axes, ("overlapped", intel.BEST), strict=True):
        ends = (4.0, 110.0)
        axis.fill_between(ends, [v * 0.9 for v in ends], [v * 1.1 for v in ends], color="#e4e8ec")
        axis.plot(ends, ends, color="#9aa4ae", linewidth=1)
        for service, colour in (("face", "#1668b4"), ("vehicle", "#e08a2c")):
            found = [one for one in intel.held_out(intel.rows(), name) if one[0].service == service]
            axis.scatter([r.fps for r, _ in found], [1e3 / ms for _, ms in found], s=26, color=colour, label=service)
        axis.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="measured by Intel, frames/s", title=name)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("predicted without this row, frames/s")
    axes[1].legend(frameon=False, title="grey: ±10 %")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def instance_text(service: str) -> str:
    """Return the file of the fitted question."""
    return json.dumps(intel.instance(intel.fit(intel.rows()), service), indent=1) + "\n"


def write(out: Path) -> None:
    """Write table and picture into `out`, and the questions into ``examples/instances``."""
    (out / "paper-intel.md").write_text(markdown())
    plot(out / "paper-intel.png")
    for service in intel.services():
        (INSTANCES / f"intel-{service}.json").write_text(instance_text(service))
