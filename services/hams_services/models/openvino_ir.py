"""OpenVINO IR is written so that the same network gives the same bytes; with the precision to compute in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openvino as ov

PRECISION_INFO = ["hams", "precision"]
"""Where an IR holds the precision to compute in; agents read it there (`hams_agents.backends.openvino`)."""


def rename(graph: Any, name: str) -> None:
    """Name all operations anew, in order: OpenVINO numbers what has no name through the life of the process."""
    graph.set_friendly_name(name)
    for index, op in enumerate(graph.get_ordered_ops()):
        op.set_friendly_name(f"{op.get_type_name()}_{index}")
        for number, body in enumerate(bodies(op)):
            rename(body, f"{name}_{index}_{number}")


def bodies(op: Any) -> list[Any]:
    """Return the graphs inside an operation: of a loop one, of a choice two."""
    match op.get_type_name():
        case "Loop" | "TensorIterator":
            return [op.get_function()]
        case "If":
            return [op.get_then_body(), op.get_else_body()]
        case _:
            return []


def forget_inner_names(graph: Any) -> None:
    """Leave the network's inputs and outputs their names, and no other tensor: frontends number some of those."""
    outer = [port.get_node().get_friendly_name() for port in graph.inputs]
    outer += [port.get_node().input(0).get_source_output().get_node().get_friendly_name() for port in graph.outputs]
    for op in graph.get_ordered_ops():
        if op.get_type_name() != "Result" and op.get_friendly_name() not in outer:
            for port in op.outputs():
                port.get_tensor().set_names(set())
        for body in bodies(op):
            forget_inner_names(body)


def name_outputs(graph: Any) -> None:
    """Give each output without a name its number for one."""
    for index, port in enumerate(graph.outputs):
        if not port.get_names():
            port.tensor.set_names({f"{index}"})


def compute_in(graph: Any, precision: str) -> None:
    """Note the precision that the network is to compute in; empty: as the device likes."""
    if precision:
        graph.set_rt_info(precision, PRECISION_INFO)


def save(graph: Any, path: Path, *, half: bool = False) -> list[Path]:
    """Write `graph`, weights in fp16 if `half`; return its two files."""
    for key in ("conversion_parameters", "Runtime_version", "version"):
        if graph.has_rt_info(key):
            graph.set_rt_info("", key)
    ov.save_model(graph, path, compress_to_fp16=half)
    return [path, path.with_suffix(".bin")]
