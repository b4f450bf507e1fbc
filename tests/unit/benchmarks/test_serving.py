"""What the serving benchmark makes of its rounds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from hams_shared.group.spec import GroupSpec

sys.path.insert(0, str(Path(__file__).parents[3]))
from benchmarks.serving.hams import hops
from benchmarks.serving.report import bars, cpu_markdown, markdown, medians, node_costs

CPU = {"agents": 6.0, "agents: event loops": 0.3, "pipeline": 1.0, "pipeline: event loop": 0.2, "broker": 0.15}


def row(case: str, contestant: str, fps: float, p50: float = 4.0, **notes: Any) -> dict[str, Any]:
    figures = {"fps": fps, "p50_ms": p50, "p95_ms": 9.0, "memory_mib": 100.0}
    return {"case": case, "contestant": contestant, **figures, "notes": notes}


def test_bars_compare_medians_and_leave_out_what_was_not_run() -> None:
    rows = [row("light, 2 nodes", "hams-default", fps, overhead_p50_ms=3.0, cpu_ms=CPU) for fps in (10, 90, 100)]
    rows += [row("light, 2 nodes", "openvino-async", 100), row("light, 2 nodes", "triton", 100)]
    rows += [row("one frame at a time", "hams-default", 1, p50=5.0, overhead_p50_ms=0.9, hops=3, cpu_ms=CPU)]
    found = bars(medians(rows)).splitlines()[2:-1]
    assert found == [
        "| light, 2 nodes: default ÷ one process ≥ 0.80 | 0.90 | met |",
        "| light, 2 nodes: hams-default ÷ triton ≥ 1.10 | 0.90 | not met |",
        "| one frame at a time, default: p50 ≤ 4.5 ms | 5.00 | not met |",
        "| one frame at a time, hams-default: p50 of latency per hop ≤ 0.4 ms | 0.30 | met |",
        "| added CPU time per frame, light, 2 nodes, default ≤ 0.6 ms | 0.65 | not met |",
    ]


def test_a_node_more_costs_the_difference_of_two_groups() -> None:
    rows = [row(f"light, {nodes} nodes", "hams", 1000 / ms) for nodes, ms in ((12, 14.0), (2, 4.0), (4, 5.0))]
    assert node_costs(medians(rows)) == [
        "light groups, hams: ms per frame for a node more: 0.50 from 2 to 4, 1.12 from 4 to 12"
    ]


def test_tables_show_ratios_errors_and_cpu_time_by_part() -> None:
    rows = [row("F", "hams", 20, cpu_ms=CPU, overhead_p50_ms=9.0), row("F", "bound", 25, p50=0.0)]
    rows += [{"case": "F", "contestant": "triton", "error": "not | installed"}]
    table = medians(rows)
    assert markdown(table).splitlines()[2:] == [
        "| F | hams | 20.0 | 0.0 | 0.80 | 1.00 |  | 4.0 | 9.0 | 100 |",
        "| F | bound | 25.0 | 0.0 | 1.00 | 0.80 |  | | | 100 |",
        "| F | triton | – not / installed | | | | | | | |",
    ]
    assert cpu_markdown(table).splitlines()[-1] == (
        "| F | hams | 6.00 | 0.30 | 1.00 | 0.20 | 0.15 | 0.00 | 0.00 | 0.65 |  |"
    )


@pytest.mark.parametrize(("child", "grandchild", "count"), [("a", "a", 2), ("b", "b", 3), ("b", "a", 4), ("a", "b", 3)])
def test_hops_are_the_messages_of_the_longest_path(child: str, grandchild: str, count: int) -> None:
    spec = GroupSpec.model_validate(
        {
            "name": "g",
            "nodes": {
                name: {
                    "model": "m.onnx",
                    "parent": parent,
                    "input": {"size": [8, 8], "color": "rgb"},
                    "task": {"type": "landmarks"},
                }
                for name, parent in (("root", None), ("child", "root"), ("grandchild", "child"))
            },
        }
    )
    shares = {"root": {"a": 1.0}, "child": {child: 0.9, "c": 0.1}, "grandchild": {grandchild: 1.0}}
    assert hops(spec, shares) == count
