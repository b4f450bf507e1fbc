"""The tables of docs/benchmarks/sizing.md, from what was measured.

What a part does anyway (heartbeats, the lease) is taken off what it does for frames, by the time that passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

KINDS = {"shared": "frames in shared memory", "inline": "frames inside messages"}


def markdown(found: dict[str, Any]) -> str:
    """Memory, CPU and network."""
    return "\n".join([*_memory(found), "", *_cpu(found), "", *_network(found), ""])


def _runs(found: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """What each run is called, what the system did at rest, and the run."""
    for kind, text in KINDS.items():
        for run in found.get(kind, {}).get("runs", []):
            yield f"{_count(run['streams'])}, {text}", found[kind]["rest"], run


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def _count(streams: int) -> str:
    return f"{streams} stream{'s' * (streams != 1)}"


def _memory(found: dict[str, Any]) -> list[str]:
    """MiB resident; frames in shared memory apart, as every process that maps them shows them."""
    shared = found["shared"]
    head = ["memory, MiB (and frames in shared memory)", "at rest", *(_count(run["streams"]) for run in shared["runs"])]
    rows = []
    for part, rest in shared["rest"]["parts"].items():
        row = [part, f"{rest['memory_mib']:.0f}"]
        for run in shared["runs"]:
            one = run["parts"].get(part)
            frames = f" (+{one['frames_mib']:.0f})" if one and one["frames_mib"] >= 1 else ""
            row.append(f"{one['memory_mib']:.0f}{frames}" if one else "")
        rows.append(row)
    return _table(head, rows)


def _cpu(found: dict[str, Any]) -> list[str]:
    head = ["CPU", "at rest, ms a second", *(f"ms a frame: {name}" for name, _, _ in _runs(found))]
    rows = []
    for part, at_rest in found["shared"]["rest"]["parts"].items():
        cells = []
        for _, rest, run in _runs(found):
            one, idle = run["parts"].get(part), rest["parts"].get(part, at_rest)["cpu_ms_per_s"]
            more = one["cpu_ms_per_frame"] - idle * run["seconds"] / run["frames"] if one else None
            cells.append("" if more is None else f"{max(0.0, more):.1f}")
        rows.append([part, f"{at_rest['cpu_ms_per_s']:.1f}", *cells])
    return _table(head, rows)


def _network(found: dict[str, Any]) -> list[str]:
    width, height, depth = found["frame"]
    rows = []
    for name, rest, run in _runs(found):
        span = run["seconds"] / run["frames"]
        ways = [
            run[f"broker_{way}_bytes_per_frame"] - rest[f"broker_{way}_bytes_per_s"] * span for way in ("in", "out")
        ]
        rows.append([name, *(f"{value / 1000:.1f}" for value in (*ways, run["result_bytes_per_frame"]))])
    rest = found["shared"]["rest"]
    return [
        *_table(["through the broker, kB a frame", "in", "out", "of it a result"], rows),
        "",
        f"- a frame: {width}×{height}, {width * height * depth / 1000:.0f} kB; nobody read the results meanwhile: each "
        "reader adds one to what goes out",
        f"- at rest {rest['broker_in_bytes_per_s'] / 1000:.1f} kB a second go in and "
        f"{rest['broker_out_bytes_per_s'] / 1000:.1f} out (heartbeats, the lease)",
        *(f"- {name}: {_placement(run)}" for name, _, run in _runs(found)),
    ]


def _placement(run: dict[str, Any]) -> str:
    by_device: dict[str, list[str]] = {}
    for node, devices in run["placement"].items():
        by_device.setdefault(" and ".join(d.split(".")[1] for d in devices), []).append(node)
    places = "; ".join(f"{', '.join(nodes)} on {device}" for device, nodes in by_device.items())
    return f"{places}; {run['frames']} frames in {run['seconds']:.0f} s, {run['resent']} sent again"
