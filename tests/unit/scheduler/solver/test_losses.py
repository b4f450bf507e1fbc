"""What is left without each device, and placements that survive its loss, as tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hams_scheduler.offline import answers
from hams_scheduler.solver.instance import Instance, InvalidInstanceError, NoPlacementError
from hams_scheduler.solver.losses import each_removed
from hams_scheduler.solver.strategies.registry import solve
from hams_scheduler.solver.survive import survive
from hams_scheduler.solver.whatif import apply
from hams_shared.errors import BadInputError, InfeasibleError

ONE = Instance(("det", "age"), ("cpu", "gpu"), np.array([[10.0, 40.0], [20.0, 40.0]]))
"""Alone on the GPU 20 FPS, det there and age on the CPU: 20 FPS; on the CPU alone 6.67 FPS."""


def losses(instance: Instance) -> dict[str, dict[str, float]]:
    """FPS by device that is lost, then group."""
    found = each_removed(
        instance, solve(instance, "optimal", time_limit_s=20.0), lambda left: solve(left, "optimal", time_limit_s=20.0)
    )
    return {loss.device: {name: round(fps, 2) for name, fps in loss.group_fps.items()} for loss in found}


def test_each_device_is_removed_and_all_is_placed_anew() -> None:
    assert losses(ONE) == {"cpu": {"default": 20.0}, "gpu": {"default": 6.67}}


def test_the_loss_of_the_only_device_leaves_nothing() -> None:
    [loss] = each_removed(
        only := Instance(("a",), ("x",), np.array([[9.0]])), solve(only, "mfs"), lambda i: solve(i, "mfs")
    )
    assert (loss.group_fps, loss.kept, loss.reasons) == (
        {"default": 0.0},
        {"default": 0.0},
        {"default": "no device is left"},
    )


def test_what_is_pinned_to_the_lost_device_runs_nowhere_else() -> None:
    """As when it is really lost; a pin to several devices leaves the others."""
    pinned = ONE.replace(pins={"det": frozenset({"gpu"}), "age": frozenset({"cpu", "gpu"})})
    assert losses(pinned) == {"cpu": {"default": 20.0}, "gpu": {"default": 0.0}}
    assert apply(pinned, "remove:gpu").allowed().tolist() == [[False], [True]]
    with pytest.raises(NoPlacementError, match="pinned to gpu, none of which is here"):
        solve(apply(pinned, "remove:gpu"), "mfs")


def test_a_group_that_runs_nowhere_else_gets_nothing_and_the_others_all() -> None:
    """Group b runs on y alone: without y it is left out; group a is measured against its target."""
    names = ("a/1", "b/1")
    instance = Instance(
        names, ("x", "y"), np.array([[20.0, 30.0], [0, 10.0]]), groups={n: n[0] for n in names}, targets={"a": 40.0}
    )
    found = each_removed(
        instance,
        whole := solve(instance, "optimal", time_limit_s=20.0),
        lambda left: solve(left, "optimal", time_limit_s=20.0),
    )
    assert whole.group_fps["b"] > 0
    lost = found[1]
    assert lost.group_fps == {"a": pytest.approx(20.0), "b": 0.0}
    assert lost.kept == {"a": pytest.approx(0.5), "b": 0.0}
    assert list(lost.reasons) == ["b"]
    assert "supported by none" in lost.reasons["b"]


def three(**changes: Any) -> Instance:
    """Two nodes on three devices; the third is slow."""
    return Instance(("det", "age"), ("x", "y", "z"), np.array([[40.0, 40, 10], [40.0, 40, 30]]), **changes)


@pytest.mark.parametrize(
    ("keep", "reserve", "memory", "fps"),
    [
        (0.5, False, (), 40.0),
        (0.5, True, (), 40.0),
        (0.5, False, (60.0, 60, 60), 40.0),  # each device holds two
        (0.5, True, (60.0, 60, 60), 40.0),
        (0.5, True, (60.0, 60, 30), 40.0),  # z takes one fallback
        (0.7, False, (), 30.0),  # age is on z; without x, or y, det is on the other
        (0.8, False, (), 0.0),  # z makes 30 of 40 FPS of age at best
    ],
)
def test_what_survives(keep: float, reserve: bool, memory: tuple[float, ...], fps: float) -> None:
    instance = three(**({"memory_mib": [30.0, 30], "capacity_mib": list(memory)} if memory else {}))
    if not fps:
        with pytest.raises(NoPlacementError, match=r"no placement keeps 80%.*The best keeps 75\.0%"):
            survive(instance, keep=keep, reserve=reserve, time_limit_s=20.0)
        return
    found = survive(instance, keep=keep, reserve=reserve, time_limit_s=20.0)
    assert found.placement.fps == pytest.approx(fps)
    assert found.kept >= keep * (1 - 1e-6)
    assert {loss.device for loss in found.losses} == {"x", "y", "z"}
    for loss in found.losses:
        assert loss.device not in loss.moved.values()
        assert set(loss.moved) == {n for n, places in found.placement.shares.items() if loss.device in places}


def test_memory_reserved_for_all_fallbacks_is_more_than_for_one_loss() -> None:
    """Room for five nodes of 30 MiB: for three and what any loss moves, but not for three fallbacks at once."""
    instance = Instance(
        tuple("abc"), ("x", "y", "z"), np.full((3, 3), 40.0), memory_mib=[30.0] * 3, capacity_mib=[60.0, 60, 30]
    )
    assert survive(instance, keep=0.5, reserve=False, time_limit_s=20.0).placement.fps == pytest.approx(40.0)
    with pytest.raises(NoPlacementError, match=r"memory reserved.*makes 0 of 40 FPS \(no room for"):
        survive(instance, keep=0.5, reserve=True, time_limit_s=20.0)


def test_the_error_names_which_loss_breaks_which_group_and_the_best() -> None:
    names = ("face/det", "plate/det")
    instance = Instance(
        names, ("x", "y"), np.array([[30.0, 10.0], [30.0, 0]]), groups={n: n.split("/")[0] for n in names},
        targets={"face": 20.0, "plate": 10.0},
    )  # fmt: skip
    with pytest.raises(NoPlacementError) as error:
        survive(instance, keep=0.5, reserve=False, time_limit_s=20.0)
    assert error.value.text.startswith("no placement keeps 50% of each group's FPS after the loss of any one device.")
    assert (
        "The best keeps 0.0%: without x plate makes 0 of 10 FPS (plate/det runs on no other device)" in error.value.text
    )


@pytest.mark.parametrize("keep", [0.0, 1.5])
def test_the_part_to_keep(keep: float) -> None:
    with pytest.raises(InvalidInstanceError, match="above 0 and at most 1"):
        survive(ONE, keep=keep, reserve=False, time_limit_s=20.0)


DATA = {"models": ["det", "age"], "devices": ["cpu", "gpu"], "fps": [[10, 40], [20, 40]]}


def test_offline_answers() -> None:
    [found] = answers(DATA, ("optimal",), 20.0, changes=("scale:gpu=2", "remove:each"))
    assert [round(loss["group_fps"]["default"], 2) for loss in found["losses"]] == [40.0, 6.67]
    [found] = answers(DATA, ("all",), 20.0, keep=0.3)
    assert found["survival"]["kept"] == pytest.approx(1 / 3, abs=1e-3)
    assert found["losses"][0]["moved"] in ({"age": "gpu"}, {})
    with pytest.raises(InfeasibleError, match="The best keeps 33"):
        answers(DATA, ("all",), 20.0, keep=0.9)
    with pytest.raises(BadInputError, match="objective paper"):
        answers(DATA, ("all",), 20.0, keep=0.5, objective="paper")
