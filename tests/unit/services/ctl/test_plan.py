"""What `hams-ctl plan` prints of groups and losses, and which options go together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType
from typer.testing import CliRunner

from hams_services.ctl.actions.plan_outcomes import gives_way, groups_table, loss_remarks, losses_table
from hams_services.ctl.app import app
from hams_services.ctl.tables import max_streams, plan_score, plans_table
from hams_services.models.groups import load_all_groups
from hams_shared.errors import GroupSpecError
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.scheduler import GroupOutcome, StrategyAnswer

EXAMPLE = Path(__file__).parents[4] / "examples" / "instances" / "two-groups.json"


def plan(*options: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["plan", *options], env={"COLUMNS": "200"})
    assert done.exit_code == code, done.output
    return done.output


def group(name: str, fps: float, target: float | None, bound: float | None, priority: int = 0) -> dict[str, Any]:
    short = max(0.0, (target or 0.0) - fps)
    return {
        "group": name, "priority": priority, "fps": fps, "target_fps": target, "short_fps": short,
        "bound_fps": bound, "proven": bound == fps,
    }  # fmt: skip


def loss(device: str, fps: dict[str, float], kept: dict[str, float], **more: Any) -> dict[str, Any]:
    return {"device": device, "group_fps": fps, "kept": kept, "moved": {}, "reasons": {}, "bottleneck": "", **more}


GPU, CPU = "longhost.openvino.gpu0", "longhost.openvino.cpu0"
ANSWER: dict[str, Any] = {
    "strategy": "optimal",
    "bottleneck": GPU,
    "groups": [group("person", 12.0, 30.0, 12.0), group("face", 30.0, 30.0, 33.0, 1), group("free", 5.0, None, None)],
    "losses": [
        loss(GPU, {"person": 0.0, "face": 15.0, "free": 5.0}, {"person": 0.0, "face": 0.5, "free": 1.0},
             reasons={"person": "no device can run person/find"}),
        loss(CPU, {"person": 12.0, "face": 27.0, "free": 5.0}, {"person": 0.4, "face": 0.9, "free": 1.0},
             moved={"face/detector": GPU}, bottleneck=GPU),
    ],
}  # fmt: skip
SURVIVAL = {
    "keep": 0.3, "reserve_memory": True, "kept": 0.4, "bound_kept": 0.5,
    "ordinary_fps": {"person": 14.0, "face": 30.0, "free": 5.0},
}  # fmt: skip


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        ([group("a", 30.0, 30.0, 40.0)], []),
        ([group("a", 30.0, None, 40.0)], []),
        (
            [group("b", 12.0, 30.0, 13.0), group("a", 30.0, 30.0, 30.0, 1)],
            ["not all targets can be met; gives way: b (priority 0) by 18.00 FPS: 12.00 of 30, 60% short; met: a"],
        ),
        (
            [group("a", 20.0, 30.0, 35.0, 1), group("b", 3.0, 30.0, None)],
            [
                "targets are missed; gives way: b (priority 0) by 27.00 FPS: 3.00 of 30, 90% short; "
                "a (priority 1) by 10.00 FPS: 20.00 of 30, 33% short"
            ],
        ),
    ],
)
def test_who_gives_way_is_named(groups: list[dict[str, Any]], told: list[str]) -> None:
    assert list(gives_way({"groups": groups})) == told


def lines(table: RenderableType, width: int) -> list[str]:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.mark.parametrize("width", [40, 80, 120, 200])
@pytest.mark.parametrize("survival", [None, SURVIVAL], ids=["each", "survive"])
def test_no_word_is_cut_on_any_console(width: int, survival: dict[str, Any] | None) -> None:
    answer = {**ANSWER, "survival": survival}
    for table, words in (
        (groups_table([answer]), {"person", "face", "free", "12.00", "18.00", "(60%)", "proven", "33.00"}),
        (losses_table(answer), {"openvino.gpu0", "openvino.cpu0", "27.00", "(90%)", "none", "(50%)"}),
    ):
        shown = lines(table, width)
        assert "…" not in "".join(shown)
        assert max(map(len, shown)) <= width
        assert words <= {part for line in shown for word in line.split() for part in (word, word.rstrip(",:"))}
    assert ("face/detector" in "".join(lines(losses_table(answer), width))) == (survival is not None)


def test_remarks_on_losses() -> None:
    nothing = "without longhost.openvino.gpu0 person cannot run: no device can run person/find"
    assert list(loss_remarks(ANSWER)) == [nothing]
    assert list(loss_remarks({**ANSWER, "survival": SURVIVAL})) == [
        nothing,
        "keeps 40% after the worst loss, 30% was asked, with memory reserved for all fallbacks; "
        "no placement keeps more than 50%",
        "it costs, without a loss: person 12.00 instead of 14.00 FPS",
    ]


def test_plans_are_compared_by_priority_and_by_all_groups() -> None:
    fair = plan_score([group("a", 20.0, 30.0, None, 1), group("b", 20.0, 30.0, None)])
    first = plan_score([group("a", 30.0, 30.0, None, 1), group("b", 10.0, 30.0, None)])
    better = plan_score([group("a", 30.0, 30.0, None, 1), group("b", 11.0, 30.0, None)])
    assert fair < first < better
    assert plan_score([group("a", 20.0, 10.0, None)]) > plan_score([group("a", 19.0, 10.0, None)])


def test_a_matrix_from_a_file(tmp_path: Path) -> None:
    """Overload, the loss of each device, and a placement that survives, as the example of docs/scheduling.md."""
    data = json.loads(EXAMPLE.read_text())
    for one in data["groups"].values():
        one["target_fps"] *= 1.8
    (over := tmp_path / "over.json").write_text(json.dumps(data))
    shown = plan("--instance", str(over), "-s", "mfs,optimal", "--time-limit", "20")
    assert "optimal: not all targets can be met; gives way: plate (priority 0) by 44.73 FPS" in shown
    [row] = [line.split() for line in shown.splitlines() if line.startswith("optimal  ") and "*" in line]
    assert row[1:4] == ["27.273", "*", "27.273"]  # the worst-off group has less than by mfs, which leaves face short
    [found] = json.loads(plan("--instance", str(EXAMPLE), "--what-if", "remove:each", "--json"))
    assert [(one["device"], round(one["group_fps"]["plate"], 1)) for one in found["losses"]] == [
        ("cpu", 40.0), ("gpu", 5.5), ("npu", 31.7),
    ]  # fmt: skip
    shown = plan("--instance", str(EXAMPLE), "--survive", "1", "--keep", "0.3")
    assert "keeps 31% after the worst loss, 30% was asked" in shown
    refused = plan("--instance", str(EXAMPLE), "--survive", "1", code=8)
    assert "The best keeps 31.0%" in refused
    assert "without gpu plate makes 12.41 of 40 FPS" in refused


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["a.yaml", "--instance", "x.json"],
        ["a.yaml", "b.yaml", "--what-if", "remove:cpu"],
        ["a.yaml", "--keep", "0.5"],
        ["a.yaml", "--reserve-memory"],
        ["a.yaml", "--survive", "2"],
        ["a.yaml", "--survive", "1", "--keep", "1.5"],
        ["a.yaml", "--survive", "1", "--strategy", "mfs"],
        ["a.yaml", "--survive", "1", "--what-if", "remove:each"],
    ],
    ids=" ".join,
)
def test_options_that_do_not_go_together(options: list[str]) -> None:
    plan(*options, code=2)


def test_two_files_with_one_group(tmp_path: Path) -> None:
    text = "name: same\nnodes: {a: {model: zoo:centerface}}\n"
    for name in ("one.yaml", "two.yaml"):
        (tmp_path / name).write_text(text)
    with pytest.raises(GroupSpecError, match=r"one\.yaml, .*two\.yaml: two groups are called same"):
        load_all_groups([tmp_path / "one.yaml", tmp_path / "two.yaml"])


def test_the_plan_of_running_devices_says_how_many_streams_each_group_carries() -> None:
    outcomes = tuple(GroupOutcome(group=name, fps=fps) for name, fps in (("face", 75.0), ("plate", 24.9)))
    several = StrategyAnswer(strategy="optimal", fps=24.9, groups=outcomes, group_fps={"face": 75.0, "plate": 24.9})
    one = StrategyAnswer(strategy="optimal", fps=75.0, groups=outcomes[:1])
    assert max_streams(several, 25.0) == {"face": 3, "plate": 0}
    assert "face 3, plate 0" in " ".join(lines(plans_table((several,), 25.0), 160))
    assert "75.00 * 3" in " ".join(" ".join(lines(plans_table((one,), 25.0), 160)).split())
    failed = StrategyAnswer(strategy="mfs", error=WireError(code="infeasible", text="no device"))
    assert "no device" in " ".join(lines(plans_table((failed, one), 25.0), 160))
