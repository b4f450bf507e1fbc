"""A candidate costs the group that serves its share of the frames at most, and nothing where targets are missed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_scheduler.solver.instance import FloatArray, Instance
from hams_scheduler.solver.strategies.registry import solve
from hams_shared.group.candidates import tried_spec
from support.build import group_spec
from support.examples import examples

NODES = ("det", "age", "mood")
ROUNDING = 1 + 1e-6


def together(fps: FloatArray, tried_fps: FloatArray, share: float, target: float | None) -> tuple[Instance, Instance]:
    """What serves alone, and with a shadow; M×D frames/s each."""
    serving = group_spec(nodes=NODES[: len(fps)], target_fps=target)
    tried = tried_spec(serving, serving, "shadow", share)
    devices = tuple(f"d{n}" for n in range(fps.shape[1]))
    rows = [(group, f"{group.name}/{node}") for group in (serving, tried) for node in group.nodes]
    whole = Instance(
        models=tuple(name for _, name in rows),
        devices=devices,
        fps=np.concatenate([fps, tried_fps]),
        groups={name: group.name for group, name in rows},
        targets={g.name: g.target_fps for g in (serving, tried) if g.target_fps is not None},
        priorities={g.name: g.priority for g in (serving, tried)},
    )
    alone = Instance(
        models=whole.models[: len(fps)],
        devices=devices,
        fps=fps,
        groups={name: "face" for group, name in rows if group is serving},
        targets={} if target is None else {"face": target},
    )
    return alone, whole


@pytest.mark.parametrize("strategy", ["optimal", "replicated", "hfs", "mfs"])
@examples(12)
@given(seed=st.integers(0, 10**6), nodes=st.integers(1, 3), devices=st.integers(1, 3), share=st.floats(0.01, 0.5))
def test_without_a_target_what_serves_loses_what_the_share_costs_at_most(
    strategy: str, seed: int, nodes: int, devices: int, share: float
) -> None:
    rng = np.random.default_rng([seed, nodes, devices])
    fps, tried = rng.uniform(10, 90, (2, nodes, devices))
    alone, whole = together(fps, tried, share, None)
    before = solve(alone, strategy, time_limit_s=60.0).group_fps["face"]
    after = solve(whole, strategy, time_limit_s=60.0).group_fps
    cost = share * (1 / tried.max(axis=1)).sum()  # s per frame of what serves, where all of it meets the bottleneck
    assert after["face"] * ROUNDING >= 1 / (1 / before + cost)
    assert after["face--candidate"] * ROUNDING >= min(share * after["face"], 1e9)


@pytest.mark.parametrize("strategy", ["optimal", "replicated", "hfs", "mfs"])
@examples(12)
@given(seed=st.integers(0, 10**6), nodes=st.integers(1, 3), devices=st.integers(1, 3), share=st.floats(0.01, 0.5))
def test_where_the_target_cannot_be_met_an_exact_plan_loses_nothing(
    strategy: str, seed: int, nodes: int, devices: int, share: float
) -> None:
    rng = np.random.default_rng([seed, nodes, devices])
    fps, tried = rng.uniform(10, 90, (2, nodes, devices))
    alone, whole = together(fps, tried, share, 500.0)
    before = solve(alone, strategy, time_limit_s=60.0).group_fps["face"]
    after = solve(whole, strategy, time_limit_s=60.0).group_fps["face"]
    exact = strategy in ("optimal", "replicated")
    cost = 0.0 if exact else share * (1 / tried.max(axis=1)).sum()  # heuristics place both groups together
    assert after * ROUNDING >= 1 / (1 / before + cost)
