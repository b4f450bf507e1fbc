"""Loading a node: its network, then its task, which may ask the network file for what it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from hams_agents.backends.base import Backend
from hams_agents.backends.registry import open_backend
from hams_agents.core import LoadNode, NetworkKey
from hams_agents.devices import parse
from hams_agents.runtime.loaded import Loaded
from hams_agents.tasks.text import Text
from hams_shared.errors import TaskError
from hams_shared.group.spec import parse_group
from support.build import plan
from support.networks import means, mixing, model_file


@pytest.fixture(params=["openvino:CPU", "onnxruntime:CPU"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return open_backend(parse(request.param))


def load(backend: Backend, path: Path, *nodes: dict[str, Any]) -> Loaded:
    """Load the first of a chain of nodes."""
    names = [f"n{i}" for i in range(len(nodes))]
    parents = [None, *names]
    spec = parse_group(
        {
            "name": "g",
            "nodes": {
                name: {"model": "/m.onnx", "input": {"size": [8, 8]}, "parent": parent, **node}
                for name, parent, node in zip(names, parents, nodes, strict=False)
            },
        }
    )
    file = model_file(path)
    of = plan(1, dict.fromkeys(names, "h.b.u"), spec)
    loaded = Loaded(backend)
    command = LoadNode(of, "n0", of.group.models["n0"], NetworkKey(file.digest, file.input_shape, file.dtype))
    loaded.load(command, "h.b.u", file)
    return loaded


def test_the_task_knows_what_the_file_says(backend: Backend, tmp_path: Path) -> None:
    path = means(tmp_path)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"character": "A\n京", "author": "me"})
    onnx.save(model, path)
    served = load(backend, path, {"task": {"type": "text"}}).nodes[("g", 1, "n0")]
    assert served.network.metadata == {"character": "A\n京", "author": "me"}
    assert isinstance(served.task, Text)


def test_a_file_that_says_nothing(backend: Backend, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="does not list its characters"):
        load(backend, means(tmp_path), {"task": {"type": "text"}})


def test_children_need_a_parent_that_finds_objects(backend: Backend, tmp_path: Path) -> None:
    raw, many = {"task": {"type": "raw"}}, {"points": 96}
    load(backend, means(tmp_path), raw)
    load(backend, mixing(tmp_path), {"task": {"type": "landmarks", **many, "parts": {"eye": [0, 1]}}}, raw)
    with pytest.raises(TaskError, match=r"node n0 has children \(n1\), but its task raw finds no objects"):
        load(backend, means(tmp_path), raw, raw)
    with pytest.raises(TaskError, match=r"a landmarks task gives `parts`"):
        load(backend, mixing(tmp_path), {"task": {"type": "landmarks", **many}}, raw)


@pytest.mark.parametrize(
    ("task", "wrong"),
    [
        ({"type": "classification", "labels": ["a", "b"]}, "the output is 1×3×1×1, expected 1×2"),
        ({"type": "expectation", "classes": 3, "output": "z"}, "the network has no output 'z'"),
        ({"type": "yolo", "labels": ["a"]}, r"the output is 1×3×1×1, expected 1×5×P \(v8\), .* for 1 label"),
    ],
)
def test_a_task_that_does_not_fit_the_network_is_refused(
    backend: Backend, tmp_path: Path, task: dict[str, Any], wrong: str
) -> None:
    with pytest.raises(TaskError, match=wrong):
        load(backend, means(tmp_path), {"task": task})
