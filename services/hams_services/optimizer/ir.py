"""OpenVINO IR written so that the same network gives the same bytes, and what the optimizer notes in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openvino as ov

PRECISION_INFO = ["hams", "precision"]
"""Where an IR says what it is to be computed in; agents read it there (`hams_agents.backends.openvino`)."""


def rename(graph: Any, name: str) -> None:
    """Name all operations anew, in order: OpenVINO numbers what has no name through the life of the process."""
    graph.set_friendly_name(name)
    for index, op in enumerate(graph.get_ordered_ops()):
        op.set_friendly_name(f"{op.get_type_name()}_{index}")


def name_outputs(graph: Any) -> None:
    """Give each output without a name its number for one."""
    for index, port in enumerate(graph.outputs):
        if not port.get_names():
            port.tensor.set_names({f"{index}"})


def compute_in(graph: Any, precision: str) -> None:
    """Note what the network is to be computed in; empty: as the device likes."""
    if precision:
        graph.set_rt_info(precision, PRECISION_INFO)


def save(graph: Any, path: Path, *, half: bool = False) -> list[Path]:
    """Write `graph`, weights in fp16 if `half`; return its two files."""
    for key in ("conversion_parameters", "Runtime_version", "version"):
        if graph.has_rt_info(key):
            graph.set_rt_info("", key)
    ov.save_model(graph, path, compress_to_fp16=half)
    return [path, path.with_suffix(".bin")]
