"""The report of a job: what each node gained, why the others did not, and the group before and after. Pure text."""

from __future__ import annotations

from collections.abc import Mapping

from hams_services.optimizer.recipe import NodeOutcome
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.scheduler import MatrixView, StrategyAnswer
from hams_shared.wire.variants import VariantRecord, shortfall


def markdown(
    record: GroupRecord,
    outcomes: Mapping[str, NodeOutcome],
    answers: tuple[StrategyAnswer, ...],
    matrix: MatrixView | None,
) -> str:
    """Write the report."""
    spec = record.spec
    lines = [f"# Group {spec.name}, optimized", ""]
    lines += _groups(answers)
    if matrix is not None:
        lines += _chosen(answers[0] if answers else None, record)
        lines += _rows(matrix, spec.name)
    lines += ["## Nodes", ""]
    for node, outcome in outcomes.items():
        lines.append(f"### {node}")
        lines.append(f"{outcome.samples} samples; floor {spec.nodes[node].min_agreement:g}.")
        for variant in outcome.variants:
            short = shortfall(variant, spec.nodes[node], spec.nodes[node].min_agreement)
            lines.append(f"- {variant.label}{how(variant)}: {f'not used, {short}' if short else 'may serve'}")
        lines += [f"- {note}" for note in outcome.notes]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def how(variant: VariantRecord) -> str:
    """Return the settings of a variant that its label does not show; empty, or after a comma."""
    settings = variant.made.settings
    parts = [
        f"{float(settings['pruned']):.0%} of the multiplications" if "pruned" in settings else "",
        f"an image of {settings['size']}" if "downscaled" in settings else "",
        f"{len(variant.made.kept)} layers kept" if variant.made.kept else "",
        f"the part of the image of {settings['cropped']}" if "cropped" in settings else "",
        f"without {settings['dropped-outputs']}" if "dropped-outputs" in settings else "",
    ]
    return "".join(f", {part}" for part in parts if part)


def gain(answer: StrategyAnswer) -> float:
    """Return the group FPS with variants over that without."""
    return answer.fps / answer.source_fps if answer.source_fps else 1.0


def _groups(answers: tuple[StrategyAnswer, ...]) -> list[str]:
    lines = ["## Group FPS, predicted", "", "| strategy | without variants | with | ÷ |", "|---|---|---|---|"]
    for answer in answers:
        if answer.error is not None:
            lines.append(f"| {answer.strategy} | | | {answer.error.text} |")
            continue
        before = answer.source_fps if answer.source_fps is not None else answer.fps
        lines.append(f"| {answer.strategy} | {before:.2f} | {answer.fps:.2f} | {gain(answer):.2f} |")
    return [*lines, ""]


def _chosen(answer: StrategyAnswer | None, record: GroupRecord) -> list[str]:
    if answer is None or answer.error is not None:
        return []
    lines = [
        f"## Chosen by {answer.strategy}",
        "",
        "| node | device | variant | agreement | images/s | instead of |",
        "|---|---|---|---|---|---|",
    ]
    for node in record.spec.depth_first():
        for device in answer.shares.get(node, {}):
            choice = answer.variants.get(node, {}).get(device)
            if choice is None:
                lines.append(f"| {node} | {device} | the source | | | |")
                continue
            before = f"{choice.source_fps:.1f}" if choice.source_fps else "nothing: the source does not run there"
            lines.append(
                f"| {node} | {device} | {choice.label} | {choice.agreement:.4f} | {choice.fps:.1f} | {before} |"
            )
    return [*lines, ""]


def _rows(matrix: MatrixView, group: str) -> list[str]:
    head = " | ".join(matrix.devices)
    lines = ["## FPS matrix with variants", "", f"| node | variant | agreement | {head} | |"]
    lines.append("|---|---|---|" + "---|" * (len(matrix.devices) + 1))
    for row in matrix.variants:
        if not row.node.startswith(f"{group}/"):
            continue
        numbers = " | ".join("–" if fps is None else f"{fps:.1f}" for fps in row.fps)
        agreement = "" if row.agreement is None else f"{row.agreement:.4f}"
        lines.append(f"| {row.node.split('/', 1)[1]} | {row.label} | {agreement} | {numbers} | {row.excluded} |")
    return [*lines, ""]
